"""Embedding jobs: work that outlives the request, told by its history and fetched as one file."""

from collections.abc import AsyncIterator, Callable, Collection
from uuid import UUID

import msgspec

from bus import subjects
from bus.messages import EmbedJob
from bus.objects import ObjectStore
from server.auth.principal import Principal, Scope
from server.backlog import Backlog
from server.database import Database
from server.dataset_rows import hold_dataset
from server.errors import Conflict, NotFound
from server.idempotency import digest_of, find_earlier_job
from server.ids import new_id
from server.job_inputs import CreateJobRequest, JobInputs
from server.job_payloads import ITEMS_EMBEDDED, ChunkEmbedded, chunk_key, decode_payload
from server.job_rows import (
    EMBEDDING,
    EMBEDDING_JOBS,
    NewJob,
    add_job,
    add_to_outbox,
    embedding_job_record,
)
from server.job_vectors import npy_header, npy_rows
from server.model_rows import hold_model
from server.paging import PageQuery, page
from server.records import EmbeddingJobRecord, JobState, Page, PageRequest, PipelineRecord, UsageRecord
from server.usage import UsageMeter

#: Vectors of one chunk weigh at most this, so that a chunk of any pipeline is read in one go.
_MAX_CHUNK_BYTES = 200_000
_MAX_CHUNK_ITEMS = 64
#: References to chunks that a download reads from the database at once.
_CHUNKS_READ = 32


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is about to be written."""

    id: UUID
    user_id: UUID
    request_digest: bytes
    idempotency_key: str | None
    pipeline: PipelineRecord
    inputs_key: str
    item_count: int
    dataset_id: UUID | None

    @property
    def chunk_size(self) -> int:
        """How many items are reported at a time."""
        return max(1, min(_MAX_CHUNK_ITEMS, _MAX_CHUNK_BYTES // (4 * self.pipeline.dimension)))


class EmbeddingJobs:
    """Creates, finds and delivers embedding jobs."""

    def __init__(
        self,
        db: Database,
        objects: ObjectStore,
        inputs: JobInputs,
        usage: UsageMeter,
        *,
        backlog: Backlog,
        wake: Callable[[], None],
    ) -> None:
        self._db = db
        self._objects = objects
        self._inputs = inputs
        self._usage = usage
        self._backlog = backlog
        # Called after each commit that put something into the outbox.
        self._wake = wake

    async def create(self, principal: Principal, request: CreateJobRequest) -> EmbeddingJobRecord:
        """Accept a job. Once this returns, the job is run, whatever dies.

        Raises:
            Forbidden: the credential lacks the scope EMBED.
            InvalidInput: the path names the field.
            NotFound: a file, a data set or a pipeline that isn't there (path ``file_ids`` and index,
                ``dataset_id`` or ``pipeline``).
            DatasetInvalid: the data set is INVALID (path ``dataset_id``).
            UnsupportedMedia: no pipeline takes a file of this kind (path ``file_ids`` and index).
            PipelineUnavailable: no worker hosts the pipeline now.
            Busy: the user, or the pipeline's pool, has too many unfinished jobs; or the database or the
                object store can't be reached.
            Conflict: the idempotency key was used for another request (path ``idempotency_key``), or the
                data set is still VALIDATING (path ``dataset_id``).
        """
        principal.require(Scope.EMBED)
        self._inputs.check(request)
        digest = digest_of(_asked_of(request))
        earlier = await find_earlier_job(
            self._db, principal.user_id, EMBEDDING, key=request.idempotency_key, digest=digest
        )
        if earlier is not None:
            return await self.get(principal.user_id, earlier)
        resolved = await self._inputs.resolve(principal.user_id, request)
        await self._backlog.check(principal.user_id, resolved.pipeline.pool)
        job_id = new_id()
        draft = _Draft(
            id=job_id,
            user_id=principal.user_id,
            request_digest=digest,
            idempotency_key=request.idempotency_key,
            pipeline=resolved.pipeline,
            inputs_key=f"jobs/{job_id}/inputs",
            item_count=resolved.item_count,
            dataset_id=resolved.dataset_id,
        )
        await self._inputs.store(resolved, draft.inputs_key)
        if not await self._write(draft):
            # Known not to be written. After an error it may be, and then its inputs are needed.
            await self._objects.delete(draft.inputs_key)
            return await self.create(principal, request)
        self._wake()
        self._usage.record(principal.user_id, UsageRecord(requests=1, bytes=resolved.num_bytes))
        return await self.get(principal.user_id, job_id)

    async def get(self, user_id: UUID, job_id: UUID) -> EmbeddingJobRecord:
        """Return one job.

        Raises:
            NotFound: no such job, or somebody else's.
        """
        row = await self._db.fetch_one(
            f"SELECT * FROM {EMBEDDING_JOBS} WHERE id = {{}} AND user_id = {{}}",  # noqa: S608 - SQL of ours
            job_id,
            user_id,
        )
        if row is None:
            raise NotFound("There is no such job.", path=("job_id",))
        return embedding_job_record(row)

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[EmbeddingJobRecord]:
        """Return those of the jobs that there are and that are the user's, in any order."""
        rows = await self._db.fetch(
            f"SELECT * FROM {EMBEDDING_JOBS} WHERE id = ANY({{}}::uuid[]) AND user_id = {{}}",  # noqa: S608 - SQL of ours
            list(ids),
            user_id,
        )
        return [embedding_job_record(row) for row in rows]

    async def page(self, user_id: UUID, request: PageRequest) -> Page[EmbeddingJobRecord]:
        """Return some of a user's jobs, newest first."""
        query = PageQuery(table=EMBEDDING_JOBS, where="user_id = {} AND kind = {}", args=(user_id, EMBEDDING))
        return await page(self._db, query, request, embedding_job_record)

    async def result(self, user_id: UUID, job_id: UUID) -> tuple[int, AsyncIterator[bytes]]:
        """Return the size in bytes and the bytes of a .npy file of all vectors.

        Its array is float32 of shape (item_count, dimension), in input order; rows of failed items are NaN.

        Raises:
            NotFound: no such job, or somebody else's.
            Conflict: the job has not succeeded.
        """
        job = await self.get(user_id, job_id)
        if job.state != JobState.SUCCEEDED or job.dimension is None:
            wait = "It ended without one." if job.state.is_final else "It is not finished."
            raise Conflict(f"The job has no result. {wait}", path=("job_id",))
        header = npy_header(job.item_count, job.dimension)
        return len(header) + 4 * job.item_count * job.dimension, self._npy(job_id, header)

    async def _npy(self, job_id: UUID, header: bytes) -> AsyncIterator[bytes]:
        yield header
        first = 0
        while chunks := await self._chunks(job_id, first):
            for chunk in chunks:
                yield await npy_rows(self._objects, chunk)
            first += _CHUNKS_READ

    async def _chunks(self, job_id: UUID, first: int) -> list[ChunkEmbedded]:
        """Return up to ``_CHUNKS_READ`` chunks by their number, from the first one asked for."""
        rows = await self._db.fetch(
            "SELECT payload FROM job_events WHERE job_id = {} AND item_key = ANY({}::text[])",
            job_id,
            [chunk_key(chunk) for chunk in range(first, first + _CHUNKS_READ)],
        )
        payloads = [decode_payload(ITEMS_EMBEDDED, row["payload"]) for row in rows]
        chunks = [payload for payload in payloads if isinstance(payload, ChunkEmbedded)]
        return sorted(chunks, key=lambda chunk: chunk.first_index)

    async def _write(self, draft: _Draft) -> bool:
        """Write all rows of a job at once; False if what was looked up has changed meanwhile."""
        model = draft.pipeline.model
        async with self._db.transaction():
            # Neither can be deleted from here on as long as the job is open.
            if draft.dataset_id is not None and not await hold_dataset(
                self._db, draft.user_id, draft.dataset_id
            ):
                return False
            if model is not None and not await hold_model(self._db, draft.user_id, UUID(model.model_id)):
                return False
            job = NewJob(
                id=draft.id,
                user_id=draft.user_id,
                kind=EMBEDDING,
                idempotency_key=draft.idempotency_key,
                request_digest=draft.request_digest,
            )
            if not await add_job(self._db, job):
                return False
            await self._db.execute(
                "INSERT INTO embedding_jobs"
                " (job_id, pipeline_name, inputs_key, item_count, chunk_size, dimension,"
                " pool, model, model_id, dataset_id) VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
                draft.id,
                draft.pipeline.name,
                draft.inputs_key,
                draft.item_count,
                draft.chunk_size,
                draft.pipeline.dimension,
                draft.pipeline.pool,
                # As it is now: a job is answered by one model from first to last.
                None if model is None else msgspec.msgpack.encode(model),
                None if model is None else UUID(model.model_id),
                draft.dataset_id,
            )
            await add_to_outbox(
                self._db,
                subjects.embed_job(draft.pipeline.pool, str(draft.id)),
                EmbedJob(
                    job_id=str(draft.id), publish_number=1, is_short=draft.item_count <= draft.chunk_size
                ),
            )
        return True


def _asked_of(request: CreateJobRequest) -> tuple[object, ...]:
    """Return what tells two requests under one idempotency key apart."""
    asked = (request.texts, request.file_ids, request.pipeline)
    # A job that an earlier release has made of the same request keeps its digest.
    return asked if request.dataset_id is None else (*asked, request.dataset_id)
