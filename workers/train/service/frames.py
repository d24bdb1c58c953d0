"""What a train worker and its child processes say to each other through two pipes, as MessagePack.

A child is told one task, and perhaps to stop; it answers with what the trainer reports, the phases it goes
through, and at the end one of `Ending`. Without such an end it has died.
"""

from typing import IO, Literal

import msgspec

from bus.messages import GenerationSpec, TrainingSpec
from workers.framing import framed, read_frame
from workers.train.report import CheckpointSaved, Evaluated, Finished, Progress, Warned

#: The rows of a data set as what can be embedded, beside its prepared files.
INPUTS_FILE = "inputs.msgpack"
#: Phases of a task. In ``training`` every step is a sign of life; in the others it is that time is computed.
PhaseName = Literal["preparing", "training", "evaluating", "exporting", "validating", "generating"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a child is started."""

    #: The child ends with this process.
    parent_pid: int
    device: Literal["auto", "cpu", "cuda"] = "auto"
    #: Modules that do the work, with the functions of those that are named here.
    run: str = "workers.train.run"
    datasets: str = "workers.train.datasets"
    #: Processes that train together; with more than one a child can do nothing but train.
    processes: int = 1


# What a child is told.


class Train(msgspec.Struct, frozen=True, kw_only=True, tag="train"):
    """Train to the end and export. Paths are folders; all but ``work`` are only read."""

    spec: TrainingSpec
    dataset: str
    dataset_name: str
    work: str
    checkpoint: str | None
    parent: str | None
    checkpoint_every_s: float


class Validate(msgspec.Struct, frozen=True, kw_only=True, tag="validate"):
    """Look at every row and write the prepared files to ``out``; ``path`` None: an installed sample.

    They will lie under ``prefix`` in the object store.
    """

    name: str
    path: str | None
    media_type: str
    out: str
    prefix: str
    limits: "ResourceLimits"


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag="generate"):
    """Make pictures or texts with the model in a folder."""

    model: str
    spec: GenerationSpec
    classes: list[str]
    out: str
    limits: "ResourceLimits"


class ResourceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a child that reads strangers' bytes may use at most."""

    cpu_s: int = 2 * 3600
    #: Over what it has when it begins.
    memory_bytes: int = 4 * 1024**3
    file_bytes: int = 16 * 1024**3
    open_files: int = 512


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Write a checkpoint after this batch and end."""


Task = Train | Validate | Generate
Order = Task | Stop

# What a child tells beside the facts of `workers.train.report`.


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """All is loaded. ``device`` is ``cpu`` or a GPU's name; ``samples`` are the installed data sets."""

    device: str
    samples: list[str]
    #: GPUs that a training can have.
    num_gpus: int = 0


class Phase(msgspec.Struct, frozen=True, kw_only=True, tag="phase"):
    """What it does from now on."""

    name: PhaseName


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The trainer is built."""

    total_steps: int
    device: str


class SampleWritten(msgspec.Struct, frozen=True, kw_only=True, tag="sample_written"):
    """Something to look at lies in a file, which is the reader's from now on."""

    step: int
    name: str
    media_type: Literal["image/png", "text/plain"]
    path: str


class Exported(msgspec.Struct, frozen=True, kw_only=True, tag="exported"):
    """The model lies in ``folder``: ``encoder/`` and perhaps ``net/``. ``sha256`` is of the manifest."""

    folder: str
    sha256: str
    dimension: int
    modality: str | None
    metrics: dict[str, float]
    generates: Literal["images", "texts"] | None


class FoundIssue(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a row; None: with the whole."""

    row: int | None
    message: str


class Validated(msgspec.Struct, frozen=True, kw_only=True, tag="validated"):
    """What was found in a data set; its files lie in the folder of the task if ``is_usable``."""

    is_usable: bool
    kind: str | None
    modality: str | None
    sha256: str | None
    num_rows: int
    classes: list[str]
    class_counts: list[int]
    num_unlabelled: int
    splits: dict[str, int]
    issues: list[FoundIssue]
    num_issues: int
    shape: list[int] | None = None
    num_tokens: int | None = None


class Generated(msgspec.Struct, frozen=True, kw_only=True, tag="generated"):
    """The files lie in the folder of the task."""

    media_type: Literal["image/png", "text/plain"]


class Stopped(msgspec.Struct, frozen=True, kw_only=True, tag="stopped"):
    """It was told to stop, and did; a checkpoint of this step was told of before if there is one."""

    step: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """Another attempt would fail as well."""

    code: str
    message: str
    advice: str = ""
    row: int | None = None


Ending = Exported | Validated | Generated | Stopped | Failed
Told = (
    Ready
    | Phase
    | Started
    | Progress
    | Evaluated
    | CheckpointSaved
    | SampleWritten
    | Warned
    | Finished
    | Exported
    | Validated
    | Generated
    | Stopped
    | Failed
)

_ENCODER = msgspec.msgpack.Encoder()
_ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_TOLD: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)


def pack(frame: Order | Told) -> bytes:
    """Write a frame with its length in front."""
    return framed(_ENCODER.encode(frame))


def unpack_told(raw: bytes) -> Told:
    """Read what a child tells.

    Raises:
        msgspec.DecodeError: it is nothing that a child tells.
    """
    return _TOLD.decode(raw)


def read_order(stream: IO[bytes]) -> Order | None:
    """Read the next order of a blocking stream; None at its end."""
    raw = read_frame(stream)
    return None if raw is None else _ORDERS.decode(raw)
