"""One example of every message, the same at every run."""

from datetime import UTC, datetime

from bus.envelope import Message
from bus.messages import (
    AccessRevoked,
    AnnouncePipelines,
    CancelJob,
    ClaimJob,
    ClaimSeveralJobs,
    EmbeddingRefused,
    EmbedJob,
    EmbedNow,
    HeartbeatAnswered,
    HeartbeatJob,
    HostedPipeline,
    ItemError,
    ItemsEmbedded,
    JobAttemptFailed,
    JobAttemptLetGo,
    JobClaimed,
    JobClaimRefused,
    JobClaimsAnswered,
    JobNudged,
    JobSpec,
    ObjectInput,
    PipelinesAnnounced,
    TextInput,
    VectorsComputed,
)

AT = datetime(2026, 11, 22, 12, 30, 15, 250_000, tzinfo=UTC)
JOB = "0199f3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b"
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def examples() -> list[Message]:
    """Every message with every field set."""
    failure = ItemError(index=7, code="UNSUPPORTED_MEDIA", message="audio is not served here")
    return [
        AccessRevoked(id="m01", at=AT, credential_id="key-1", reason="API key revoked"),
        AnnouncePipelines(id="m02", at=AT),
        ClaimJob(id="m03", at=AT, job_id=JOB, worker_id="worker-1"),
        EmbedJob(id="m04", at=AT, job_id=JOB, publish_number=2),
        EmbedNow(
            id="m05",
            at=AT,
            request_id="request-1",
            pipeline="text-minilm",
            inputs=[
                TextInput(text="Ein Löwe liegt im Gras 🦁"),
                ObjectInput(key=f"blobs/9f/{SHA}", media_type="image/jpeg", byte_size=48_213),
            ],
            first_index=32,
            reply_to="reply.replica-1",
            deadline_at=AT,
        ),
        EmbeddingRefused(
            id="m06",
            at=AT,
            request_id="request-1",
            first_index=32,
            code="PIPELINE_UNAVAILABLE",
            message="no worker hosts text-minilm",
        ),
        HeartbeatAnswered(id="m07", at=AT, job_id=JOB, verdict="superseded"),
        HeartbeatJob(id="m08", at=AT, job_id=JOB, attempt=3, worker_id="worker-1"),
        ItemsEmbedded(
            id="m09",
            at=AT,
            job_id=JOB,
            attempt=3,
            chunk=1,
            first_index=6,
            count=2,
            dimension=384,
            vectors_key=f"blobs/9f/{SHA}",
            truncated=[False, True],
            failures=[failure],
            tokens=512,
            compute_s=0.25,
        ),
        JobAttemptFailed(
            id="m10", at=AT, job_id=JOB, attempt=3, code="INVALID_INPUT", message="the inputs can't be read"
        ),
        JobClaimRefused(id="m11", at=AT, job_id=JOB, reason="cancelled"),
        JobClaimed(
            id="m12",
            at=AT,
            job_id=JOB,
            attempt=3,
            spec=JobSpec(pipeline="text-minilm", inputs_key=f"blobs/9f/{SHA}", item_count=500, chunk_size=64),
            done_chunks=[0, 2],
        ),
        JobNudged(id="m13", at=AT, job_id=JOB, seq=41),
        PipelinesAnnounced(
            id="m14",
            at=AT,
            worker_id="worker-1",
            pipelines=[
                HostedPipeline(
                    name="text-minilm",
                    version="1",
                    modality="TEXT",
                    dimension=384,
                    pool="default",
                    max_tokens=256,
                    auto_rank=1,
                    description="all-MiniLM-L6-v2",
                )
            ],
            leaving=True,
        ),
        VectorsComputed(
            id="m15",
            at=AT,
            request_id="request-1",
            first_index=32,
            count=2,
            dimension=2,
            vectors=bytes.fromhex("0000803f000000000000000000000000"),
            truncated=[False, False],
            tokens=[9, 0],
            failures=[failure],
            compute_s=0.125,
        ),
        CancelJob(id="m16", at=AT, job_id=JOB),
        JobAttemptLetGo(id="m17", at=AT, job_id=JOB, attempt=3, reason="cancelled"),
        ClaimSeveralJobs(id="m18", at=AT, job_ids=[JOB, f"{JOB[:-1]}c"], worker_id="worker-1"),
        JobClaimsAnswered(
            id="m19",
            at=AT,
            claimed=[
                JobClaimed(
                    id="m20",
                    at=AT,
                    job_id=JOB,
                    attempt=1,
                    spec=JobSpec(
                        pipeline="text-minilm", inputs_key=f"jobs/{JOB}/inputs", item_count=2, chunk_size=64
                    ),
                )
            ],
            refused=[JobClaimRefused(id="m21", at=AT, job_id=f"{JOB[:-1]}c", reason="finished")],
        ),
    ]
