"""One child is kept running until it is stopped."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.errors import CommandFailed, WrongUse
from deploy.local import logs
from deploy.local.child import Child, ChildOptions, start_child
from deploy.local.keeper import Backoff, Keeper, Part
from tests.support.processes import is_running, until

SOON = Backoff(first_s=0.01, most_s=0.05)
FOREVER = "import time; print('here', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"


class Program:
    """A Python program as a part; remembers the children it was started as."""

    def __init__(self, folder: Path, code: str, *, grace_s: float = 10.0) -> None:
        self.children: list[Child] = []
        self._code = code
        self.part = Part(name="program", start=self._start, log=folder / "program.log", grace_s=grace_s)

    async def _start(self) -> Child:
        assert self.part.log is not None
        with logs.opened(self.part.log) as output:
            child = await start_child(
                [sys.executable, "-c", self._code], env={}, cwd=Path("/"), options=ChildOptions(output=output)
            )
        self.children.append(child)
        return child

    def has_spoken(self) -> bool:
        assert self.part.log is not None
        return "here" in logs.read_last_line(self.part.log)


async def kept(keeper: Keeper, until_true: Callable[[], bool]) -> asyncio.Task[None]:
    task = asyncio.create_task(keeper.keep())
    await until(until_true)
    return task


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_a_killed_child_is_started_again_and_somebody_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    program = Program(tmp_path, FOREVER)
    keeper = Keeper(program.part, said.append, SOON)
    task = await kept(keeper, program.has_spoken)
    first = program.children[0]

    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: len(program.children) > 1)
    await ended(task)
    await keeper.stop()

    expected = (
        f"program was ended by SIGKILL, last words in {program.part.log}: here; starting it again in 0.01 s"
    )
    assert [expected] == said
    assert not any(is_running(child.pid) for child in program.children)


def test_the_wait_doubles_up_to_its_ceiling() -> None:
    backoff = Backoff(first_s=0.5, factor=2.0, most_s=30.0)

    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] == [
        backoff.waits(n) for n in [*range(1, 9), 10_000]
    ]


async def test_a_child_that_never_comes_up_ends_the_stack_with_its_last_words(tmp_path: Path) -> None:
    program = Program(tmp_path, "raise SystemExit('no model found')")
    keeper = Keeper(program.part, lambda _: None, SOON)

    with pytest.raises(CommandFailed, match=r"program does not start: ended with code 1.*no model found"):
        await asyncio.wait_for(keeper.keep(), 20)

    assert 5 == len(program.children)


async def test_a_child_that_has_been_up_is_started_again_for_ever(tmp_path: Path) -> None:
    program = Program(tmp_path, "raise SystemExit(1)")
    keeper = Keeper(program.part, lambda _: None, SOON)
    keeper.has_been_up = True

    task = await kept(keeper, lambda: len(program.children) > 6)

    await ended(task)
    await keeper.stop()


async def test_wrong_use_is_not_tried_again(tmp_path: Path) -> None:
    program = Program(tmp_path, "import sys; print('TOWHEE_API_X must be a number'); sys.exit(2)")
    keeper = Keeper(program.part, lambda _: None, SOON)

    with pytest.raises(WrongUse, match="TOWHEE_API_X must be a number"):
        await asyncio.wait_for(keeper.keep(), 20)

    assert 1 == len(program.children)


async def test_stopping_waits_for_work_in_hand(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = Program(
        tmp_path,
        "import pathlib, signal, threading\n"
        "asked = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: asked.set())\n"
        "print('here', flush=True)\n"
        "while not asked.wait(0.01): pass\n"
        f"pathlib.Path({str(done)!r}).write_text('finished')\n",
    )
    keeper = Keeper(program.part, lambda _: None, SOON)
    task = await kept(keeper, program.has_spoken)

    await ended(task)
    await keeper.stop()

    assert "finished" == done.read_text()


async def test_a_child_that_does_not_stop_is_killed_after_its_grace(tmp_path: Path) -> None:
    said: list[str] = []
    program = Program(tmp_path, STUBBORN, grace_s=0.05)
    keeper = Keeper(program.part, said.append, SOON)
    task = await kept(keeper, program.has_spoken)

    await ended(task)
    await keeper.stop()

    assert ["program had to be killed: it was not done after 0.05 s"] == said
    assert not is_running(program.children[0].pid)


async def test_hurry_ends_a_child_that_is_taking_its_time(tmp_path: Path) -> None:
    program = Program(tmp_path, STUBBORN, grace_s=600)
    keeper = Keeper(program.part, lambda _: None, SOON)
    task = await kept(keeper, program.has_spoken)
    await ended(task)
    stopping = asyncio.create_task(keeper.stop())

    keeper.hurry()

    await asyncio.wait_for(stopping, 10)
    assert not is_running(program.children[0].pid)
