"""Work-queue streams inside one process, with the rules of the topology."""

import asyncio
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from bus import codec, subjects
from bus.dead_letters import Death, headers_of
from bus.delivery import MESSAGE_ID, MESSAGE_TTL, AlreadySettled, settle_unreadable
from bus.envelope import Message
from bus.errors import MalformedMessage, PublishFailed, StreamFull, UnknownMessage
from bus.port import Delivery
from bus.topology import ConsumerSpec, StreamSpec

Clock = Callable[[], float]


class _Stored:
    """One message of a stream. It may be delivered when ``available_at`` has come."""

    def __init__(self, subject: str, raw: bytes, headers: Mapping[str, str], expires_at: float) -> None:
        self.subject = subject
        self.raw = raw
        self.headers = MappingProxyType(dict(headers))
        self.expires_at = expires_at
        self.available_at = 0.0
        self.num_delivered = 0


class MemoryStream:
    """One work queue: messages in order, until they are acknowledged or too old."""

    def __init__(self, spec: StreamSpec, now: Clock) -> None:
        self.spec = spec
        self._now = now
        self._messages: dict[int, _Stored] = {}
        self._seq = 0
        self._seen: dict[str, float] = {}
        self._waiting: dict[asyncio.Event, None] = {}

    def __len__(self) -> int:
        self._expire()
        return len(self._messages)

    def store(self, subject: str, raw: bytes, headers: Mapping[str, str]) -> None:
        """Take a message, once for each message id.

        Raises:
            StreamFull: a limit of the stream is reached.
            PublishFailed: it carries a time to live and the stream knows none.
        """
        self._expire()
        message_id = headers.get(MESSAGE_ID)
        if message_id in self._seen:
            return
        lifetime_s = self.spec.max_age_s
        if MESSAGE_TTL in headers:
            if not self.spec.allow_msg_ttl:
                raise PublishFailed(f"{self.spec.name} takes no message with a time to live")
            lifetime_s = min(lifetime_s, float(headers[MESSAGE_TTL]))
        self._check_room(len(raw))
        self._seq += 1
        self._messages[self._seq] = _Stored(subject, raw, headers, self._now() + lifetime_s)
        if message_id is not None:
            self._seen[message_id] = self._now() + self.spec.duplicate_window_s
        self.wake()

    def _check_room(self, byte_size: int) -> None:
        is_full = 0 <= self.spec.max_messages <= len(self._messages)
        stored_bytes = sum(len(message.raw) for message in self._messages.values())
        if is_full or stored_bytes + byte_size > self.spec.max_bytes:
            raise StreamFull(self.spec.name)

    def take(self, spec: ConsumerSpec, limit: int) -> list[tuple[int, _Stored]]:
        """Lease up to ``limit`` messages that may be delivered now, oldest first."""
        self._expire()
        now = self._now()
        taken = [
            (seq, message)
            for seq, message in self._messages.items()
            if message.available_at <= now
            and not 0 < spec.max_deliver <= message.num_delivered
            and subjects.matches(spec.filter_subject, message.subject)
        ][:limit]
        for _, message in taken:
            message.num_delivered += 1
            message.available_at = now + spec.ack_wait_s
        return taken

    def given_up(self, spec: ConsumerSpec) -> list[tuple[int, _Stored]]:
        """Return what was delivered as often as the consumer allows, and is not in anybody's hands."""
        self._expire()
        now = self._now()
        return [
            (seq, message)
            for seq, message in self._messages.items()
            if 0 < spec.max_deliver <= message.num_delivered
            and message.available_at <= now
            and subjects.matches(spec.filter_subject, message.subject)
        ]

    def items(self) -> list[tuple[int, _Stored]]:
        """Return what is stored, oldest first."""
        self._expire()
        return list(self._messages.items())

    def postpone(self, seq: int, delay_s: float) -> None:
        """Deliver a message again no sooner than ``delay_s`` from now. One that is gone stays gone."""
        message = self._messages.get(seq)
        if message is not None:
            message.available_at = self._now() + delay_s
            self.wake()

    def remove(self, seq: int) -> None:
        """Forget a message."""
        self._messages.pop(seq, None)

    def clear(self) -> None:
        """Forget everything, as a restart does to a stream in memory."""
        self._messages.clear()
        self._seen.clear()

    def wake(self) -> None:
        """Let everybody who waits look again, in the order they came."""
        for waiting in self._waiting:
            waiting.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when something has changed, may be delivered again, or the time is up."""
        now = self._now()
        due = [message.available_at for message in self._messages.values() if message.available_at > now]
        changed = asyncio.Event()
        self._waiting[changed] = None
        try:
            async with asyncio.timeout(min([timeout_s, *(at - now for at in due)])):
                await changed.wait()
        except TimeoutError:
            pass
        finally:
            del self._waiting[changed]

    def _expire(self) -> None:
        now = self._now()
        for seq in [seq for seq, message in self._messages.items() if message.expires_at <= now]:
            del self._messages[seq]
        for message_id in [message_id for message_id, until in self._seen.items() if until <= now]:
            del self._seen[message_id]


class MemoryQueue(NamedTuple):
    """A consumer of a stream, and where its dead letters go."""

    stream: MemoryStream
    spec: ConsumerSpec
    dead: MemoryStream


class MemoryDelivery:
    """Satisfies `bus.port.Delivery`."""

    def __init__(self, queue: "MemoryQueue", seq: int, stored: _Stored) -> None:
        self._stream = queue.stream
        self._spec = queue.spec
        self._dead = queue.dead
        self._seq = seq
        self.raw = stored.raw
        self._is_settled = False
        self.subject = stored.subject
        self.headers = stored.headers
        self.num_delivered = stored.num_delivered

    @cached_property
    def message(self) -> Message:
        """The decoded message."""
        return codec.decode(self.raw)

    async def ack(self, *, is_confirmed: bool = True) -> None:  # noqa: ARG002 - nothing is lost here
        """Remove it."""
        self._settle()
        self._stream.remove(self._seq)

    async def nak(self, *, delay_s: float = 0.0) -> None:
        """Give it back."""
        self._settle()
        self._stream.postpone(self._seq, delay_s)

    async def term(self, reason: str) -> None:  # noqa: ARG002 - nobody reads reasons here
        """Remove it as hopeless."""
        self._settle()
        self._stream.remove(self._seq)

    async def dead_letter(self, death: Death) -> None:
        """Remove it and keep a copy."""
        headers = headers_of(
            self.headers, subject=self.subject, num_delivered=self.num_delivered, death=death
        )
        self._settle()
        self._dead.store(subjects.dead_letter(self.subject), self.raw, headers)
        self._stream.remove(self._seq)

    async def in_progress(self) -> None:
        """Ask for another ack wait."""
        self._stream.postpone(self._seq, self._spec.ack_wait_s)

    def _settle(self) -> None:
        if self._is_settled:
            raise AlreadySettled(self.subject)
        self._is_settled = True


class MemoryPuller:
    """Satisfies `bus.port.Puller`. It holds nothing back: what it takes it gives out at once."""

    def __init__(self, queue: MemoryQueue, now: Clock) -> None:
        self._queue = queue
        self._stream = queue.stream
        self._spec = queue.spec
        self._now = now
        self._is_closed = False

    async def fetch(self, *, limit: int, wait_s: float) -> list[Delivery]:
        """Return up to ``limit`` deliveries as soon as there is one."""
        deadline = self._now() + wait_s
        while not self._is_closed:
            deliveries: list[Delivery] = []
            taken = self._stream.take(self._spec, limit)
            for seq, stored in taken:
                delivery = MemoryDelivery(self._queue, seq, stored)
                try:
                    _ = delivery.message
                except (MalformedMessage, UnknownMessage) as error:
                    await settle_unreadable(delivery, error)
                else:
                    deliveries.append(delivery)
            remaining_s = deadline - self._now()
            if deliveries or remaining_s <= 0:
                return deliveries
            # If all that was taken could not be read there may be more behind it.
            if not taken:
                await self._stream.wait(remaining_s)
        return []

    async def close(self) -> None:
        """Stop pulling; a fetch that waits returns nothing."""
        self._is_closed = True
        self._stream.wake()
