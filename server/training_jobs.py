"""Trainings: started after everything about them was checked, found, resumed, and looked into."""

from collections.abc import AsyncIterator, Collection
from uuid import UUID

import msgspec

from bus.messages import TrainerParameters
from bus.objects import ObjectStore
from server.auth.principal import Principal, Scope
from server.database import Database
from server.dataset_rows import find_dataset, hold_dataset, invalid_dataset
from server.dispatch import Dispatch
from server.errors import NotFound, QuotaExceeded
from server.field_problems import FieldProblem, InvalidParameters
from server.idempotency import check_key, find_earlier_job
from server.ids import new_id
from server.job_payloads import SAMPLES_GENERATED, SamplesShown
from server.lane_rows import TRAINING, LaneDraft, add_lane_job
from server.model_rows import find_model, hold_model
from server.object_access import reaching_objects
from server.paging import PageQuery, page
from server.records import Page, PageRequest
from server.training_parameters import fit_problems
from server.training_records import DatasetStatus, TrainingJobRecord
from server.training_requests import (
    CheckedTraining,
    StartTrainingRequest,
    below_trainer,
    check_training,
    spec_of,
)
from server.training_resume import ResumeLimits, TrainingResumption
from server.training_rows import TRAINING_COLUMNS, TRAININGS, TRAININGS_OF_USER, training_job_record

__all__ = ["StartTrainingRequest", "TrainingJobs", "TrainingLimits"]

_OPEN = """
SELECT count(*) AS num_open FROM (
    SELECT 1 FROM jobs
    WHERE user_id = {} AND kind = {} AND state IN ('QUEUED', 'RUNNING', 'CANCELLING') LIMIT {}
) AS open_jobs
"""


class TrainingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one user may have, and one attempt may take."""

    max_open_of_user: int = 100
    max_seconds: int = 24 * 3600


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A training that is about to be written."""

    job: LaneDraft
    request: StartTrainingRequest
    parameters: TrainerParameters
    #: What the data set was when everything was checked.
    dataset_status: DatasetStatus


class TrainingJobs:
    """Starts, resumes and finds trainings."""

    def __init__(
        self,
        db: Database,
        objects: ObjectStore,
        resumption: TrainingResumption,
        dispatch: Dispatch,
        *,
        limits: TrainingLimits,
    ) -> None:
        self._db = db
        self._objects = objects
        self._resumption = resumption
        self._dispatch = dispatch
        self._limits = limits

    async def start(self, principal: Principal, request: StartTrainingRequest) -> TrainingJobRecord:
        """Accept a training. Once this returns, it is run when its turn comes, whatever dies.

        With a data set that is VALIDATING it waits, and fails if that turns out to be INVALID.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            InvalidParameters: everything that is wrong with the request and, where the data set is READY,
                with the two together; paths are relative to the request, those of hyper-parameters begin
                with ``trainer`` and its name in lower case.
            InvalidInput: the idempotency key can't be one (path ``idempotency_key``).
            NotFound: no such data set or model, or somebody else's (path ``dataset_id`` or
                ``parent_model_id``).
            DatasetInvalid: the data set can't be trained on; the message is its first issue (path
                ``dataset_id``).
            QuotaExceeded: the user has too many unfinished trainings.
            Busy: the user has too many unfinished jobs.
            Conflict: the idempotency key was used for another request (path ``idempotency_key``).
        """
        principal.require(Scope.TRAIN)
        check_key(request.idempotency_key)
        checked = check_training(request, max_seconds=self._limits.max_seconds)
        earlier = await find_earlier_job(
            self._db, principal.user_id, TRAINING, key=request.idempotency_key, digest=checked.digest
        )
        if earlier is not None:
            return await self.get(principal.user_id, earlier)
        draft = await self._prepare(principal.user_id, request, checked)
        if not await self._write(draft):
            return await self.start(principal, request)
        self._dispatch.wake()
        return await self.get(principal.user_id, draft.job.id)

    async def resume(
        self,
        principal: Principal,
        job_id: UUID,
        *,
        max_steps: int | None = None,
        max_seconds: int | None = None,
    ) -> TrainingJobRecord:
        """Let a training that has ended go on from its last checkpoint; see `TrainingResumption.resume`.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            NotFound: no such training, or somebody else's (path ``job_id``).
            QuotaExceeded, Busy: as for a new one.
            InvalidParameters, Conflict, JobFinished, DatasetInvalid: see there.
        """
        principal.require(Scope.TRAIN)
        await self.get(principal.user_id, job_id)
        await self._check_quota(principal.user_id)
        limits = ResumeLimits(
            max_steps=max_steps, max_seconds=max_seconds, ceiling_s=self._limits.max_seconds
        )
        await self._resumption.resume(principal.user_id, job_id, limits)
        self._dispatch.wake()
        return await self.get(principal.user_id, job_id)

    async def get(self, user_id: UUID, job_id: UUID) -> TrainingJobRecord:
        """Return one training.

        Raises:
            NotFound: no such training, or somebody else's (path ``job_id``).
        """
        found = await self.find_many(user_id, [job_id])
        if not found:
            raise NotFound("There is no such job.", path=("job_id",))
        return found[0]

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[TrainingJobRecord]:
        """Return those of the trainings that there are and that are the user's, in any order."""
        rows = await self._db.fetch(
            f"SELECT {TRAINING_COLUMNS} FROM {TRAININGS}"  # noqa: S608 - SQL of ours
            f" WHERE {TRAININGS_OF_USER} AND jobs.id = ANY({{}}::uuid[])",
            user_id,
            list(ids),
        )
        return [training_job_record(row) for row in rows]

    async def page(self, user_id: UUID, request: PageRequest) -> Page[TrainingJobRecord]:
        """Return some of a user's trainings, newest first.

        Raises:
            InvalidInput: see ``server.paging.keyset``.
        """
        query = PageQuery(
            table=TRAININGS,
            columns=TRAINING_COLUMNS,
            id_column="jobs.id",
            where=TRAININGS_OF_USER,
            args=(user_id,),
        )
        return await page(self._db, query, request, training_job_record)

    async def sample(self, user_id: UUID, job_id: UUID, seq: int) -> tuple[str, AsyncIterator[bytes]]:
        """Return the media type and the bytes of something that a training has made to look at.

        Args:
            user_id: whose training it is.
            job_id: the training.
            seq: which row of its history tells of it.

        Raises:
            NotFound: no such sample, or somebody else's.
        """
        row = await self._db.fetch_one(
            "SELECT job_events.payload FROM job_events JOIN jobs ON jobs.id = job_events.job_id"
            " WHERE jobs.id = {} AND jobs.user_id = {} AND jobs.kind = {}"
            " AND job_events.seq = {} AND job_events.kind = {}",
            job_id,
            user_id,
            TRAINING,
            # What no row has, rather than what PostgreSQL does not take.
            min(max(seq, 0), 2**63 - 1),
            SAMPLES_GENERATED,
        )
        if row is None:
            raise NotFound("There is no such sample.")
        sample = msgspec.msgpack.decode(row["payload"], type=SamplesShown)
        return sample.media_type, self._read(sample.object_key)

    async def _read(self, key: str) -> AsyncIterator[bytes]:
        with reaching_objects():
            async for chunk in self._objects.stream(key):
                yield chunk

    async def _prepare(
        self, user_id: UUID, request: StartTrainingRequest, checked: CheckedTraining
    ) -> _Draft:
        """Check a request against what there is; see `start` for what is raised."""
        problems, parameters = list(checked.problems), checked.parameters
        dataset = await find_dataset(self._db, user_id, request.dataset_id)
        if parameters is not None and dataset is not None and dataset.status is DatasetStatus.READY:
            problems += below_trainer(request.trainer, fit_problems(parameters, dataset))
        if parameters is None or problems:
            raise InvalidParameters(tuple(problems))
        if dataset is None:
            raise NotFound("There is no such data set.", path=("dataset_id",))
        if dataset.status is DatasetStatus.INVALID:
            raise invalid_dataset(dataset)
        await self._check_parent(user_id, request)
        await self._check_quota(user_id)
        job = LaneDraft(
            id=new_id(),
            user_id=user_id,
            kind=TRAINING,
            pool=self._dispatch.trainers.choose_pool(),
            priority=request.priority,
            is_ready=dataset.status is DatasetStatus.READY,
            idempotency_key=request.idempotency_key,
            request_digest=checked.digest,
        )
        return _Draft(job=job, request=request, parameters=parameters, dataset_status=dataset.status)

    async def _check_parent(self, user_id: UUID, request: StartTrainingRequest) -> None:
        if request.parent_model_id is None:
            return
        row = await find_model(self._db, user_id, request.parent_model_id)
        if row is None:
            raise _no_parent()
        if row["trainer"] != request.trainer:
            message = f"A training of {request.trainer} can't begin with a model of {row['trainer']}."
            raise InvalidParameters((FieldProblem(path=("parent_model_id",), message=message),))

    async def _check_quota(self, user_id: UUID) -> None:
        """Return if the user may have one more; no lock: what is started in the same moment may pass it."""
        limit = self._limits.max_open_of_user
        [row] = await self._db.fetch(_OPEN, user_id, TRAINING, limit)
        if row["num_open"] >= limit:
            raise QuotaExceeded(
                f"You have {limit} unfinished trainings, and no more are taken until some have ended."
            )
        await self._dispatch.backlog.check_user(user_id)

    async def _write(self, draft: _Draft) -> bool:
        """Write all rows of a training at once; False if what was checked has changed meanwhile."""
        request, user_id = draft.request, draft.job.user_id
        spec = spec_of(request, draft.parameters, max_seconds=self._limits.max_seconds)
        async with self._db.transaction():
            # From here on the data set's rows are found out either before, which is seen here, or after,
            # and then whoever finds out sees this training and lets it go on.
            if await hold_dataset(self._db, user_id, request.dataset_id) is not draft.dataset_status:
                return False
            parent_id = request.parent_model_id
            if parent_id is not None and not await hold_model(self._db, user_id, parent_id):
                raise _no_parent()
            if not await add_lane_job(self._db, draft.job):
                return False
            await self._db.execute(
                "INSERT INTO training_jobs (job_id, name, trainer, dataset_id, spec, parent_id, total_steps)"
                " VALUES ({}, {}, {}, {}, {}, {}, {})",
                draft.job.id,
                request.name,
                request.trainer.value,
                request.dataset_id,
                msgspec.msgpack.encode(spec),
                parent_id,
                request.max_steps or 0,
            )
        return True


def _no_parent() -> NotFound:
    return NotFound("There is no such model.", path=("parent_model_id",))
