"""Rows of jobs in the lanes of long work, and a worker there that does as it is told, well or badly."""

from typing import Any
from uuid import UUID

import msgspec

from bus import subjects
from bus.messages import (
    Checkpoint,
    CheckpointSaved,
    ClaimWork,
    DatasetSplit,
    DatasetValidated,
    GanParameters,
    GenerationSpec,
    LetGoWork,
    ModelExported,
    PreparedDataset,
    RowIssue,
    SamplesGenerated,
    SamplesMade,
    SampleSource,
    StoredFile,
    StoredFiles,
    TrainerParameters,
    TrainingProgressed,
    TrainingSpec,
    TrainingWarned,
    WorkClaimed,
    WorkFailed,
    WorkLetGo,
    WorkRefused,
    WorkStopped,
)
from bus.messages.work import Lane, Report
from bus.objects import ObjectStore
from bus.port import Bus
from server.auth.principal import Principal, Scope
from server.database import Database
from server.dataset_facts import encode_facts
from server.ids import model_id_of, new_id
from server.lane_rows import DATASET, GENERATION, TRAINING, LaneDraft, add_lane_job

POOL = "default"
SHA256 = "9f" * 32
SOURCE = SampleSource(name="digits")


def trainer_of(owner: Principal) -> Principal:
    """Return the same user with a key that may also train."""
    return msgspec.structs.replace(owner, scopes=owner.scopes | {Scope.TRAIN})


class DatasetRow(msgspec.Struct, frozen=True):
    """A data set, and the job that looks at it."""

    id: UUID
    job_id: UUID


def prepared(dataset_id: UUID) -> PreparedDataset:
    """Return where the rows of a valid data set lie."""
    return PreparedDataset(
        dataset_id=str(dataset_id),
        name="mine",
        sha256=SHA256,
        stored=StoredFiles(prefix=f"datasets/{dataset_id}", files=[stored_file("data.parquet")]),
    )


def stored_file(name: str) -> StoredFile:
    """Return a file of 10 bytes."""
    return StoredFile(name=name, sha256=SHA256, byte_size=10)


def validated(looked_at: DatasetRow, **changes: Any) -> DatasetValidated:  # noqa: ANN401 - any field
    """Return the first report of a first attempt: 1,000 pictures of cats and dogs."""
    return msgspec.structs.replace(
        DatasetValidated(
            job_id=str(looked_at.job_id),
            attempt=1,
            number=1,
            dataset=prepared(looked_at.id),
            kind="images",
            modality="IMAGE",
            num_rows=1000,
            classes=["cat", "dog"],
            class_counts=[600, 400],
            num_unlabelled=0,
            splits=[DatasetSplit(name="train", num_rows=900), DatasetSplit(name="test", num_rows=100)],
            issues=[],
            num_issues=0,
            shape=[28, 28, 1],
        ),
        **changes,
    )


def unusable_report(dataset: DatasetRow, message: str, *, row: int | None = None) -> DatasetValidated:
    """Return the report of a data set that can't be used."""
    return validated(
        dataset,
        dataset=None,
        kind=None,
        modality=None,
        num_rows=0,
        issues=[RowIssue(row=row, message=message)],
        num_issues=1,
    )


async def add_dataset(db: Database, owner: Principal, *, is_ready: bool = False) -> DatasetRow:
    """Add a data set that waits to be looked at, or one that is READY and whose job is over."""
    dataset = DatasetRow(new_id(), new_id())
    async with db.transaction():
        draft = LaneDraft(id=dataset.job_id, user_id=owner.user_id, kind=DATASET, pool=POOL)
        assert await add_lane_job(db, draft)
        await db.execute(
            "INSERT INTO datasets (id, user_id, name, version, status, job_id, sample, source)"
            " VALUES ({}, {}, {}, 1, 'VALIDATING', {}, {}, {})",
            dataset.id,
            owner.user_id,
            f"mine {dataset.id}",
            dataset.job_id,
            SOURCE.name,
            msgspec.msgpack.encode(SOURCE),
        )
    if is_ready:
        facts = validated(dataset)
        await db.execute(
            "UPDATE jobs SET state = 'SUCCEEDED', attempt = 1, finished_at = now() WHERE id = {}",
            dataset.job_id,
        )
        await db.execute(
            "UPDATE datasets SET status = 'READY', kind = 'images', modality = 'IMAGE', sha256 = {},"
            " num_rows = 1000, classes = {}, class_counts = {}, facts = {} WHERE id = {}",
            SHA256,
            facts.classes,
            facts.class_counts,
            encode_facts(facts),
            dataset.id,
        )
    return dataset


async def add_training(
    db: Database,
    owner: Principal,
    dataset: DatasetRow,
    *,
    parameters: TrainerParameters | None = None,
    priority: int = 0,
    is_ready: bool = True,
) -> UUID:
    """Add a training that waits for its turn, or for its data set."""
    job_id = new_id()
    spec = TrainingSpec(name="my model", parameters=parameters or GanParameters())
    async with db.transaction():
        draft = LaneDraft(
            id=job_id,
            user_id=owner.user_id,
            kind=TRAINING,
            pool=POOL,
            priority=priority,
            is_ready=is_ready,
        )
        assert await add_lane_job(db, draft)
        await db.execute(
            "INSERT INTO training_jobs (job_id, name, trainer, dataset_id, spec) VALUES ({}, {}, {}, {}, {})",
            job_id,
            spec.name,
            "GAN",
            dataset.id,
            msgspec.msgpack.encode(spec),
        )
    return job_id


async def add_generation(db: Database, owner: Principal, model_id: UUID) -> UUID:
    """Add a generation that waits for its turn."""
    job_id = new_id()
    async with db.transaction():
        draft = LaneDraft(id=job_id, user_id=owner.user_id, kind=GENERATION, pool=POOL)
        assert await add_lane_job(db, draft)
        await db.execute(
            "INSERT INTO generation_jobs (job_id, model_id, spec) VALUES ({}, {}, {})",
            job_id,
            model_id,
            msgspec.msgpack.encode(GenerationSpec(count=2)),
        )
    return job_id


async def states(db: Database) -> dict[UUID, str]:
    """Return the state of every job."""
    return {row["id"]: row["state"] for row in await db.fetch("SELECT id, state FROM jobs")}


class LaneWorker:
    """Claims work and reports, in any order, twice, or too late: as the test wants it."""

    def __init__(self, bus: Bus, objects: ObjectStore, name: str = "trainer-1") -> None:
        self._bus = bus
        self._objects = objects
        self._name = name

    async def ask(
        self, job_id: UUID | str, lane: Lane = "train", *, pool: str = POOL
    ) -> WorkClaimed | WorkRefused:
        """Ask for the next job of a lane, with the message of a job in hand."""
        question = ClaimWork(job_id=str(job_id), lane=lane, pool=pool, worker_id=self._name)
        return await self.ask_as(question)

    async def ask_as(self, question: ClaimWork) -> WorkClaimed | WorkRefused:
        """Ask this very question."""
        answer = await self._bus.ask(subjects.WORK_CLAIM, question, timeout_s=10)
        assert isinstance(answer, WorkClaimed | WorkRefused)
        return answer

    async def claim(self, job_id: UUID, lane: Lane = "train") -> WorkClaimed:
        """Claim a job that is next."""
        answer = await self.ask(job_id, lane)
        assert isinstance(answer, WorkClaimed)
        assert str(job_id) == answer.job_id
        return answer

    async def let_go(self, claimed: WorkClaimed, num_reports: int) -> str:
        """Leave; return the verdict."""
        question = LetGoWork(
            job_id=claimed.job_id,
            attempt=claimed.attempt,
            num_reports=num_reports,
            worker_id=self._name,
        )
        answer = await self._bus.ask(subjects.WORK_LET_GO, question, timeout_s=10)
        assert isinstance(answer, WorkLetGo)
        return answer.verdict

    async def publish(self, *reports: Report) -> None:
        """Send reports as they are."""
        for report in reports:
            await self._bus.publish(subjects.job_event(report.job_id), report)

    async def put_sample(self, claimed: WorkClaimed, number: int, text: str) -> SamplesGenerated:
        """Store a text to look at, and return the report of it."""
        key = f"jobs/{claimed.job_id}/samples/{claimed.attempt}-{number}.txt"
        await self._objects.put(key, text.encode())
        return SamplesGenerated(
            job_id=claimed.job_id,
            attempt=claimed.attempt,
            number=number,
            step=number,
            name="text",
            media_type="text/plain",
            object_key=key,
            byte_size=len(text.encode()),
        )


class Reports:
    """Makes the reports of one attempt."""

    def __init__(self, job_id: UUID | str, attempt: int = 1) -> None:
        self.job_id = UUID(str(job_id))
        self.attempt = attempt

    @classmethod
    def of(cls, claimed: WorkClaimed) -> "Reports":
        """Return what makes the reports of a claim."""
        return cls(claimed.job_id, claimed.attempt)

    def _base(self, number: int) -> dict[str, Any]:
        return {"job_id": str(self.job_id), "attempt": self.attempt, "number": number}

    def progress(self, number: int, **metrics: float) -> TrainingProgressed:
        """One step for each number."""
        return TrainingProgressed(
            **self._base(number),
            step=number,
            total_steps=100,
            epoch=0,
            metrics=metrics or {"loss": 1 / number},
            eta_s=100.0 - number,
        )

    def picture(self, number: int) -> SamplesGenerated:
        """A grid of pictures."""
        return SamplesGenerated(
            **self._base(number),
            step=number,
            name="samples",
            media_type="image/png",
            object_key=f"jobs/{self.job_id}/samples/{self.attempt}-{number}.png",
            byte_size=100,
        )

    def checkpoint(self, number: int) -> CheckpointSaved:
        """Something to go on from."""
        prefix = f"jobs/{self.job_id}/checkpoints/{self.attempt}-{number}"
        stored = StoredFiles(prefix=prefix, files=[stored_file("state.safetensors")])
        return CheckpointSaved(**self._base(number), checkpoint=Checkpoint(step=number, stored=stored))

    def warning(self, number: int) -> TrainingWarned:
        """Something that somebody should look at."""
        return TrainingWarned(
            **self._base(number), step=number, code="COLLAPSE", message="All pictures are the same."
        )

    def model(self, number: int) -> ModelExported:
        """The model of this attempt."""
        model_id = model_id_of(self.job_id, self.attempt)
        files = [stored_file("encoder/manifest.json"), stored_file("net/manifest.json")]
        return ModelExported(
            **self._base(number),
            model_id=str(model_id),
            stored=StoredFiles(prefix=f"models/{model_id}", files=files),
            sha256=SHA256,
            dimension=64,
            modality="IMAGE",
            metrics={"fid": 12.5},
            generates="images",
        )

    def made(self, number: int) -> SamplesMade:
        """Two pictures."""
        files = [stored_file("0000.png"), stored_file("0001.png")]
        return SamplesMade(
            **self._base(number),
            stored=StoredFiles(prefix=f"generated/{self.job_id}", files=files),
            media_type="image/png",
        )

    def stopped(self, number: int) -> WorkStopped:
        """The worker has heard that the job is cancelled."""
        return WorkStopped(**self._base(number), step=number)

    def failed(self, number: int, **changes: Any) -> WorkFailed:  # noqa: ANN401 - any field
        """It can't be done."""
        return WorkFailed(
            **self._base(number),
            **{"code": "INVALID_INPUT", "message": "The loss is no number.", "advice": "", **changes},
        )
