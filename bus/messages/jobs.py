"""Who works on which job: questions workers ask any server over core NATS, and nudges between servers."""

from typing import Literal

import msgspec

from bus.envelope import Command, Event
from bus.messages.embedding import JobSpec


class ClaimJob(Command, frozen=True, kw_only=True, tag="jobs.claim.v1"):
    """A worker asks to work on a job."""

    job_id: str
    worker_id: str


class ClaimSeveralJobs(Command, frozen=True, kw_only=True, tag="jobs.claim_several.v1"):
    """A worker asks to work on each of these jobs, which are different ones.

    On a subject of its own, so that no server of a release without it is asked.
    """

    job_ids: list[str]
    worker_id: str


class JobClaimed(Event, frozen=True, kw_only=True, tag="jobs.claimed.v1"):
    """The job is the worker's, under this attempt number, until somebody claims it again."""

    job_id: str
    attempt: int
    spec: JobSpec
    #: Chunks that an earlier attempt has already delivered.
    done_chunks: list[int] = msgspec.field(default_factory=list)
    #: Earlier attempts that ended without a word: their processes died, perhaps of this job.
    num_lost: int = 0


class JobClaimRefused(Event, frozen=True, kw_only=True, tag="jobs.claim_refused.v1"):
    """There is nothing to do: acknowledge the message and forget it."""

    job_id: str
    reason: Literal["cancelled", "finished", "unknown"]


class JobClaimsAnswered(Event, frozen=True, kw_only=True, tag="jobs.claims_answered.v1"):
    """What became of each job of a ``ClaimSeveralJobs``; of one in neither list nothing could be said."""

    claimed: list[JobClaimed]
    refused: list[JobClaimRefused]


class HeartbeatJob(Command, frozen=True, kw_only=True, tag="jobs.heartbeat.v1"):
    """A worker says that it is still at it, and asks whether it should be."""

    job_id: str
    attempt: int
    worker_id: str


class HeartbeatAnswered(Event, frozen=True, kw_only=True, tag="jobs.heartbeat_answered.v1"):
    """``cancel`` and ``superseded`` both mean: stop, publish nothing more, acknowledge."""

    job_id: str
    verdict: Literal["continue", "cancel", "superseded"]


class CancelJob(Command, frozen=True, kw_only=True, tag="jobs.cancel.v1"):
    """Whoever works on the job stops. Told to all; the heartbeat's answer is the net for one that is lost."""

    job_id: str


class JobNudged(Event, frozen=True, kw_only=True, tag="jobs.nudged.v1"):
    """New rows of the job's history can be read, up to ``seq``. Lost nudges cost only time."""

    job_id: str
    seq: int
