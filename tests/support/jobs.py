"""A job, the services around it, and a worker that does as it is told, well or badly."""

import asyncio
from collections.abc import Iterable
from uuid import UUID

import numpy as np
import numpy.typing as npt
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from bus import subjects
from bus.messages import (
    ClaimJob,
    HostedPipeline,
    ItemError,
    ItemsEmbedded,
    JobAttemptFailed,
    JobClaimed,
    PipelinesAnnounced,
)
from bus.objects import ObjectStore
from bus.port import Bus
from server.auth.principal import CredentialKind, Principal, Scope
from server.backlog import Backlog
from server.claims import Claims
from server.content import ContentDetector
from server.database import Database
from server.deployments import Deployments
from server.embedding_jobs import EmbeddingJobs
from server.events import JobHistory
from server.ids import new_id
from server.job_cancellations import JobCancellations
from server.job_inputs import CreateJobRequest, JobInputs
from server.outbox import OutboxRelay
from server.pipelines import Pipelines
from server.projections import Projection
from server.records import EmbeddingJobRecord, JobEventRecord
from server.selection import Selector
from server.uploads import Uploads
from server.usage import UsageMeter
from server.work_claims import WorkClaims

DIMENSION = 4
#: Small, so that small jobs have many chunks.
CHUNK_SIZE = 2
#: Of a text, and of a file.
MAX_BYTES = 1000
#: Above what any test creates by the way.
MAX_OPEN_OF_USER = 50
MAX_OPEN_OF_POOL = 80


class Counted:
    """The meter of a test, and what was counted on it."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.meter: Meter = MeterProvider(metric_readers=[self._reader]).get_meter("test")

    def total(self, name: str, **attributes: str) -> float:
        """Return the sum of a counter over the points that have these attributes."""
        data = self._reader.get_metrics_data()
        points = [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]
        return sum(
            point.value
            for point in points
            if isinstance(point, NumberDataPoint)
            and attributes.items() <= dict(point.attributes or {}).items()
        )


def vector_of(index: int) -> npt.NDArray[np.float32]:
    """Return the vector that the worker computes for an item."""
    return np.arange(index, index + DIMENSION, dtype=np.float32)


class Worker:
    """Claims jobs and reports chunks, in any order, twice, or too late: as the test wants it."""

    #: What each chunk costs.
    tokens = 5
    compute_s = 0.25

    def __init__(self, bus: Bus, objects: ObjectStore, name: str = "worker-1") -> None:
        self._bus = bus
        self._objects = objects
        self._name = name

    async def claim(self, job_id: UUID) -> JobClaimed:
        """Claim a job that can be claimed."""
        claim = ClaimJob(job_id=str(job_id), worker_id=self._name)
        answer = await self._bus.ask(subjects.JOB_CLAIM, claim, timeout_s=5)
        assert isinstance(answer, JobClaimed)
        return answer

    async def report(self, claimed: JobClaimed, chunk: int, *, failed: Iterable[int] = ()) -> ItemsEmbedded:
        """Compute one chunk and report it."""
        report = await self.compute(claimed, chunk, failed=failed)
        await self.publish(report)
        return report

    async def compute(self, claimed: JobClaimed, chunk: int, *, failed: Iterable[int] = ()) -> ItemsEmbedded:
        """Write the vectors of a chunk and return the report, unpublished."""
        first = chunk * claimed.spec.chunk_size
        count = min(claimed.spec.chunk_size, claimed.spec.item_count - first)
        failures = [ItemError(index=index, code="INVALID_INPUT", message="It is bad.") for index in failed]
        vectors = np.stack([vector_of(index) for index in range(first, first + count)])
        key = f"jobs/{claimed.job_id}/{claimed.attempt}/{chunk}"
        await self._objects.put(key, vectors.astype("<f4").tobytes())
        return ItemsEmbedded(
            job_id=claimed.job_id,
            attempt=claimed.attempt,
            chunk=chunk,
            first_index=first,
            count=count,
            dimension=DIMENSION,
            vectors_key=key,
            truncated=[False] * count,
            failures=failures,
            tokens=self.tokens,
            compute_s=self.compute_s,
        )

    async def publish(self, report: ItemsEmbedded | JobAttemptFailed) -> None:
        """Send a report as it is."""
        await self._bus.publish(subjects.job_event(report.job_id), report)

    async def finish(self, claimed: JobClaimed) -> None:
        """Report every chunk that is not done."""
        for chunk in range(num_chunks(claimed.spec.item_count)):
            if chunk not in claimed.done_chunks:
                await self.report(claimed, chunk)

    async def give_up(self, claimed: JobClaimed, message: str) -> None:
        """Report that no attempt will succeed."""
        await self.publish(
            JobAttemptFailed(
                job_id=claimed.job_id, attempt=claimed.attempt, code="INVALID_INPUT", message=message
            )
        )


def num_chunks(item_count: int) -> int:
    """Return how many chunks of ``CHUNK_SIZE`` a job has."""
    return -(-item_count // CHUNK_SIZE)


HOSTED = HostedPipeline(
    name="test-text", version="1", modality="TEXT", dimension=DIMENSION, pool="default", auto_rank=1
)


class Replica:
    """The durable half of one server process."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, *, poll_s: float = 0.2) -> None:
        self.db = db
        self.bus = bus
        self.counted = Counted()
        meter = self.counted.meter
        self.pipelines = Pipelines(db, bus)
        self.outbox = OutboxRelay(db, bus, meter=meter, poll_s=poll_s)
        self.claims = Claims(db, bus, meter=meter)
        self.usage = UsageMeter(db)
        self.work_claims = WorkClaims(db, bus, meter=meter)
        self.projection = Projection(db, bus, self.usage, meter=meter, wake=self.outbox.wake)
        self.history = JobHistory(db, bus, objects, poll_s=poll_s)
        self.detector = ContentDetector()
        self.uploads = Uploads(db, objects, self.detector, max_upload_bytes=MAX_BYTES)
        self.deployments = Deployments(db, bus, self.pipelines)
        selector = Selector(self.pipelines, self.deployments)
        inputs = JobInputs(db, objects, self.uploads, selector, max_inputs=100, max_text_bytes=MAX_BYTES)
        self.cancellations = JobCancellations(db, bus, meter=meter)
        backlog = Backlog(db, max_of_user=MAX_OPEN_OF_USER, max_of_pool=MAX_OPEN_OF_POOL)
        self.jobs = EmbeddingJobs(db, objects, inputs, self.usage, backlog=backlog, wake=self.outbox.wake)

    async def start(self) -> None:
        """Start everything but the outbox and the projection, which most tests step by hand."""
        await self.pipelines.start()
        await self.claims.start()
        await self.work_claims.start()
        await self.hear_of(HOSTED)

    async def close(self) -> None:
        """Stop all of it."""
        await self.projection.close()
        await self.outbox.close()
        await self.work_claims.close()
        await self.claims.close()
        await self.pipelines.close()

    async def hear_of(self, *hosted: HostedPipeline) -> None:
        """Be told by a worker what it hosts."""
        announced = PipelinesAnnounced(worker_id="worker-1", pipelines=list(hosted))
        await self.bus.tell(subjects.PIPELINES_ANNOUNCED, announced)
        wanted = {one.name for one in hosted}
        async with asyncio.timeout(5):
            while True:
                if wanted == {pipeline.name for pipeline in await self.pipelines.list_available()}:
                    return
                await asyncio.sleep(0.001)

    async def create(self, principal: Principal, item_count: int) -> EmbeddingJobRecord:
        """Create a job of short texts, with chunks of ``CHUNK_SIZE``."""
        texts = [f"text {index}" for index in range(item_count)]
        job = await self.jobs.create(principal, CreateJobRequest(texts=texts))
        await self.db.execute(
            "UPDATE embedding_jobs SET chunk_size = {} WHERE job_id = {}", CHUNK_SIZE, job.id
        )
        return job

    async def history_of(self, job: EmbeddingJobRecord, after: str | None = None) -> list[JobEventRecord]:
        """Read all that a subscriber of an ended job gets."""
        async with asyncio.timeout(10):
            return [record async for record in self.history.subscribe(job.user_id, job.id, after)]


async def make_user(db: Database) -> Principal:
    """Add a user with a key that may embed and read."""
    user_id, key_id = new_id(), new_id()
    scopes = [Scope.EMBED.value, Scope.READ.value]
    await db.execute(
        "INSERT INTO users (id, email, password_hash) VALUES ({}, {}, {})",
        user_id,
        f"{user_id}@example.com",
        "x",
    )
    await db.execute(
        "INSERT INTO api_keys (id, user_id, name, prefix, secret_digest, scopes)"
        " VALUES ({}, {}, 'test', 'twh', {}, {}::text[])",
        key_id,
        user_id,
        key_id.bytes,
        scopes,
    )
    return Principal(
        user_id=user_id,
        credential_id=key_id,
        kind=CredentialKind.API_KEY,
        scopes=frozenset(map(Scope, scopes)),
    )
