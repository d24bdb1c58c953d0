"""The services of training on a real database, and rows as the projection leaves them behind."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec

from bus import subjects
from bus.messages import (
    DatasetSplit,
    DatasetValidated,
    PreparedDataset,
    RowIssue,
    StoredFile,
    StoredFiles,
    TrainersAnnounced,
)
from bus.objects import ObjectStore
from bus.port import Bus
from server.auth.principal import Principal
from server.backlog import Backlog
from server.content import ContentDetector
from server.database import Database
from server.dataset_facts import encode_facts
from server.datasets import CreateDatasetRequest, Datasets
from server.deployments import Deployments
from server.dispatch import Dispatch
from server.generations import Generations
from server.ids import new_id
from server.job_cancellations import JobCancellations
from server.leftovers import Leftovers
from server.models import Models
from server.pipelines import Pipelines
from server.records import FileRecord, JobState
from server.trainers import Trainers
from server.training_jobs import StartTrainingRequest, TrainingJobs, TrainingLimits
from server.training_records import DatasetRecord, TrainerKind, TrainingJobRecord
from server.training_resume import TrainingResumption
from server.uploads import Uploads
from tests.support.jobs import Counted

#: Above what any test has by the way.
MAX_DATASETS = 20
MAX_TRAININGS = 10
MAX_JOBS = 30
MAX_SECONDS = 1000

TRAINER = TrainersAnnounced(worker_id="t1", pool="default", device="cpu", samples=["digits", "names"])


class House:
    """The services of training in one server process, and what happens around them.

    Attributes:
        num_woken: how often the relay was told that there is something to publish.
    """

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, pipelines: Pipelines) -> None:
        self.db = db
        self.objects = objects
        self.num_woken = 0
        self.detector = ContentDetector()
        self.uploads = Uploads(db, objects, self.detector, max_upload_bytes=100_000)
        self.trainers = Trainers(bus)
        self.bus = bus
        self.pipelines = pipelines
        self.backlog = Backlog(db, max_of_user=MAX_JOBS, max_of_pool=MAX_JOBS)
        dispatch = Dispatch(trainers=self.trainers, backlog=self.backlog, wake=self._count)
        cancellations = JobCancellations(db, bus, meter=Counted().meter)
        self.datasets = Datasets(db, objects, self.uploads, dispatch, cancellations, max_of_user=MAX_DATASETS)
        self.jobs = TrainingJobs(
            db,
            objects,
            TrainingResumption(db, bus),
            dispatch,
            limits=TrainingLimits(max_open_of_user=MAX_TRAININGS, max_seconds=MAX_SECONDS),
        )
        self.models = Models(db, objects, pipelines)
        self.deployments = Deployments(db, bus, pipelines)
        self.generations = Generations(db, self.uploads, dispatch)
        self.leftovers = Leftovers(db, objects, self.uploads)

    def _count(self) -> None:
        self.num_woken += 1

    async def start(self) -> None:
        """Start to listen, and hear of one train worker."""
        await self.trainers.start()
        await self.hear_of(TRAINER)

    async def close(self) -> None:
        """Stop all of it."""
        await self.trainers.close()
        self.detector.close()

    async def hear_of(self, announced: TrainersAnnounced) -> None:
        """Be told by a train worker what it has, as the bus would tell it."""
        await self.trainers._hear(announced)

    async def upload(
        self, owner: Principal, content: bytes = b"text\nred\n", name: str = "a.csv"
    ) -> FileRecord:
        """Upload a file."""

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return await self.uploads.store(owner, name=name, chunks=chunks())

    async def dataset(self, owner: Principal, name: str = "colours") -> DatasetRecord:
        """Create a data set of a sample, which is VALIDATING."""
        return await self.datasets.create(owner, CreateDatasetRequest(name=name, sample="digits"))

    async def ready(self, owner: Principal, name: str = "colours", **facts: object) -> DatasetRecord:
        """Create a data set and have it found READY."""
        record = await self.dataset(owner, name)
        await self.validate(record, **facts)
        return await self.datasets.get(owner.user_id, record.id)

    async def validate(self, record: DatasetRecord, **facts: object) -> None:
        """Write what a worker has found, as the projection does: 120 pictures of two classes by default."""
        report = _report(record, **facts)
        is_ready = report.dataset is not None
        await self.db.execute(
            "UPDATE datasets SET status = {}, kind = {}, modality = {}, sha256 = {}, num_rows = {},"
            " classes = {}, class_counts = {}, num_unlabelled = {}, facts = {}, num_issues = {}"
            " WHERE id = {}",
            "READY" if is_ready else "INVALID",
            report.kind,
            report.modality,
            report.dataset.sha256 if report.dataset else None,
            report.num_rows,
            report.classes,
            report.class_counts,
            report.num_unlabelled,
            encode_facts(report),
            report.num_issues,
            record.id,
        )
        row = await self.db.fetch_one("SELECT job_id FROM datasets WHERE id = {}", record.id)
        assert row is not None
        await self.end(row["job_id"], JobState.SUCCEEDED)

    async def train(
        self, owner: Principal, dataset: DatasetRecord | None = None, **request: object
    ) -> TrainingJobRecord:
        """Start a training of a GAN, on a new data set if none is given."""
        dataset = dataset or await self.ready(owner)
        return await self.jobs.start(owner, training(dataset.id, **request))

    async def end(self, job_id: UUID, state: JobState, *, step: int = 0, attempt: int = 1) -> None:
        """Let a job have ended."""
        await self.db.execute(
            "UPDATE jobs SET state = {}, attempt = {}, finished_at = now(), heartbeat_at = now(),"
            " error_code = {}, error_message = {} WHERE id = {}",
            state.value,
            attempt,
            "INTERNAL" if state is JobState.FAILED else None,
            "It broke." if state is JobState.FAILED else None,
            job_id,
        )
        await self.db.execute("UPDATE training_jobs SET step = {} WHERE job_id = {}", step, job_id)

    async def model(self, owner: Principal, job: TrainingJobRecord | None = None, **values: object) -> UUID:
        """Have a training make a model, with its files in the store: of texts, dimension 8, by default."""
        job = job or await self.train(owner)
        await self.end(job.id, JobState.SUCCEEDED)
        model_id = new_id()
        names = ["encoder/manifest.json", "encoder/weights.safetensors", "encoder/README.md", "owner.json"]
        contents = {name: f"{name} of {model_id}".encode() * 1000 for name in names}
        for name, content in contents.items():
            await self.objects.put(f"models/{model_id}/{name}", content)
        files = [
            StoredFile(name=name, sha256="00" * 32, byte_size=len(content))
            for name, content in contents.items()
        ]
        await self.db.execute(
            "INSERT INTO models (id, user_id, job_id, name, trainer, modality, dimension, sha256, generates,"
            " metrics, stored, dataset_id, parent_id)"
            " VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
            model_id,
            owner.user_id,
            job.id,
            job.name,
            job.trainer.value,
            values.get("modality", "TEXT"),
            values.get("dimension", 8),
            "ab" * 32,
            values.get("generates"),
            msgspec.msgpack.encode({"loss": 0.5}),
            msgspec.msgpack.encode(StoredFiles(prefix=f"models/{model_id}", files=files)),
            job.dataset_id,
            values.get("parent_id"),
        )
        return model_id

    async def published(self, job_id: UUID) -> list[tuple[str, str]]:
        """Return subject and message id of all that was put into the outbox for a job."""
        rows = await self.db.fetch(
            "SELECT subject, message_id FROM outbox WHERE job_id = {} ORDER BY id", job_id
        )
        return [(row["subject"], row["message_id"]) for row in rows]


def training(dataset_id: UUID, **changes: object) -> StartTrainingRequest:
    """A request to train a GAN with parameters that are all right."""
    values: dict[str, Any] = {
        "name": "first",
        "dataset_id": dataset_id,
        "trainer": TrainerKind.GAN,
        "parameters": {},
        **changes,
    }
    return StartTrainingRequest(**values)


def train_subject(job_id: UUID) -> str:
    """Where the command of a training is published."""
    return subjects.train_job("default", str(job_id))


def _report(record: DatasetRecord, **facts: object) -> DatasetValidated:
    values: dict[str, Any] = {
        "kind": "images",
        "modality": "IMAGE",
        "num_rows": 120,
        "classes": ["blue", "red"],
        "class_counts": [60, 60],
        "num_unlabelled": 0,
        "splits": [DatasetSplit(name="train", num_rows=100), DatasetSplit(name="test", num_rows=20)],
        "issues": [],
        "num_issues": 0,
        "shape": [28, 28, 1],
        "dataset": PreparedDataset(
            dataset_id=str(record.id),
            name=record.name,
            sha256="cd" * 32,
            stored=StoredFiles(prefix=f"datasets/{record.id}", files=[]),
        ),
        **facts,
    }
    return DatasetValidated(job_id=str(new_id()), attempt=1, number=1, **values)


#: Facts of a data set that can't be trained on.
INVALID: dict[str, Any] = {
    "dataset": None,
    "kind": None,
    "modality": None,
    "num_rows": 0,
    "classes": [],
    "class_counts": [],
    "issues": [RowIssue(row=3, message="There is no text."), RowIssue(row=None, message="Too few rows.")],
    "num_issues": 2,
}
