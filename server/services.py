"""The services of one server process, and how they are started and stopped."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import msgspec

from bus.client import NatsBus
from bus.objects import ObjectStore
from bus.port import Bus
from server.auth.accounts import Accounts
from server.auth.activity import Activity
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.passwords import Passwords
from server.auth.sessions import SessionLifetimes, Sessions
from server.auth.sockets import SocketRegistry
from server.backlog import Backlog
from server.claims import Claims
from server.content import ContentDetector
from server.database import Database
from server.dead_letters import DeadLetterMover
from server.embedding_jobs import EmbeddingJobs
from server.embeddings import Embeddings, EmbedLimits
from server.events import JobHistory
from server.health import Health, missing_streams
from server.job_cancellations import JobCancellations
from server.job_inputs import JobInputs
from server.limits import AccountLimits
from server.outbox import OutboxRelay
from server.pipelines import Pipelines
from server.projections import Projection
from server.retention import Retention
from server.selection import Selector
from server.settings import Settings
from server.telemetry import Telemetry
from server.uploads import Uploads
from server.usage import UsageMeter


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What the faces may use; handlers ask for them by these names."""

    accounts: Accounts
    sessions: Sessions
    api_keys: ApiKeys
    authenticator: Authenticator
    sockets: SocketRegistry
    uploads: Uploads
    pipelines: Pipelines
    selector: Selector
    embeddings: Embeddings
    usage: UsageMeter
    embedding_jobs: EmbeddingJobs
    job_history: JobHistory
    job_cancellations: JobCancellations
    health: Health


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the services stand on."""

    settings: Settings
    telemetry: Telemetry
    db: Database
    bus: Bus
    objects: ObjectStore


@asynccontextmanager
async def open_services(settings: Settings, telemetry: Telemetry) -> AsyncIterator[Services]:
    """Connect, start everything, and stop it again in reverse order."""
    async with AsyncExitStack() as stack:
        db = await Database.open(settings.database_url)
        stack.push_async_callback(db.close)
        bus = await NatsBus.connect(settings.nats_url, name="server", credentials=settings.nats_credentials)
        stack.push_async_callback(bus.close)
        parts = _Parts(
            settings=settings,
            telemetry=telemetry,
            db=db,
            bus=bus,
            objects=ObjectStore.open(settings.object_store_url),
        )
        yield await _start(parts, stack)


async def _start(parts: _Parts, stack: AsyncExitStack) -> Services:
    db, bus, objects, settings = parts.db, parts.bus, parts.objects, parts.settings
    meter = parts.telemetry.meter

    passwords = Passwords(threads=settings.password_threads, queue=settings.password_queue)
    stack.callback(passwords.close)
    activity = Activity(db)
    activity.start()
    stack.push_async_callback(activity.close)
    limits = AccountLimits()
    authenticator = Authenticator(db, activity, session_idle_s=settings.session_idle_s)
    lifetimes = SessionLifetimes(lifetime_s=settings.session_lifetime_s, idle_s=settings.session_idle_s)

    detector = ContentDetector()
    stack.callback(detector.close)
    uploads = Uploads(db, objects, detector, max_upload_bytes=settings.max_upload_bytes)
    pipelines = Pipelines(db, bus)
    selector = Selector(pipelines)
    usage = UsageMeter(db)
    usage.start()
    stack.push_async_callback(usage.close)
    embeddings = Embeddings(
        bus, uploads, selector, usage, replica_id=uuid4().hex, limits=_embed_limits(settings)
    )
    relay = OutboxRelay(db, bus, meter=meter)
    sockets = SocketRegistry(bus, authenticator, activity)
    cancellations = JobCancellations(db, bus, meter=meter)
    for service in (
        sockets,
        pipelines,
        embeddings,
        relay,
        cancellations,
        DeadLetterMover(bus, meter=meter),
        Claims(db, bus, meter=meter),
        Projection(db, bus, usage, meter=meter),
    ):
        await service.start()
        stack.push_async_callback(service.close)
    retention = Retention(db, objects, retention_s=settings.job_retention_s, meter=meter)
    retention.start()
    stack.push_async_callback(retention.close)

    return Services(
        accounts=Accounts(db, passwords, limits),
        sessions=Sessions(db, bus, passwords=passwords, limits=limits, lifetimes=lifetimes),
        api_keys=ApiKeys(db, bus),
        authenticator=authenticator,
        sockets=sockets,
        uploads=uploads,
        pipelines=pipelines,
        selector=selector,
        embeddings=embeddings,
        usage=usage,
        embedding_jobs=EmbeddingJobs(
            db,
            objects,
            _job_inputs(settings, uploads, selector),
            usage,
            backlog=_backlog(parts),
            wake=relay.wake,
        ),
        job_history=JobHistory(db, bus, objects),
        job_cancellations=cancellations,
        health=_health(parts, pipelines),
    )


def _embed_limits(settings: Settings) -> EmbedLimits:
    return EmbedLimits(
        timeout_s=settings.embed_timeout_s,
        max_inputs=settings.max_inputs,
        max_text_bytes=settings.max_text_bytes,
        cache_bytes=settings.cache_bytes,
    )


def _job_inputs(settings: Settings, uploads: Uploads, selector: Selector) -> JobInputs:
    return JobInputs(
        uploads, selector, max_inputs=settings.max_job_inputs, max_text_bytes=settings.max_text_bytes
    )


def _backlog(parts: _Parts) -> Backlog:
    settings = parts.settings
    return Backlog(
        parts.db, max_of_user=settings.max_open_jobs_per_user, max_of_pool=settings.max_open_jobs_per_pool
    )


def _health(parts: _Parts, pipelines: Pipelines) -> Health:
    async def check_database() -> str | None:
        return None if await parts.db.is_reachable() else "no answer"

    async def check_bus() -> str | None:
        return None if await parts.bus.is_connected() else "not connected"

    async def check_pools() -> str | None:
        return None if await pipelines.list_available() else "no worker hosts a pipeline yet"

    return Health(
        {
            "database": check_database,
            "bus": check_bus,
            "streams": missing_streams(parts.bus, pipelines),
            "pools": check_pools,
        }
    )
