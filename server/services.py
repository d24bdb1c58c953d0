"""The services of one server process, and how they are started and stopped."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
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
from server.datasets import Datasets
from server.dead_letters import DeadLetterMover
from server.deployments import Deployments
from server.embedding_jobs import EmbeddingJobs
from server.embeddings import Embeddings, EmbedLimits
from server.events import JobHistory
from server.generations import Generations
from server.health import Health, missing_streams
from server.instruments import observe
from server.job_cancellations import JobCancellations
from server.job_inputs import JobInputs
from server.limits import AccountLimits
from server.models import Models
from server.outbox import OutboxRelay
from server.pipelines import Pipelines
from server.projections import Projection
from server.retention import Retention
from server.selection import Selector
from server.settings import Settings
from server.telemetry import Telemetry
from server.trainers import Trainers
from server.training_jobs import TrainingJobs
from server.training_services import TrainingParts, start_training_services
from server.uploads import Uploads
from server.usage import UsageMeter
from server.work_claims import WorkClaims


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
    trainers: Trainers
    datasets: Datasets
    training_jobs: TrainingJobs
    models: Models
    deployments: Deployments
    generations: Generations
    health: Health


class _Service(Protocol):
    """Works in the background between the two."""

    async def start(self) -> None:
        """Begin."""

    async def close(self) -> None:
        """End in order."""


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
    db, bus, settings = parts.db, parts.bus, parts.settings
    doors = await _open_doors(parts, stack)
    embedding = await _start_embedding(parts, stack)
    relay = OutboxRelay(db, bus, meter=parts.telemetry.meter)
    cancellations = JobCancellations(db, bus, meter=parts.telemetry.meter)
    await _start_jobs(parts, stack, embedding.usage, relay=relay, cancellations=cancellations)
    limits = AccountLimits()
    lifetimes = SessionLifetimes(lifetime_s=settings.session_lifetime_s, idle_s=settings.session_idle_s)
    backlog = _backlog(parts)
    training = await start_training_services(
        _training_parts(parts, embedding, (relay, cancellations), backlog), stack
    )
    return Services(
        accounts=Accounts(db, doors.passwords, limits),
        sessions=Sessions(db, bus, passwords=doors.passwords, limits=limits, lifetimes=lifetimes),
        api_keys=ApiKeys(db, bus),
        authenticator=doors.authenticator,
        sockets=doors.sockets,
        uploads=embedding.uploads,
        pipelines=embedding.pipelines,
        selector=embedding.selector,
        embeddings=embedding.embeddings,
        usage=embedding.usage,
        embedding_jobs=EmbeddingJobs(
            db,
            parts.objects,
            _job_inputs(parts, embedding),
            embedding.usage,
            backlog=backlog,
            wake=relay.wake,
        ),
        job_history=JobHistory(db, bus, parts.objects),
        job_cancellations=cancellations,
        trainers=training.trainers,
        datasets=training.datasets,
        training_jobs=training.training_jobs,
        models=training.models,
        deployments=training.deployments,
        generations=training.generations,
        health=_health(parts, embedding.pipelines),
    )


class _Doors(msgspec.Struct, frozen=True, kw_only=True):
    """Who may come in."""

    passwords: Passwords
    authenticator: Authenticator
    sockets: SocketRegistry


async def _open_doors(parts: _Parts, stack: AsyncExitStack) -> _Doors:
    settings = parts.settings
    passwords = Passwords(threads=settings.password_threads, queue=settings.password_queue)
    stack.callback(passwords.close)
    activity = Activity(parts.db)
    activity.start()
    stack.push_async_callback(activity.close)
    authenticator = Authenticator(parts.db, activity, session_idle_s=settings.session_idle_s)
    sockets = SocketRegistry(parts.bus, authenticator, activity, max_of_user=settings.max_sockets_per_user)
    await _run(stack, sockets)
    return _Doors(passwords=passwords, authenticator=authenticator, sockets=sockets)


class _Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """From data to vectors."""

    uploads: Uploads
    pipelines: Pipelines
    deployments: Deployments
    selector: Selector
    embeddings: Embeddings
    usage: UsageMeter


async def _start_embedding(parts: _Parts, stack: AsyncExitStack) -> _Embedding:
    settings = parts.settings
    detector = ContentDetector()
    stack.callback(detector.close)
    uploads = Uploads(parts.db, parts.objects, detector, max_upload_bytes=settings.max_upload_bytes)
    pipelines = Pipelines(parts.db, parts.bus)
    deployments = Deployments(parts.db, parts.bus, pipelines)
    selector = Selector(pipelines, deployments)
    usage = UsageMeter(parts.db)
    usage.start()
    stack.push_async_callback(usage.close)
    embeddings = Embeddings(
        parts.bus, uploads, selector, usage, replica_id=uuid4().hex, limits=_embed_limits(settings)
    )
    await _run(stack, pipelines, embeddings)
    observe(parts.telemetry.meter, parts.bus, embeddings)
    return _Embedding(
        uploads=uploads,
        pipelines=pipelines,
        deployments=deployments,
        selector=selector,
        embeddings=embeddings,
        usage=usage,
    )


async def _start_jobs(
    parts: _Parts,
    stack: AsyncExitStack,
    usage: UsageMeter,
    *,
    relay: OutboxRelay,
    cancellations: JobCancellations,
) -> None:
    """Start what works in the background for jobs, those that send first."""
    db, bus, meter = parts.db, parts.bus, parts.telemetry.meter
    await _run(
        stack,
        relay,
        cancellations,
        DeadLetterMover(bus, meter=meter),
        Claims(db, bus, meter=meter),
        WorkClaims(db, bus, meter=meter),
        Projection(db, bus, usage, meter=meter, wake=relay.wake),
    )
    retention = Retention(db, parts.objects, retention_s=parts.settings.job_retention_s, meter=meter)
    retention.start()
    stack.push_async_callback(retention.close)


async def _run(stack: AsyncExitStack, *services: _Service) -> None:
    """Start services in this order, and stop them in reverse."""
    for service in services:
        await service.start()
        stack.push_async_callback(service.close)


def _embed_limits(settings: Settings) -> EmbedLimits:
    return EmbedLimits(
        timeout_s=settings.embed_timeout_s,
        max_inputs=settings.max_inputs,
        max_text_bytes=settings.max_text_bytes,
        cache_bytes=settings.cache_bytes,
    )


def _job_inputs(parts: _Parts, embedding: _Embedding) -> JobInputs:
    return JobInputs(
        parts.db,
        parts.objects,
        embedding.uploads,
        embedding.selector,
        max_inputs=parts.settings.max_job_inputs,
        max_text_bytes=parts.settings.max_text_bytes,
    )


def _training_parts(
    parts: _Parts, embedding: _Embedding, senders: tuple[OutboxRelay, JobCancellations], backlog: Backlog
) -> TrainingParts:
    relay, cancellations = senders
    return TrainingParts(
        settings=parts.settings,
        db=parts.db,
        bus=parts.bus,
        objects=parts.objects,
        uploads=embedding.uploads,
        pipelines=embedding.pipelines,
        deployments=embedding.deployments,
        backlog=backlog,
        cancellations=cancellations,
        wake=relay.wake,
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
