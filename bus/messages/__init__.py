"""Every message, by room of origin, and the union the codec reads."""

from bus.messages.access import AccessRevoked
from bus.messages.embedding import (
    DeployedModel,
    EmbeddingRefused,
    EmbedJob,
    EmbedNow,
    Input,
    ItemError,
    ItemsEmbedded,
    JobAttemptFailed,
    JobAttemptLetGo,
    JobSpec,
    ObjectInput,
    PreloadModel,
    TextInput,
    VectorsComputed,
)
from bus.messages.jobs import (
    CancelJob,
    ClaimJob,
    ClaimSeveralJobs,
    HeartbeatAnswered,
    HeartbeatJob,
    JobClaimed,
    JobClaimRefused,
    JobClaimsAnswered,
    JobNudged,
)
from bus.messages.registry import AnnouncePipelines, HostedPipeline, Modality, PipelinesAnnounced
from bus.messages.training import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    RnnParameters,
    SemiSupervisedParameters,
    TrainerParameters,
    TrainingSpec,
)
from bus.messages.work import (
    AnnounceTrainers,
    Checkpoint,
    CheckpointSaved,
    ClaimWork,
    DatasetSplit,
    DatasetValidated,
    GenerateSamples,
    GenerationSpec,
    GenerationWork,
    LetGoWork,
    ModelExported,
    PreparedDataset,
    RowIssue,
    SamplesGenerated,
    SamplesMade,
    SampleSource,
    StoredFile,
    StoredFiles,
    TrainersAnnounced,
    TrainingProgressed,
    TrainingWarned,
    TrainingWork,
    TrainModel,
    UploadedSource,
    ValidateDataset,
    ValidationWork,
    WorkClaimed,
    WorkFailed,
    WorkLetGo,
    WorkRefused,
    WorkStopped,
)

#: A new message is added here, in tests/bus/recorded and in CONTRIBUTING's list; none is ever removed.
AnyMessage = (
    AccessRevoked
    | EmbeddingRefused
    | EmbedJob
    | EmbedNow
    | ItemsEmbedded
    | JobAttemptFailed
    | JobAttemptLetGo
    | VectorsComputed
    | CancelJob
    | ClaimJob
    | ClaimSeveralJobs
    | HeartbeatAnswered
    | HeartbeatJob
    | JobClaimed
    | JobClaimRefused
    | JobClaimsAnswered
    | JobNudged
    | AnnouncePipelines
    | PipelinesAnnounced
    | PreloadModel
    | AnnounceTrainers
    | CheckpointSaved
    | ClaimWork
    | DatasetValidated
    | GenerateSamples
    | LetGoWork
    | ModelExported
    | SamplesGenerated
    | SamplesMade
    | TrainersAnnounced
    | TrainingProgressed
    | TrainingWarned
    | TrainModel
    | ValidateDataset
    | WorkClaimed
    | WorkFailed
    | WorkLetGo
    | WorkRefused
    | WorkStopped
)

__all__ = [
    "AccessRevoked",
    "AnnouncePipelines",
    "AnnounceTrainers",
    "AnyMessage",
    "AutoencoderParameters",
    "CancelJob",
    "Checkpoint",
    "CheckpointSaved",
    "ClaimJob",
    "ClaimSeveralJobs",
    "ClaimWork",
    "DatasetSplit",
    "DatasetValidated",
    "DeployedModel",
    "EmbedJob",
    "EmbedNow",
    "EmbeddingRefused",
    "FineTuneParameters",
    "GanParameters",
    "GenerateSamples",
    "GenerationSpec",
    "GenerationWork",
    "HeartbeatAnswered",
    "HeartbeatJob",
    "HostedPipeline",
    "Input",
    "ItemError",
    "ItemsEmbedded",
    "JobAttemptFailed",
    "JobAttemptLetGo",
    "JobClaimRefused",
    "JobClaimed",
    "JobClaimsAnswered",
    "JobNudged",
    "JobSpec",
    "LetGoWork",
    "Modality",
    "ModelExported",
    "ObjectInput",
    "PipelinesAnnounced",
    "PreloadModel",
    "PreparedDataset",
    "RnnParameters",
    "RowIssue",
    "SampleSource",
    "SamplesGenerated",
    "SamplesMade",
    "SemiSupervisedParameters",
    "StoredFile",
    "StoredFiles",
    "TextInput",
    "TrainModel",
    "TrainerParameters",
    "TrainersAnnounced",
    "TrainingProgressed",
    "TrainingSpec",
    "TrainingWarned",
    "TrainingWork",
    "UploadedSource",
    "ValidateDataset",
    "ValidationWork",
    "VectorsComputed",
    "WorkClaimed",
    "WorkFailed",
    "WorkLetGo",
    "WorkRefused",
    "WorkStopped",
]
