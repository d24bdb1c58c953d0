"""Every stream and consumer of the bus, as one table, and how it is put in place.

The streams of work are work queues that refuse new work when they are full: the publisher hears of it and
can tell its caller, and nothing that was accepted is dropped. Who counts attempts is the claim; a message at
its consumer's limit would stay in a work queue for ever, so that limit is far away, and what reaches it is
moved to the dead letters by the servers.
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
#: Long work: trainings, and the validations and generations beside them.
WORK = "WORK"
INTERACTIVE = "INTERACTIVE"
JOB_EVENTS = "JOB_EVENTS"
#: Copies of messages that were given up, until somebody drops them or they are too old.
DLQ = "DLQ"
#: What the server tells of messages that were given up.
ADVISORIES = "ADVISORIES"

#: The consumer of the servers' projection.
PROJECTION = "projection"
#: The consumer of the servers' mover of dead letters.
GIVEN_UP = "given_up"
_BULK_PREFIX = "embed_bulk_"
_INTERACTIVE_PREFIX = "embed_interactive_"
_TRAIN_PREFIX = "train_"
_DATA_PREFIX = "data_"

_RETENTION = {"workqueue": "work queue", "limits": "kept until too old"}

MINUTE_S = 60.0
DAY_S = 24 * 60 * MINUTE_S
MIB = 1024 * 1024


def embed_bulk(pool: str) -> str:
    """Name the consumer of a pool's embedding jobs."""
    return f"{_BULK_PREFIX}{pool}"


def embed_interactive(pool: str) -> str:
    """Name the consumer of a pool's interactive lane."""
    return f"{_INTERACTIVE_PREFIX}{pool}"


def train_lane(pool: str) -> str:
    """Name the consumer of a pool's trainings."""
    return f"{_TRAIN_PREFIX}{pool}"


def data_lane(pool: str) -> str:
    """Name the consumer of a pool's validations and generations."""
    return f"{_DATA_PREFIX}{pool}"


def stream_of(consumer: str) -> str:
    """Return the stream a consumer reads; both belong to the same table, so the name tells.

    Raises:
        BusError: no consumer of the table has such a name.
    """
    if consumer == PROJECTION:
        return JOB_EVENTS
    if consumer == GIVEN_UP:
        return ADVISORIES
    for prefix, stream in (
        (_BULK_PREFIX, JOBS),
        (_INTERACTIVE_PREFIX, INTERACTIVE),
        (_TRAIN_PREFIX, WORK),
        (_DATA_PREFIX, WORK),
    ):
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
    dead_letters_max_bytes: int = 256 * MIB
    #: Deliveries of a job after which it is a dead letter. Far above what claims allow, and with their
    #: pauses more than eight hours: only a message that nobody can even begin with comes this far.
    jobs_max_deliver: int = 1000


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One stream. Sizes in bytes, durations in seconds, -1 for no limit."""

    name: str
    subject: str
    #: Further subjects, where one pattern does not say it.
    more_subjects: tuple[str, ...] = ()
    storage: Literal["file", "memory"]
    max_bytes: int
    max_age_s: float
    duplicate_window_s: float
    max_messages: int = -1
    allow_msg_ttl: bool = False
    num_replicas: int = 1
    retention: Literal["workqueue", "limits"] = "workqueue"
    #: What gives way when it is full: ``new`` work is refused, ``old`` messages are dropped.
    discard: Literal["new", "old"] = "new"

    def takes(self, subject: str) -> bool:
        """Whether what is published on a subject is kept here."""
        return any(subjects.matches(pattern, subject) for pattern in (self.subject, *self.more_subjects))

    def to_wire(self) -> dict[str, Any]:
        """Return the stream configuration as the JetStream API takes it (ADR-8, durations in ns)."""
        return {
            "name": self.name,
            "subjects": [self.subject, *self.more_subjects],
            "retention": self.retention,
            "storage": self.storage,
            "discard": self.discard,
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
    #: Empty for all of the stream.
    filter_subject: str
    ack_wait_s: float
    #: Per consumer, not per worker: a small number would starve the second worker.
    max_ack_pending: int = 20_000
    #: Open pulls, so more than there will ever be workers.
    max_waiting: int = 4096
    #: -1 for no limit.
    max_deliver: int = -1

    def to_wire(self) -> dict[str, Any]:
        """Return the consumer configuration as the JetStream API takes it (durations in ns)."""
        return {
            "name": self.name,
            "durable_name": self.name,
            **({"filter_subject": self.filter_subject} if self.filter_subject else {}),
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": _nanoseconds(self.ack_wait_s),
            "max_deliver": self.max_deliver,
            "max_ack_pending": self.max_ack_pending,
            "max_waiting": self.max_waiting,
        }


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """All streams and all consumers."""

    streams: tuple[StreamSpec, ...]
    consumers: tuple[ConsumerSpec, ...]

    @classmethod
    def for_pools(cls, pools: Sequence[str], *, limits: Limits | None = None) -> "Topology":
        """Return the table for these pools of workers."""
        limits = limits or Limits()
        consumers = [
            ConsumerSpec(
                name=PROJECTION,
                stream=JOB_EVENTS,
                filter_subject=subjects.JOB_EVENTS_ALL,
                ack_wait_s=limits.ack_wait_s,
            ),
            ConsumerSpec(name=GIVEN_UP, stream=ADVISORIES, filter_subject="", ack_wait_s=limits.ack_wait_s),
        ]
        for pool in pools:
            lanes = (
                (embed_bulk(pool), subjects.embed_jobs(pool), limits.jobs_max_deliver),
                (embed_interactive(pool), subjects.interactive(pool), -1),
                (train_lane(pool), subjects.train_jobs(pool), -1),
                (data_lane(pool), subjects.data_jobs(pool), -1),
            )
            consumers += [
                ConsumerSpec(
                    name=name,
                    stream=stream_of(name),
                    filter_subject=subject,
                    ack_wait_s=limits.ack_wait_s,
                    max_deliver=max_deliver,
                )
                for name, subject, max_deliver in lanes
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
            name=WORK,
            subject=subjects.TRAIN_JOBS_ALL,
            more_subjects=(subjects.DATA_JOBS_ALL,),
            storage="file",
            max_messages=limits.jobs_max_messages,
            max_bytes=limits.jobs_max_bytes,
            # A training may wait this long for its turn.
            max_age_s=30 * DAY_S,
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
        *_streams_of_the_dead(limits),
    )


def _streams_of_the_dead(limits: Limits) -> tuple[StreamSpec, ...]:
    # Both let the oldest go when they are full: what must not be lost is in the database, and whoever gives
    # a message up must never have to wait for room.
    return (
        StreamSpec(
            name=DLQ,
            subject=subjects.DEAD_LETTERS_ALL,
            storage="file",
            max_messages=100_000,
            max_bytes=limits.dead_letters_max_bytes,
            max_age_s=30 * DAY_S,
            duplicate_window_s=10 * MINUTE_S,
            num_replicas=limits.num_replicas,
            retention="limits",
            discard="old",
        ),
        StreamSpec(
            name=ADVISORIES,
            subject=subjects.LIMITS_REACHED,
            more_subjects=(subjects.TERMINATIONS,),
            storage="file",
            max_messages=100_000,
            max_bytes=64 * MIB,
            max_age_s=7 * DAY_S,
            duplicate_window_s=MINUTE_S,
            num_replicas=limits.num_replicas,
            discard="old",
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
    taken = ", ".join((spec.subject, *spec.more_subjects))
    return Resource(
        label=f"stream {spec.name}",
        summary=f"{spec.storage}, {_RETENTION[spec.retention]}, {taken}",
        info=f"STREAM.INFO.{spec.name}",
        create=f"STREAM.CREATE.{spec.name}",
        update=f"STREAM.UPDATE.{spec.name}",
        config=spec.to_wire(),
    )


def _consumer(spec: ConsumerSpec) -> Resource:
    create = f"CONSUMER.CREATE.{spec.stream}.{spec.name}"
    if spec.filter_subject:
        create = f"{create}.{spec.filter_subject}"
    envelope: Mapping[str, Any] = {"stream_name": spec.stream}
    return Resource(
        label=f"consumer {spec.name} of {spec.stream}",
        summary=spec.filter_subject or "all of it",
        info=f"CONSUMER.INFO.{spec.stream}.{spec.name}",
        create=create,
        update=create,
        config=spec.to_wire(),
        envelope=envelope,
    )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
