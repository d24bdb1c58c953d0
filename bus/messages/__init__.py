"""Every message, by room of origin, and the union the codec reads."""

from bus.messages.access import AccessRevoked
from bus.messages.embedding import (
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
)

__all__ = [
    "AccessRevoked",
    "AnnouncePipelines",
    "AnyMessage",
    "CancelJob",
    "ClaimJob",
    "ClaimSeveralJobs",
    "EmbedJob",
    "EmbedNow",
    "EmbeddingRefused",
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
    "Modality",
    "ObjectInput",
    "PipelinesAnnounced",
    "TextInput",
    "VectorsComputed",
]
