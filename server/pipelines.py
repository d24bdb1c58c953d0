"""Which pipelines there are: what workers announce, and a table of all that were ever seen."""

import logging
import time
from collections.abc import Callable, Collection
from typing import Any, Final
from uuid import UUID

import msgspec

from bus import subjects
from bus.envelope import Message
from bus.messages import AnnouncePipelines, HostedPipeline, PipelinesAnnounced
from bus.port import Bus, Subscription
from server.database import Database, DatabaseUnavailable
from server.errors import NotFound, PipelineUnavailable
from server.ids import new_id
from server.paging import PageQuery, page
from server.records import Modality, Page, PageRequest, PipelineRecord

_logger = logging.getLogger(__name__)

#: A worker speaks every 2 s; after five times that it counts as gone.
UNSEEN_S: Final = 10.0
#: What a caller may be told to wait: a worker takes about this long to load its models.
_RETRY_AFTER_S: Final = 5.0


class _Host(msgspec.Struct):
    """One worker and what it hosts. ``since`` and ``last_seen`` are in the clock's seconds."""

    hosted: list[HostedPipeline]
    records: dict[str, PipelineRecord]
    since: float
    last_seen: float
    #: Where it loads deployed models, if it does.
    models_pool: str | None = None


class Pipelines:
    """Follows the workers' announcements. Availability is what this replica has heard lately."""

    def __init__(self, db: Database, bus: Bus, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._hosts: dict[str, _Host] = {}
        #: The newest row of each pipeline this replica knows, as not available. This and the two below have
        #: no more entries than the table has rows; only workers and operators add to that.
        self._rows: dict[str, PipelineRecord] = {}
        self._last_seen: dict[str, float] = {}
        #: Pipelines whose last worker said goodbye, rather than falling silent.
        self._left: set[str] = set()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Read the table, listen, and ask every worker to announce itself now."""
        for row in await self._db.fetch("SELECT * FROM pipelines"):
            self._remember(_record_of(row))
        self._subscription = await self._bus.follow(subjects.PIPELINES_ANNOUNCED, self._hear)
        await self._bus.tell(subjects.PIPELINES_WANTED, AnnouncePipelines())

    async def close(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            await self._subscription.close()

    async def get(self, name: str) -> PipelineRecord:
        """Return a pipeline that is or was hosted.

        Raises:
            NotFound: nobody has ever announced it.
        """
        known = self._find_live(name) or self._rows.get(name)
        # PostgreSQL takes neither NUL nor half a surrogate pair.
        if known is None and name.isprintable():
            # Another replica may have heard of it first.
            row = await self._db.fetch_one("SELECT * FROM pipelines WHERE name = {}", name)
            known = None if row is None else self._remember(_record_of(row))
        if known is None:
            raise NotFound("There is no pipeline of this name.", path=("pipeline",))
        return self._with_reason(known)

    async def get_by_id(self, pipeline_id: UUID) -> PipelineRecord:
        """Return a pipeline that is or was hosted.

        Raises:
            NotFound: there is none.
        """
        row = await self._db.fetch_one("SELECT * FROM pipelines WHERE id = {}", pipeline_id)
        if row is None:
            raise NotFound("There is no such pipeline.")
        return self._current(row)

    async def find_many(self, ids: Collection[UUID]) -> list[PipelineRecord]:
        """Return those of the pipelines that are or were hosted, in any order."""
        rows = await self._db.fetch("SELECT * FROM pipelines WHERE id = ANY({}::uuid[])", list(ids))
        return [self._current(row) for row in rows]

    async def page(self, modality: Modality | None, request: PageRequest) -> Page[PipelineRecord]:
        """List all that are or were hosted, the newest first.

        Raises:
            InvalidInput: see ``server.paging.keyset``.
        """
        query = PageQuery(table="pipelines", with_total=True)
        if modality is not None:
            query = msgspec.structs.replace(query, where="modality = {}", args=(modality.value,))
        return await page(self._db, query, request, self._current)

    async def list_available(self) -> list[PipelineRecord]:
        """List what can be used now, by name."""
        names = {name for host in self._hosts.values() for name in host.records}
        return [record for name in sorted(names) if (record := self._find_live(name)) is not None]

    async def find_auto(self, modality: Modality) -> PipelineRecord | None:
        """Return the pipeline `auto` takes for a modality now."""
        names = {
            record.name
            for host in self._hosts.values()
            for record in host.records.values()
            if record.modality == modality and record.auto_rank is not None
        }
        live = [record for name in names if (record := self._find_live(name)) is not None]
        return min(live, key=_auto_order, default=None)

    def find_models_pool(self) -> str | None:
        """Return the pool whose workers load deployed models now; of several, every server takes the same."""
        oldest = self._clock() - UNSEEN_S
        return min(
            (
                host.models_pool
                for host in self._hosts.values()
                if host.models_pool is not None and host.last_seen >= oldest
            ),
            default=None,
        )

    async def require_available(self, name: str) -> PipelineRecord:
        """Return a pipeline that can be used now.

        Raises:
            NotFound: nobody has ever announced it.
            PipelineUnavailable: no worker hosts it at the moment.
        """
        return usable(self._find_live(name) or await self.get(name))

    def is_known(self, modality: Modality) -> bool:
        """Whether some pipeline for this modality was ever hosted here."""
        return any(record.modality == modality for record in self._rows.values())

    def _find_live(self, name: str) -> PipelineRecord | None:
        """Of several workers that host a pipeline, the one whose announcement is the newest decides."""
        oldest = self._clock() - UNSEEN_S
        newest: _Host | None = None
        for host in self._hosts.values():
            if host.last_seen < oldest or name not in host.records:
                continue
            if newest is None or host.since > newest.since:
                newest = host
        return None if newest is None else newest.records[name]

    def _current(self, row: dict[str, Any]) -> PipelineRecord:
        record = self._remember(_record_of(row))
        return self._find_live(record.name) or self._with_reason(record)

    def _remember(self, record: PipelineRecord) -> PipelineRecord:
        self._rows[record.name] = record
        return record

    def _with_reason(self, record: PipelineRecord) -> PipelineRecord:
        if record.available:
            return record
        seen = self._last_seen.get(record.name)
        if seen is None:
            reason = "No worker has announced it since this server started."
        elif record.name in self._left:
            reason = "The last worker that hosted it has shut down."
        else:
            reason = f"No worker has announced it for {self._clock() - seen:.0f} s."
        return msgspec.structs.replace(record, reason=reason)

    async def _hear(self, message: Message) -> None:
        if not isinstance(message, PipelinesAnnounced):
            _logger.warning("%s has no place on the registry's subject", type(message).__name__)
            return
        self._forget_the_silent()
        if message.leaving:
            self._let_go(message.worker_id)
            return
        try:
            await self._welcome(message)
        except DatabaseUnavailable as error:
            # It will say the same again in 2 s.
            _logger.warning("what worker %s hosts could not be stored: %s", message.worker_id, error)

    async def _welcome(self, message: PipelinesAnnounced) -> None:
        now = self._clock()
        host = self._hosts.get(message.worker_id)
        if host is None or host.hosted != message.pipelines:
            records = {hosted.name: await self._store(hosted) for hosted in message.pipelines}
            host = _Host(hosted=message.pipelines, records=records, since=now, last_seen=now)
            self._hosts[message.worker_id] = host
        host.last_seen = now
        host.models_pool = message.models_pool
        for name in host.records:
            self._last_seen[name] = now
            self._left.discard(name)

    def _let_go(self, worker_id: str) -> None:
        host = self._hosts.pop(worker_id, None)
        if host is not None:
            self._left.update(name for name in host.records if self._find_live(name) is None)

    def _forget_the_silent(self) -> None:
        oldest = self._clock() - UNSEEN_S
        for worker_id in [key for key, host in self._hosts.items() if host.last_seen < oldest]:
            del self._hosts[worker_id]

    async def _store(self, hosted: HostedPipeline) -> PipelineRecord:
        known = self._rows.get(hosted.name)
        if known is None or not _is_same(known, hosted):
            [row] = await self._db.fetch(
                """
                INSERT INTO pipelines
                    (id, name, version, modality, dimension, pool, max_tokens, auto_rank, description)
                VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {})
                ON CONFLICT (name) DO UPDATE SET
                    version = excluded.version, modality = excluded.modality,
                    dimension = excluded.dimension, pool = excluded.pool,
                    max_tokens = excluded.max_tokens, auto_rank = excluded.auto_rank,
                    description = excluded.description
                RETURNING *
                """,
                new_id(),
                hosted.name,
                hosted.version,
                hosted.modality,
                hosted.dimension,
                hosted.pool,
                hosted.max_tokens,
                hosted.auto_rank,
                hosted.description,
            )
            known = self._remember(_record_of(row))
        return msgspec.structs.replace(known, available=True)


def usable(record: PipelineRecord) -> PipelineRecord:
    """Return a pipeline if it can be used now.

    Raises:
        PipelineUnavailable: it can't, and why.
    """
    if not record.available:
        raise PipelineUnavailable(
            f"The pipeline {record.name} is not available: {record.reason}",
            path=("pipeline",),
            retry_after_s=_RETRY_AFTER_S,
        )
    return record


_SHARED: Final = tuple(field.name for field in msgspec.structs.fields(HostedPipeline))


def _auto_order(record: PipelineRecord) -> tuple[int, str]:
    return record.auto_rank or 0, record.name


def _is_same(record: PipelineRecord, hosted: HostedPipeline) -> bool:
    return all(getattr(record, name) == getattr(hosted, name) for name in _SHARED)


def _record_of(row: dict[str, Any]) -> PipelineRecord:
    return PipelineRecord(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        modality=Modality(row["modality"]),
        dimension=row["dimension"],
        pool=row["pool"],
        max_tokens=row["max_tokens"],
        auto_rank=row["auto_rank"],
        description=row["description"],
        available=False,
    )
