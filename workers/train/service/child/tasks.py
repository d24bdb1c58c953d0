"""What a child does with torch: the three kinds of task, and getting ready for them."""

import gc
import math
import resource
import threading
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import msgspec
import torch
import torch.distributed as dist

from workers.nets.manifest import ArtifactRefused
from workers.nets.validation import InvalidConfig
from workers.train.base import TrainingDiverged
from workers.train.service.child.inputs import write_inputs
from workers.train.service.child.place import Place
from workers.train.service.child.talking import Tell
from workers.train.service.child.training import Means, run_training
from workers.train.service.frames import (
    Failed,
    Generate,
    Generated,
    Phase,
    Plan,
    Ready,
    ResourceLimits,
    Task,
    Train,
    Validate,
    Validated,
)

_OTHER_DATA = "Use fewer or smaller rows, or a trainer for this kind of data."
_SMALLER_TRAINING = "Use a smaller batch_size, or a smaller network."
_SMALLER_DATA = "Use fewer or smaller rows."


def warm_up() -> None:
    """Let torch do once what it does lazily, without touching a random generator that anybody draws from."""
    with torch.random.fork_rng(devices=[]):
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 2))
        optimizer = torch.optim.Adam(network.parameters())
        network(torch.zeros(2, 1, 8, 8)).sum().backward()
        optimizer.step()


class Worker:
    """Does one task and tells how it ended."""

    def __init__(self, plan: Plan, place: Place, tell: Tell, stop: threading.Event) -> None:
        self._plan = plan
        self._place = place
        self._tell = tell
        self._stop = stop
        self._run = import_module(plan.run)
        self._datasets = import_module(plan.datasets)
        # What is loaded stays: the garbage collector need not look at it again.
        gc.collect()
        gc.freeze()

    def ready(self) -> Ready:
        """Say what is here."""
        samples = sorted(self._datasets.installed_samples())
        gpus = torch.cuda.device_count() if self._has_gpu() else 0
        return Ready(device=self._device_label(self._place.total), samples=samples, num_gpus=gpus)

    def do(self, task: Task) -> None:
        """Do a task. An error that nobody foresaw ends the process, and another attempt is made."""
        try:
            match task:
                case Train():
                    self._train(task)
                case Validate():
                    self._validate(task)
                case Generate():
                    self._generate(task)
        except TrainingDiverged as error:
            self._tell(_diverged(error))
        except InvalidConfig as error:
            self._tell(Failed(code="INVALID_INPUT", message=str(error)))
        except ArtifactRefused as error:
            self._tell(Failed(code="INTERNAL", message=f"The model that was given can't be read: {error}"))
        except (MemoryError, torch.OutOfMemoryError):
            message = "There was not enough memory."
            advice = _SMALLER_TRAINING if isinstance(task, Train) else _SMALLER_DATA
            self._tell(Failed(code="QUOTA_EXCEEDED", message=message, advice=advice))
        except self._datasets.PreparedError as error:
            self._tell(Failed(code="INVALID_INPUT", message=str(error), advice=_OTHER_DATA))
        except self._run.CannotTrain as error:
            advice, row = error.advice, error.row
            self._tell(Failed(code=error.code, message=error.message, advice=advice, row=row))

    def _train(self, task: Train) -> None:
        count = self._run.num_processes(task.spec.parameters.batch_size, self._available())
        if self._place.rank >= count:
            # The others train without this one.
            return
        if count > 1:
            self._meet(count)
        means = Means(
            modules=(self._run, self._datasets),
            # Told "auto", the trainer chooses as the label does.
            device=None if self._plan.device == "auto" else self._plan.device,
            label=self._device_label(count),
            processes=count,
            is_first=self._place.is_first,
        )
        run_training(task, means, tell=self._tell, stop=self._stop)

    def _available(self) -> int:
        """Processes that there is a device for."""
        return min(self._place.total, torch.cuda.device_count()) if self._has_gpu() else self._place.total

    def _meet(self, count: int) -> None:
        place, backend = self._place, "gloo"
        if self._has_gpu():
            torch.cuda.set_device(place.rank)
            backend = "nccl"
        dist.init_process_group(backend, init_method=place.meeting, rank=place.rank, world_size=count)

    def _validate(self, task: Validate) -> None:
        _limit(task.limits)
        self._tell(Phase(name="validating"))
        findings = self._datasets.validate(_source(self._datasets, task), Path(task.out))
        write_inputs(Path(task.out), task.prefix)
        self._tell(msgspec.convert(findings, Validated, from_attributes=True))

    def _generate(self, task: Generate) -> None:
        _limit(task.limits)
        self._tell(Phase(name="generating"))
        media_type = self._run.generate(Path(task.model), task.spec, task.classes, Path(task.out))
        self._tell(Generated(media_type=media_type))

    def _has_gpu(self) -> bool:
        return self._plan.device != "cpu" and torch.cuda.is_available()

    def _device_label(self, count: int) -> str:
        name = torch.cuda.get_device_name(0) if self._has_gpu() else "cpu"
        return name if count == 1 else f"{count} x {name}"


def _source(datasets: ModuleType, task: Validate) -> object:
    if task.path is None:
        return datasets.SampleSource(name=task.name)
    return datasets.FileSource(path=Path(task.path), name=task.name, media_type=task.media_type)


def _diverged(error: TrainingDiverged) -> Failed:
    good = "there is no checkpoint before it"
    if error.checkpoint is not None:
        good = f"the last good checkpoint is {error.checkpoint.name}"
    return Failed(
        code="INVALID_INPUT",
        message=f"The training diverged: the loss or a weight is no number in step {error.step}; {good}.",
        advice="Lower the learning_rate, or set grad_clip.",
    )


def _limit(limits: ResourceLimits) -> None:
    """Bound what this process may use before it looks at bytes that a stranger made.

    Of memory, what it can write to: of its address space torch reserves many times what it uses.
    """
    # Without the second the process is killed, and nobody knows what for.
    cpu_s = math.ceil(time.process_time()) + limits.cpu_s
    writable_bytes = _writable_bytes() + limits.memory_bytes
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
        (resource.RLIMIT_DATA, writable_bytes, writable_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
    ):
        _, given = resource.getrlimit(kind)
        most = hard if given == resource.RLIM_INFINITY else min(hard, given)
        resource.setrlimit(kind, (min(soft, most), most))


def _writable_bytes() -> int:
    """What counts for RLIMIT_DATA (Linux: getrlimit(2)): private memory that can be written to."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words and words[0] == "VmData:"), 0)
