"""One example of every message, the same at every run."""

from datetime import UTC, datetime

from bus.envelope import Message
from bus.messages import (
    AccessRevoked,
    AnnouncePipelines,
    AnnounceTrainers,
    CancelJob,
    Checkpoint,
    CheckpointSaved,
    ClaimJob,
    ClaimSeveralJobs,
    ClaimWork,
    DatasetSplit,
    DatasetValidated,
    DeployedModel,
    EmbeddingRefused,
    EmbedJob,
    EmbedNow,
    GanParameters,
    GenerateSamples,
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
    LetGoWork,
    ModelExported,
    ObjectInput,
    PipelinesAnnounced,
    PreloadModel,
    PreparedDataset,
    RowIssue,
    SamplesGenerated,
    SamplesMade,
    StoredFile,
    StoredFiles,
    TextInput,
    TrainersAnnounced,
    TrainingProgressed,
    TrainingSpec,
    TrainingWarned,
    TrainingWork,
    TrainModel,
    ValidateDataset,
    VectorsComputed,
    WorkClaimed,
    WorkFailed,
    WorkLetGo,
    WorkRefused,
    WorkStopped,
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
        *_examples_of_work(),
    ]


def _examples_of_work() -> list[Message]:
    """Those of trainings, data sets and deployed models."""
    files = StoredFiles(
        prefix=f"jobs/{JOB}/checkpoints/2-300",
        files=[StoredFile(name="model.safetensors", sha256=SHA, byte_size=48_213)],
    )
    dataset = PreparedDataset(dataset_id=JOB, name="digits", sha256=SHA, stored=files)
    checkpoint = Checkpoint(step=300, stored=files)
    spec = TrainingSpec(
        name="my gan", parameters=GanParameters(loss="hinge"), seed=7, max_steps=500, max_seconds=60
    )
    model = DeployedModel(
        model_id=JOB, owner_id=JOB, prefix=f"models/{JOB}/encoder", manifest_sha256=SHA, dimension=64
    )
    training = TrainingWork(spec=spec, dataset=dataset, model_id=JOB, checkpoint=checkpoint, parent=files)
    return [
        AnnounceTrainers(id="m30", at=AT),
        TrainersAnnounced(
            id="m31",
            at=AT,
            worker_id="trainer-1",
            pool="default",
            device="cpu",
            samples=["digits"],
            leaving=True,
        ),
        TrainModel(id="m32", at=AT, job_id=JOB, publish_number=2),
        ValidateDataset(id="m33", at=AT, job_id=JOB, publish_number=2),
        GenerateSamples(id="m34", at=AT, job_id=JOB, publish_number=2),
        ClaimWork(id="m35", at=AT, job_id=JOB, lane="train", pool="default", worker_id="trainer-1"),
        WorkClaimed(id="m36", at=AT, job_id=JOB, attempt=2, owner_id=JOB, work=training, num_lost=1),
        WorkRefused(id="m37", at=AT, job_id=JOB, reason="later"),
        LetGoWork(id="m38", at=AT, job_id=JOB, attempt=2, num_reports=5, worker_id="trainer-1"),
        WorkLetGo(id="m39", at=AT, job_id=JOB, verdict="later"),
        TrainingProgressed(
            id="m40",
            at=AT,
            job_id=JOB,
            attempt=2,
            number=1,
            step=300,
            total_steps=500,
            epoch=3,
            metrics={"loss_g": 0.75},
            eta_s=12.5,
            device="cuda:0",
        ),
        SamplesGenerated(
            id="m41",
            at=AT,
            job_id=JOB,
            attempt=2,
            number=2,
            step=300,
            name="grid",
            media_type="image/png",
            object_key=f"jobs/{JOB}/samples/2-2.png",
            byte_size=4821,
        ),
        CheckpointSaved(id="m42", at=AT, job_id=JOB, attempt=2, number=3, checkpoint=checkpoint),
        TrainingWarned(
            id="m43", at=AT, job_id=JOB, attempt=2, number=4, step=300, code="collapse", message="look at it"
        ),
        ModelExported(
            id="m44",
            at=AT,
            job_id=JOB,
            attempt=2,
            number=5,
            model_id=JOB,
            stored=files,
            sha256=SHA,
            dimension=64,
            modality="IMAGE",
            metrics={"eval_fid": 90.5},
            generates="images",
        ),
        DatasetValidated(
            id="m45",
            at=AT,
            job_id=JOB,
            attempt=1,
            number=1,
            dataset=dataset,
            kind="images",
            modality="IMAGE",
            num_rows=1796,
            classes=["0", "1"],
            class_counts=[900, 896],
            num_unlabelled=0,
            splits=[DatasetSplit(name="train", num_rows=1600), DatasetSplit(name="test", num_rows=196)],
            issues=[RowIssue(row=7, message="the picture is empty")],
            num_issues=1,
            shape=[8, 8, 1],
            num_tokens=3,
        ),
        SamplesMade(id="m46", at=AT, job_id=JOB, attempt=1, number=1, stored=files, media_type="image/png"),
        WorkStopped(id="m47", at=AT, job_id=JOB, attempt=1, number=6, step=300),
        WorkFailed(
            id="m48",
            at=AT,
            job_id=JOB,
            attempt=1,
            number=6,
            code="INVALID_INPUT",
            message="the loss is not finite",
            advice="lower the learning rate",
            row=7,
        ),
        PreloadModel(id="m49", at=AT, pool="default", model=model),
    ]
