"""Every stream and consumer of the bus, as one table, and how it is put in place.

All streams are work queues that refuse new work when they are full: the publisher hears of it and can
tell its caller, and nothing that was accepted is dropped. Consumers deliver without a limit on attempts,
because a message at its limit would stay in a work queue for ever; who counts attempts is the claim.
Only `apply` creates anything. Servers and workers bind by name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from bus import subjects
from bus.connection import Connection
from bus.errors import BusError
from bus.provision import Resource, ensure, is_there

JOBS = "JOBS"
INTERACTIVE = "INTERACTIVE"
JOB_EVENTS = "JOB_EVENTS"

#: The consumer of the servers' projection.
PROJECTION = "projection"
_BULK_PREFIX = "embed_bulk_"
_INTERACTIVE_PREFIX = "embed_interactive_"

MINUTE_S = 60.0
DAY_S = 24 * 60 * MINUTE_S
MIB = 1024 * 1024


def embed_bulk(pool: str) -> str:
    """Name the consumer of a pool's embedding jobs."""
    return f"{_BULK_PREFIX}{pool}"


def embed_interactive(pool: str) -> str:
    """Name the consumer of a pool's interactive lane."""
    return f"{_INTERACTIVE_PREFIX}{pool}"


def stream_of(consumer: str) -> str:
    """Return the stream a consumer reads; both belong to the same table, so the name tells.

    Raises:
        BusError: no consumer of the table has such a name.
    """
    if consumer == PROJECTION:
        return JOB_EVENTS
    for prefix, stream in ((_BULK_PREFIX, JOBS), (_INTERACTIVE_PREFIX, INTERACTIVE)):
        if consumer.startswith(prefix):
            return stream
    raise BusError(f"no consumer is named {consumer}")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator, or a test, may set about the table."""

    #: How long a dead worker goes unnoticed; who works longer says so in between.
    ack_wait_s: float = 12.0
    #: Copies of each stream in a cluster.
    num_replicas: int = 1
    jobs_max_messages: int = 1_000_000
    jobs_max_bytes: int = 1024 * MIB
    interactive_max_bytes: int = 256 * MIB
    job_events_max_bytes: int = 4096 * MIB


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One work-queue stream. Sizes in bytes, durations in seconds, -1 for no limit."""

    name: str
    subject: str
    storage: Literal["file", "memory"]
    max_bytes: int
    max_age_s: float
    duplicate_window_s: float
    max_messages: int = -1
    allow_msg_ttl: bool = False
    num_replicas: int = 1

    def to_wire(self) -> dict[str, Any]:
        """Return the stream configuration as the JetStream API takes it (ADR-8, durations in ns)."""
        return {
            "name": self.name,
            "subjects": [self.subject],
            "retention": "workqueue",
            "storage": self.storage,
            "discard": "new",
            "max_msgs": self.max_messages,
            "max_bytes": self.max_bytes,
            "max_age": _nanoseconds(self.max_age_s),
            "duplicate_window": _nanoseconds(self.duplicate_window_s),
            "num_replicas": self.num_replicas,
            # Left out when false: the server leaves it out too, and the two are compared.
            **({"allow_msg_ttl": True} if self.allow_msg_ttl else {}),
        }


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One durable pull consumer with explicit acks."""

    name: str
    stream: str
    filter_subject: str
    ack_wait_s: float
    #: Per consumer, not per worker: a small number would starve the second worker.
    max_ack_pending: int = 20_000
    #: Open pulls, so more than there will ever be workers.
    max_waiting: int = 4096

    def to_wire(self) -> dict[str, Any]:
        """Return the consumer configuration as the JetStream API takes it (durations in ns)."""
        return {
            "name": self.name,
            "durable_name": self.name,
            "filter_subject": self.filter_subject,
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": _nanoseconds(self.ack_wait_s),
            "max_deliver": -1,
            "max_ack_pending": self.max_ack_pending,
            "max_waiting": self.max_waiting,
        }


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """All streams and all consumers."""

    streams: tuple[StreamSpec, ...]
    consumers: tuple[ConsumerSpec, ...]

    @classmethod
    def for_pools(cls, pools: Sequence[str], *, limits: Limits | None = None) -> "Topology":
        """Return the table for these pools of embedding workers."""
        limits = limits or Limits()
        consumers = [
            ConsumerSpec(
                name=PROJECTION,
                stream=JOB_EVENTS,
                filter_subject=subjects.JOB_EVENTS_ALL,
                ack_wait_s=limits.ack_wait_s,
            )
        ]
        for pool in pools:
            lanes = (
                (embed_bulk(pool), subjects.embed_jobs(pool)),
                (embed_interactive(pool), subjects.interactive(pool)),
            )
            consumers += [
                ConsumerSpec(
                    name=name, stream=stream_of(name), filter_subject=subject, ack_wait_s=limits.ack_wait_s
                )
                for name, subject in lanes
            ]
        return cls(streams=_streams(limits), consumers=tuple(consumers))


def _streams(limits: Limits) -> tuple[StreamSpec, ...]:
    return (
        StreamSpec(
            name=JOBS,
            subject=subjects.EMBED_JOBS_ALL,
            storage="file",
            max_messages=limits.jobs_max_messages,
            max_bytes=limits.jobs_max_bytes,
            max_age_s=7 * DAY_S,
            duplicate_window_s=10 * MINUTE_S,
            num_replicas=limits.num_replicas,
        ),
        StreamSpec(
            name=INTERACTIVE,
            subject=subjects.INTERACTIVE_ALL,
            storage="memory",
            max_bytes=limits.interactive_max_bytes,
            # Nobody waits longer than this for an answer.
            max_age_s=MINUTE_S,
            duplicate_window_s=MINUTE_S,
            allow_msg_ttl=True,
            num_replicas=limits.num_replicas,
        ),
        StreamSpec(
            name=JOB_EVENTS,
            subject=subjects.JOB_EVENTS_ALL,
            storage="file",
            max_bytes=limits.job_events_max_bytes,
            max_age_s=7 * DAY_S,
            duplicate_window_s=10 * MINUTE_S,
            num_replicas=limits.num_replicas,
        ),
    )


async def apply(
    bus_url: str, topology: Topology, *, dry_run: bool = False, credentials: Path | None = None
) -> list[str]:
    """Create what is missing, update what differs, and return one readable line for each change.

    Streams and consumers that are not in the table are left alone: there may be work in them. Run it
    again after a single server has restarted, because its streams in memory are gone.

    Raises:
        TopologyRefused: the server does not accept a change, such as another kind of storage.
        BusUnavailable: no connection to the bus could be made.
        NotPermitted: this credential may not change streams.
    """
    connection = await Connection.open(bus_url, name="topology", credentials=credentials)
    try:
        changes = [await ensure(connection, _stream(spec), dry_run=dry_run) for spec in topology.streams]
        changes += [await ensure(connection, _consumer(spec), dry_run=dry_run) for spec in topology.consumers]
    finally:
        await connection.close()
    return [change for change in changes if change is not None]


async def exists(connection: Connection, consumer: str) -> bool:
    """Whether a consumer of the table, and with it its stream, is there.

    Raises:
        BusUnavailable: the server does not say.
        NotPermitted: this credential may not ask.
    """
    return await is_there(connection, f"CONSUMER.INFO.{stream_of(consumer)}.{consumer}")


def _stream(spec: StreamSpec) -> Resource:
    return Resource(
        label=f"stream {spec.name}",
        summary=f"{spec.storage}, work queue, {spec.subject}",
        info=f"STREAM.INFO.{spec.name}",
        create=f"STREAM.CREATE.{spec.name}",
        update=f"STREAM.UPDATE.{spec.name}",
        config=spec.to_wire(),
    )


def _consumer(spec: ConsumerSpec) -> Resource:
    create = f"CONSUMER.CREATE.{spec.stream}.{spec.name}.{spec.filter_subject}"
    envelope: Mapping[str, Any] = {"stream_name": spec.stream}
    return Resource(
        label=f"consumer {spec.name} of {spec.stream}",
        summary=spec.filter_subject,
        info=f"CONSUMER.INFO.{spec.stream}.{spec.name}",
        create=create,
        update=create,
        config=spec.to_wire(),
        envelope=envelope,
    )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
