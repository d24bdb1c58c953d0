"""Generations: pictures or texts that a trained model makes, as files of their owner."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from bus.messages import GanParameters, GenerationSpec
from server.auth.principal import Principal, Scope
from server.database import Database
from server.dispatch import Dispatch
from server.errors import InvalidInput, NotFound
from server.field_problems import FieldProblem, InvalidParameters
from server.idempotency import check_key, digest_of, find_earlier_job
from server.ids import new_id
from server.lane_rows import GENERATION, LaneDraft, add_lane_job
from server.model_rows import find_model, hold_model
from server.paging import PageQuery, page
from server.records import Page, PageRequest, Record
from server.training_records import GenerationJobRecord
from server.training_rows import (
    GENERATIONS,
    GENERATIONS_OF_USER,
    generation_job_record,
    training_spec,
)
from server.uploads import Uploads

#: Classes that a refusal names.
_NAMED: Final = 20


class GenerateRequest(Record, frozen=True):
    """Which model makes what."""

    model_id: UUID
    spec: GenerationSpec
    #: The same key with the same request answers with the same job.
    idempotency_key: str | None = None


class Generations:
    """Creates and finds generations."""

    def __init__(
        self,
        db: Database,
        uploads: Uploads,
        dispatch: Dispatch,
    ) -> None:
        self._db = db
        self._uploads = uploads
        self._dispatch = dispatch

    async def create(self, principal: Principal, request: GenerateRequest) -> GenerationJobRecord:
        """Accept a job. Once this returns, it is run when its turn comes, whatever dies.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            InvalidInput: the model makes nothing (path ``model_id``), the idempotency key can't be one, or,
                as InvalidParameters, all that is wrong with the spec (paths relative to it).
            NotFound: no such model, or somebody else's (path ``model_id``).
            Busy: the user has too many unfinished jobs.
            Conflict: the idempotency key was used for another request (path ``idempotency_key``).
        """
        principal.require(Scope.TRAIN)
        check_key(request.idempotency_key)
        _check_spec(request.spec)
        user_id = principal.user_id
        digest = digest_of((request.model_id, request.spec))
        earlier = await find_earlier_job(
            self._db, user_id, GENERATION, key=request.idempotency_key, digest=digest
        )
        if earlier is not None:
            return await self.get(user_id, earlier)
        await self._check_model(user_id, request)
        await self._dispatch.backlog.check_user(user_id)
        draft = LaneDraft(
            id=new_id(),
            user_id=user_id,
            kind=GENERATION,
            pool=self._dispatch.trainers.choose_pool(),
            idempotency_key=request.idempotency_key,
            request_digest=digest,
        )
        if not await self._write(draft, request):
            return await self.create(principal, request)
        self._dispatch.wake()
        return await self.get(user_id, draft.id)

    async def get(self, user_id: UUID, job_id: UUID) -> GenerationJobRecord:
        """Return one job.

        Raises:
            NotFound: no such job, or somebody else's (path ``job_id``).
        """
        found = await self.find_many(user_id, [job_id])
        if not found:
            raise NotFound("There is no such job.", path=("job_id",))
        return found[0]

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[GenerationJobRecord]:
        """Return those of the jobs that there are and that are the user's, in any order."""
        rows = await self._db.fetch(
            f"SELECT * FROM {GENERATIONS} WHERE {GENERATIONS_OF_USER}"  # noqa: S608 - SQL of ours
            " AND jobs.id = ANY({}::uuid[])",
            user_id,
            list(ids),
        )
        return await self._records(user_id, rows)

    async def page(self, user_id: UUID, request: PageRequest) -> Page[GenerationJobRecord]:
        """Return some of a user's jobs, newest first.

        Raises:
            InvalidInput: see ``server.paging.keyset``.
        """
        query = PageQuery(table=GENERATIONS, id_column="jobs.id", where=GENERATIONS_OF_USER, args=(user_id,))
        rows = await page(self._db, query, request, lambda row: row)
        return Page(
            items=await self._records(user_id, rows.items),
            cursors=rows.cursors,
            has_next=rows.has_next,
            has_previous=rows.has_previous,
            total=rows.total,
        )

    async def _records(self, user_id: UUID, rows: Sequence[dict[str, Any]]) -> list[GenerationJobRecord]:
        wanted = {file_id for row in rows for file_id in row["file_ids"]}
        found = await self._uploads.find_many(user_id, wanted) if wanted else []
        files = {file.id: file for file in found}
        return [generation_job_record(row, files) for row in rows]

    async def _check_model(self, user_id: UUID, request: GenerateRequest) -> None:
        row = await find_model(self._db, user_id, request.model_id)
        if row is None:
            raise _no_model()
        if row["generates"] is None:
            raise InvalidInput("The model generates nothing.", path=("model_id",))
        if row["generates"] != "texts" and request.spec.prompt:
            raise InvalidInput("A model of pictures takes no prompt.", path=("prompt",))
        label = request.spec.label
        if label is None:
            return
        classes = await self._classes(row)
        if not classes:
            raise InvalidInput("The model can't be asked for a class.", path=("label",))
        if label not in classes:
            raise InvalidInput(
                f"There is no such class. There are {', '.join(classes[:_NAMED])}.", path=("label",)
            )

    async def _classes(self, model: dict[str, Any]) -> list[str]:
        """Return the classes that a model can be asked for: those of its data, of a conditional GAN."""
        row = await self._db.fetch_one(
            "SELECT spec, classes FROM training_jobs JOIN datasets ON datasets.id = training_jobs.dataset_id"
            " WHERE training_jobs.job_id = {}",
            model["job_id"],
        )
        if row is None:
            return []
        parameters = training_spec(row).parameters
        is_conditional = isinstance(parameters, GanParameters) and parameters.conditional
        return row["classes"] if is_conditional else []

    async def _write(self, draft: LaneDraft, request: GenerateRequest) -> bool:
        """Write all rows at once; False if the idempotency key has been taken meanwhile."""
        async with self._db.transaction():
            if not await hold_model(self._db, draft.user_id, request.model_id):
                raise _no_model()
            if not await add_lane_job(self._db, draft):
                return False
            await self._db.execute(
                "INSERT INTO generation_jobs (job_id, model_id, spec) VALUES ({}, {}, {})",
                draft.id,
                request.model_id,
                msgspec.msgpack.encode(request.spec),
            )
        return True


def _check_spec(spec: GenerationSpec) -> None:
    """Check ranges, field by field: a struct that was made in code has been checked by nobody.

    Raises:
        InvalidParameters: every field that is wrong.
    """
    problems = []
    for field in msgspec.structs.fields(GenerationSpec):
        value = getattr(spec, field.name)
        try:
            msgspec.convert(value, field.type)
            if isinstance(value, str):
                # A lone surrogate is a character of Python's and of no message.
                value.encode()
        except msgspec.ValidationError as error:
            message = f"{field.name} can't be this: {str(error)[:1].lower()}{str(error)[1:]}."
            problems.append(FieldProblem(path=(field.name,), message=message))
        except UnicodeEncodeError:
            message = f"{field.name} is not valid Unicode: it contains half of a surrogate pair."
            problems.append(FieldProblem(path=(field.name,), message=message))
    if problems:
        raise InvalidParameters(tuple(problems))


def _no_model() -> NotFound:
    return NotFound("There is no such model.", path=("model_id",))
