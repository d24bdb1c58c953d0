"""What can be done to trainings: one function a kind of fault, each of which puts everything right again."""

from collections.abc import Mapping
from contextlib import suppress

import psutil

from tests.faults.harness import kinds
from tests.faults.harness.kinds import Disturbance, Fault
from tests.faults.harness.members import Member

_CHILD = "workers.train.service.child"


async def _child_killed(fault: Disturbance) -> None:
    """The process that trains, under a worker that lives on."""
    trainer = await _find_busy(fault)
    children = [child for child in psutil.Process(trainer.pid).children(recursive=True) if _is_child(child)]
    # The one that computes: another may only have been warmed.
    victim = max(children, key=_cpu_s, default=None)
    fault.what = f"a child of {trainer.name}"
    if victim is not None:
        with suppress(psutil.NoSuchProcess):
            victim.kill()


async def _trainer_killed(fault: Disturbance) -> None:
    trainer = await _find_busy(fault)
    await kinds.away(fault, trainer, trainer.kill)


async def _trainer_drained(fault: Disturbance) -> None:
    trainer = await _find_busy(fault)
    fault.what = trainer.name
    await trainer.drain()
    await fault.stack.restart(trainer)


async def _trainer_frozen(fault: Disturbance) -> None:
    await kinds.frozen(fault, await _find_busy(fault), 2.0, 15.0)


async def _find_busy(fault: Disturbance) -> Member:
    return await fault.stack.busy_trainer() or fault.rng.choice(fault.stack.trainers)


def _is_child(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return _CHILD in " ".join(process.cmdline())
    return False


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


TRAINING_KINDS: Mapping[str, Fault] = {
    "training: child killed": _child_killed,
    "training: worker killed": _trainer_killed,
    "training: worker drained": _trainer_drained,
    "training: worker frozen": _trainer_frozen,
    "training: server killed": kinds.KINDS["server killed"].fault,
    "training: bus killed": kinds.KINDS["bus killed"].fault,
    "training: database killed": kinds.KINDS["database killed"].fault,
}
