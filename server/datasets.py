"""Data sets: made of an upload or of a sample, looked at by a train worker, read by trainings."""

from collections.abc import Collection
from contextlib import suppress
from typing import Final
from uuid import UUID

import msgspec

from bus.errors import ObjectNotFound
from bus.messages import SampleSource, UploadedSource
from bus.objects import ObjectStore
from server.auth.principal import Principal, Scope
from server.database import Database
from server.dataset_facts import dataset_record
from server.dataset_rows import OF_USER, find_dataset, folder_of
from server.dispatch import Dispatch
from server.errors import Busy, Conflict, InvalidInput, JobFinished, NotFound, QuotaExceeded
from server.idempotency import check_key, digest_of, find_earlier_job
from server.ids import new_id
from server.job_cancellations import JobCancellations
from server.lane_rows import DATASET, LaneDraft, add_lane_job
from server.object_access import reaching_objects
from server.paging import PageQuery, page
from server.records import FileRecord, Page, PageRequest, Record
from server.training_records import DatasetKind, DatasetRecord, DatasetStatus
from server.uploads import Uploads

MAX_NAME_LENGTH: Final = 200
#: A train worker that starts is heard of within this.
_RETRY_AFTER_S: Final = 5.0

#: What a worker leaves to look at: object names and media types.
_PREVIEWS: Final = {"preview.png": "image/png", "preview.json": "application/json"}

_IN_USE = """
SELECT 1 AS found FROM training_jobs JOIN jobs ON jobs.id = training_jobs.job_id
WHERE training_jobs.dataset_id = {} AND jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING')
UNION ALL
SELECT 1 FROM embedding_jobs JOIN jobs ON jobs.id = embedding_jobs.job_id
WHERE jobs.user_id = {} AND embedding_jobs.dataset_id = {}
    AND jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING')
LIMIT 1
"""

# Under a lock on the name: deleted data sets count, so that a version never means two.
_INSERT = """
INSERT INTO datasets (id, user_id, name, version, status, job_id, file_id, sample, source, object_key)
VALUES (
    {}, {}, {}, (SELECT 1 + coalesce(max(version), 0) FROM datasets WHERE user_id = {} AND name = {}),
    {}, {}, {}, {}, {}, {}
)
"""


class CreateDatasetRequest(Record, frozen=True):
    """Exactly one of ``file_id`` and ``sample``, the name of a data set that workers have installed."""

    name: str
    file_id: UUID | None = None
    sample: str | None = None
    #: The same key with the same request answers with the same data set.
    idempotency_key: str | None = None


class _Draft(Record, frozen=True):
    """A data set that is about to be written."""

    id: UUID
    request: CreateDatasetRequest
    job: LaneDraft
    #: None for a sample.
    file: FileRecord | None

    @property
    def source(self) -> UploadedSource | SampleSource:
        """What the worker is told of where the rows come from."""
        if self.file is None:
            return SampleSource(name=self.request.sample or "")
        return UploadedSource(
            object_key=self.file.object_key,
            name=self.file.name,
            media_type=self.file.media_type,
            byte_size=self.file.byte_size,
        )


class Datasets:
    """Creates, finds and deletes data sets; what was deleted is emptied by `server.leftovers`."""

    def __init__(
        self,
        db: Database,
        objects: ObjectStore,
        uploads: Uploads,
        dispatch: Dispatch,
        cancellations: JobCancellations,
        *,
        max_of_user: int,
    ) -> None:
        self._db = db
        self._objects = objects
        self._uploads = uploads
        self._dispatch = dispatch
        self._cancellations = cancellations
        self._max_of_user = max_of_user

    async def create(self, principal: Principal, request: CreateDatasetRequest) -> DatasetRecord:
        """Accept a data set, VALIDATING until a worker has looked at every row.

        The file may be deleted at once: its bytes stay until they have been looked at. A name in use gets a
        new version.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            InvalidInput: the path names the field; an unknown sample is answered with the known ones.
            NotFound: no such file, or somebody else's (path ``file_id``).
            QuotaExceeded: the user has as many data sets as they may.
            Busy: the user has too many unfinished jobs, or no worker is there to say what samples it has.
            Conflict: the idempotency key was used for another request (path ``idempotency_key``), or for a
                data set that was deleted since.
        """
        principal.require(Scope.TRAIN)
        _check(request)
        user_id = principal.user_id
        digest = digest_of((request.name, request.file_id, request.sample))
        earlier = await find_earlier_job(
            self._db, user_id, DATASET, key=request.idempotency_key, digest=digest
        )
        if earlier is not None:
            return await self._made_by(user_id, earlier)
        file = await self._find_source(user_id, request)
        await self._check_quota(user_id)
        draft = _Draft(
            id=new_id(),
            request=request,
            file=file,
            job=LaneDraft(
                id=new_id(),
                user_id=user_id,
                kind=DATASET,
                pool=self._dispatch.trainers.choose_pool(request.sample),
                idempotency_key=request.idempotency_key,
                request_digest=digest,
            ),
        )
        if not await self._write(draft):
            return await self.create(principal, request)
        self._dispatch.wake()
        return await self.get(user_id, draft.id)

    async def get(self, user_id: UUID, dataset_id: UUID) -> DatasetRecord:
        """Return one data set.

        Raises:
            NotFound: no such data set, or somebody else's (path ``dataset_id``).
        """
        record = await find_dataset(self._db, user_id, dataset_id)
        if record is None:
            raise NotFound("There is no such data set.", path=("dataset_id",))
        return record

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[DatasetRecord]:
        """Return those of the data sets that there are and that are the user's, in any order."""
        return await self._find(OF_USER, user_id, ids)

    async def find_even_deleted(self, user_id: UUID, ids: Collection[UUID]) -> list[DatasetRecord]:
        """Return those of the data sets that there are or were, for what was made of them."""
        return await self._find("user_id = {}", user_id, ids)

    async def _find(self, where: str, user_id: UUID, ids: Collection[UUID]) -> list[DatasetRecord]:
        rows = await self._db.fetch(
            f"SELECT * FROM datasets WHERE {where} AND id = ANY({{}}::uuid[])",  # noqa: S608 - SQL of ours
            user_id,
            list(ids),
        )
        return [dataset_record(row) for row in rows]

    async def page(self, user_id: UUID, request: PageRequest) -> Page[DatasetRecord]:
        """Return some of a user's data sets, newest first.

        Raises:
            InvalidInput: see ``server.paging.keyset``.
        """
        query = PageQuery(table="datasets", where=OF_USER, args=(user_id,))
        return await page(self._db, query, request, dataset_record)

    async def preview(self, user_id: UUID, dataset_id: UUID) -> tuple[str, bytes]:
        """Return the media type and the bytes of something that shows what is in a data set.

        Raises:
            NotFound: no such data set, or somebody else's (path ``dataset_id``).
            Conflict: it is not READY.
        """
        record = await self.get(user_id, dataset_id)
        if record.status != DatasetStatus.READY:
            raise Conflict(f"The data set is {record.status}, and has no preview.", path=("dataset_id",))
        likely = "preview.png" if record.kind == DatasetKind.IMAGES else "preview.json"
        for name in (likely, *(_PREVIEWS.keys() - {likely})):
            try:
                with reaching_objects():
                    return _PREVIEWS[name], await self._objects.get(f"{folder_of(dataset_id)}/{name}")
            except ObjectNotFound:
                continue
        raise NotFound("The data set has no preview.", path=("dataset_id",))

    async def delete(self, principal: Principal, dataset_id: UUID) -> DatasetRecord:
        """Delete a data set. Models that were trained on it stay, and its name counts on from its version.

        One that is being looked at is looked at no more.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            NotFound: no such data set, or somebody else's (path ``dataset_id``).
            Conflict: a job that has not ended needs it.
        """
        principal.require(Scope.TRAIN)
        user_id = principal.user_id
        async with self._db.transaction():
            # Against jobs that are being made of it, until this is decided.
            await self._db.execute(
                "SELECT 1 FROM datasets WHERE id = {} AND user_id = {} FOR UPDATE", dataset_id, user_id
            )
            record = await self.get(user_id, dataset_id)
            if await self._db.fetch_one(_IN_USE, dataset_id, user_id, dataset_id) is not None:
                raise Conflict("A job that has not ended needs the data set.", path=("dataset_id",))
            [row] = await self._db.fetch(
                "UPDATE datasets SET deleted_at = now() WHERE id = {} RETURNING job_id", dataset_id
            )
        if record.status is DatasetStatus.VALIDATING:
            # What comes of a look that has ended in this moment is emptied like the rest.
            with suppress(JobFinished, NotFound):
                await self._cancellations.cancel(principal, row["job_id"], DATASET)
        return record

    async def _made_by(self, user_id: UUID, job_id: UUID) -> DatasetRecord:
        row = await self._db.fetch_one(
            f"SELECT * FROM datasets WHERE job_id = {{}} AND {OF_USER}",  # noqa: S608 - SQL of ours
            job_id,
            user_id,
        )
        if row is None:
            raise Conflict("What was made with this key has been deleted.", path=("idempotency_key",))
        return dataset_record(row)

    async def _find_source(self, user_id: UUID, request: CreateDatasetRequest) -> FileRecord | None:
        """Return the file that the data set is made of, or None for a sample that there is."""
        if request.file_id is not None:
            try:
                return await self._uploads.get(user_id, request.file_id)
            except NotFound as error:
                raise _no_file() from error
        if not self._dispatch.trainers.pools():
            raise Busy("No train worker is there to say what samples it has.", retry_after_s=_RETRY_AFTER_S)
        known = self._dispatch.trainers.samples()
        if request.sample not in known:
            named = f"There are {', '.join(known)}." if known else "None is installed."
            raise InvalidInput(f"There is no sample of this name. {named}", path=("sample",))
        return None

    async def _check_quota(self, user_id: UUID) -> None:
        """Return if the user may have one more; no lock: what is created in the same moment may pass it."""
        [row] = await self._db.fetch(
            "SELECT count(*) AS num_datasets FROM datasets WHERE user_id = {} AND deleted_at IS NULL", user_id
        )
        if row["num_datasets"] >= self._max_of_user:
            raise QuotaExceeded(f"You have {self._max_of_user} data sets. Delete some of them first.")
        await self._dispatch.backlog.check_user(user_id)

    async def _write(self, draft: _Draft) -> bool:
        """Write all rows at once; False if the idempotency key has been taken meanwhile."""
        user_id, request, file = draft.job.user_id, draft.request, draft.file
        async with self._db.transaction():
            if not await add_lane_job(self._db, draft.job):
                return False
            if file is not None:
                try:
                    await self._uploads.hold(file)
                except NotFound as error:
                    raise _no_file() from error
            await self._db.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended({}, 0))", f"data sets {user_id} {request.name}"
            )
            await self._db.execute(
                _INSERT,
                draft.id,
                user_id,
                request.name,
                user_id,
                request.name,
                DatasetStatus.VALIDATING.value,
                draft.job.id,
                request.file_id,
                request.sample,
                msgspec.msgpack.encode(draft.source),
                None if file is None else file.object_key,
            )
        return True


def _check(request: CreateDatasetRequest) -> None:
    if not is_name(request.name):
        raise InvalidInput(f"A name has 1 to {MAX_NAME_LENGTH} printable characters.", path=("name",))
    if (request.file_id is None) == (request.sample is None):
        raise InvalidInput("Give exactly one of a file and a sample.", path=("file_id",))
    if request.sample is not None and not is_name(request.sample):
        raise InvalidInput("There is no sample of this name.", path=("sample",))
    check_key(request.idempotency_key)


def is_name(name: str) -> bool:
    """Whether a data set or a training may be called so."""
    # PostgreSQL takes neither NUL nor half a surrogate pair, and neither is printable.
    return 0 < len(name) <= MAX_NAME_LENGTH and name.isprintable() and not name.isspace()


def _no_file() -> NotFound:
    return NotFound("There is no such file.", path=("file_id",))
