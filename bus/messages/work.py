"""Long work that one worker does alone: training, data set validation, generation.

A message of a lane says only that there is something to do. Which job its holder gets is answered by the
server: the one whose user has had the least, and first of all one whose worker has fallen silent. Reports are
numbered from 1 in each attempt, and the projection counts them in this order and no other.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bus.envelope import Command, Event
from bus.messages.registry import Modality
from bus.messages.training import TrainingSpec

Lane = Literal["train", "data"]
DatasetKind = Literal["images", "texts", "tagged", "pairs", "numbers"]
#: A message on the bus holds at most 256 kB; this leaves room for a thousand issues.
IssueText = Annotated[str, Meta(max_length=160)]
#: Issues that a data set tells of by their rows; the rest is counted.
MAX_ISSUES = 1000


class TrainModel(Command, frozen=True, kw_only=True, tag="work.train_model.v1"):
    """Something waits in the train lane."""

    job_id: str
    #: Which publication this is: the message id on the bus is ``<job_id>:<publish_number>``.
    publish_number: int


class ValidateDataset(Command, frozen=True, kw_only=True, tag="work.validate_dataset.v1"):
    """A data set waits in the data lane."""

    job_id: str
    publish_number: int


class GenerateSamples(Command, frozen=True, kw_only=True, tag="work.generate_samples.v1"):
    """Pictures or texts out of a trained model wait to be made, in the data lane."""

    job_id: str
    publish_number: int


# What a worker gets to do.


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of several that lie under a common prefix in the object store."""

    name: str
    sha256: str
    byte_size: int


class StoredFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files that belong together: ``<prefix>/<name>`` is the object key of each."""

    prefix: str
    files: list[StoredFile]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in the object store, complete."""

    step: int
    stored: StoredFiles


class UploadedSource(msgspec.Struct, frozen=True, kw_only=True, tag_field="source", tag="uploaded"):
    """A data set comes out of an uploaded file."""

    object_key: str
    name: str
    media_type: str
    byte_size: int


class SampleSource(msgspec.Struct, frozen=True, kw_only=True, tag_field="source", tag="sample"):
    """A data set is one of those that the worker has installed."""

    name: str


class PreparedDataset(msgspec.Struct, frozen=True, kw_only=True):
    """A valid data set as training reads it."""

    dataset_id: str
    name: str
    #: Digest of the rows' content in their order; the same rows have the same one, however they came packed.
    sha256: str
    stored: StoredFiles


class TrainingWork(msgspec.Struct, frozen=True, kw_only=True, tag_field="work", tag="train"):
    """Train a model. ``checkpoint`` is where an earlier attempt was."""

    spec: TrainingSpec
    dataset: PreparedDataset
    #: The id that the model gets when it is exported; its files go under ``models/<model_id>``.
    model_id: str
    checkpoint: Checkpoint | None = None
    #: The files of the model whose weights it begins with.
    parent: StoredFiles | None = None


class ValidationWork(msgspec.Struct, frozen=True, kw_only=True, tag_field="work", tag="validate"):
    """Look at every row of a data set and prepare it for training, under ``datasets/<dataset_id>``."""

    dataset_id: str
    name: str
    source: UploadedSource | SampleSource


class GenerationSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to make: ``prompt``, ``temperature``, ``top_p`` and ``length`` are for texts."""

    count: Annotated[int, Meta(ge=1, le=1000)] = 16
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    #: The class that a conditional generator is asked for; None: all of them in turn.
    label: str | None = None
    prompt: Annotated[str, Meta(max_length=1000)] = ""
    temperature: Annotated[float, Meta(gt=0, le=10)] = 0.8
    top_p: Annotated[float, Meta(gt=0, le=1)] = 0.9
    #: Tokens of each text.
    length: Annotated[int, Meta(ge=1, le=10_000)] = 200


class GenerationWork(msgspec.Struct, frozen=True, kw_only=True, tag_field="work", tag="generate"):
    """Make pictures or texts with a trained model; ``classes`` are its data's, by number."""

    model: StoredFiles
    spec: GenerationSpec
    classes: list[str]


Work = TrainingWork | ValidationWork | GenerationWork


# Who works on what.


class ClaimWork(Command, frozen=True, kw_only=True, tag="work.claim.v1"):
    """A worker that holds a message of a lane asks for the job that is next there.

    ``job_id`` is the one the message names, which may be another than the one it gets. Asked again with the
    same ``id``, the answer is the same.
    """

    job_id: str
    lane: Lane
    pool: str
    worker_id: str


class WorkClaimed(Event, frozen=True, kw_only=True, tag="work.claimed.v1"):
    """The job is the worker's, under this attempt number, until it lets it go or falls silent."""

    job_id: str
    attempt: int
    owner_id: str
    work: Work
    #: Earlier attempts that ended without a word: their processes died, perhaps of this job.
    num_lost: int = 0


class WorkRefused(Event, frozen=True, kw_only=True, tag="work.refused.v1"):
    """There is nothing to do: for good (acknowledge the message) or ``later`` (hand it back for a while)."""

    job_id: str
    reason: Literal["nothing", "later"]


class LetGoWork(Command, frozen=True, kw_only=True, tag="work.let_go.v1"):
    """A worker that leaves asks a server to let somebody else go on; ``num_reports`` were made before."""

    job_id: str
    attempt: int
    num_reports: int
    worker_id: str


class WorkLetGo(Event, frozen=True, kw_only=True, tag="work.let_go_answered.v1"):
    """Whether the job waits again; ``later`` while reports of the attempt are not counted yet."""

    job_id: str
    verdict: Literal["done", "later", "superseded"]


# What workers report, on the subject of the job's events.


class WorkReport(Event, frozen=True, kw_only=True):
    """The base of all reports. ``number`` counts the reports of an attempt from 1, without a gap."""

    job_id: str
    attempt: int
    number: int
    #: CPU or device seconds spent since the report before.
    compute_s: float = 0.0


class TrainingProgressed(WorkReport, frozen=True, kw_only=True, tag="work.training_progressed.v1"):
    """At most two a second; the first and the last step always."""

    step: int
    total_steps: int
    epoch: int
    #: Finite numbers only.
    metrics: dict[str, float]
    #: Seconds that are left, by the pace so far.
    eta_s: float | None = None
    #: What it runs on, ``cpu`` or a GPU's name, and with how many processes.
    device: str = "cpu"


class SamplesGenerated(WorkReport, frozen=True, kw_only=True, tag="work.samples_generated.v1"):
    """Something to look at: a grid of pictures as PNG, or lines of text."""

    step: int
    name: str
    media_type: Literal["image/png", "text/plain"]
    object_key: str
    byte_size: int


class CheckpointSaved(WorkReport, frozen=True, kw_only=True, tag="work.checkpoint_saved.v1"):
    """From here another attempt goes on exactly."""

    checkpoint: Checkpoint


class TrainingWarned(WorkReport, frozen=True, kw_only=True, tag="work.training_warned.v1"):
    """Training goes on, but somebody should look: ``code`` is stable, ``message`` is for people."""

    step: int
    code: str
    message: str


class ModelExported(WorkReport, frozen=True, kw_only=True, tag="work.model_exported.v1"):
    """The training has succeeded, and this is its model. The last report of its job.

    Under the prefix lie ``encoder/`` and, where the model generates, ``net/``, each an artifact of its own.
    """

    model_id: str
    stored: StoredFiles
    #: Digest of the encoder's manifest, which holds the digests of its files.
    sha256: str
    dimension: int
    modality: Modality | None
    metrics: dict[str, float]
    generates: Literal["images", "texts"] | None = None


class RowIssue(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a row, counted from 1 as its file counts; None: with the whole of it."""

    row: int | None
    message: IssueText


class DatasetSplit(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a part of the data."""

    name: Literal["train", "test"]
    num_rows: int


class DatasetValidated(WorkReport, frozen=True, kw_only=True, tag="work.dataset_validated.v1"):
    """Every row was looked at. ``dataset`` is None where the data set can't be used; the issues say why.

    The last report of its job. Rows with an issue are left out of what is prepared.
    """

    dataset: PreparedDataset | None
    kind: DatasetKind | None
    modality: Modality | None
    #: Good rows.
    num_rows: int
    classes: list[str]
    #: Good rows of each class, and those without a label at the end where there are any.
    class_counts: list[int]
    num_unlabelled: int
    splits: list[DatasetSplit]
    #: The first `MAX_ISSUES` of them.
    issues: list[RowIssue]
    num_issues: int
    #: Height, width and channels where all pictures have the same; numbers of a row.
    shape: list[int] | None = None
    #: Characters or tokens in all texts.
    num_tokens: int | None = None


class SamplesMade(WorkReport, frozen=True, kw_only=True, tag="work.samples_made.v1"):
    """What was asked for is there. The last report of its job."""

    stored: StoredFiles
    media_type: Literal["image/png", "text/plain"]


class WorkStopped(WorkReport, frozen=True, kw_only=True, tag="work.stopped.v1"):
    """The worker has stopped because the job is cancelled. The last report of its job."""

    step: int | None = None


class WorkFailed(WorkReport, frozen=True, kw_only=True, tag="work.failed.v1"):
    """The job has failed for a reason that another attempt would not change. The last report of its job."""

    code: str
    message: str
    #: What to do about it, for a person.
    advice: str = ""
    #: The row at fault, where there is one.
    row: int | None = None


Report = (
    TrainingProgressed
    | SamplesGenerated
    | CheckpointSaved
    | TrainingWarned
    | ModelExported
    | DatasetValidated
    | SamplesMade
    | WorkStopped
    | WorkFailed
)


# Which workers there are.


class TrainersAnnounced(Event, frozen=True, kw_only=True, tag="registry.trainers_announced.v1"):
    """Said by each train worker every 2 s and when asked. ``leaving`` is its last word before it drains."""

    worker_id: str
    pool: str
    device: str
    #: Data sets that are installed with it.
    samples: list[str]
    leaving: bool = False


class AnnounceTrainers(Command, frozen=True, kw_only=True, tag="registry.announce_trainers.v1"):
    """A server that has just started asks every train worker to announce itself now."""
