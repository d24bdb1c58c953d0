"""The bus inside one process, for tests: the same port, the same topology, no server.

Time is the event loop's plus whatever `MemoryBus.advance` has added, so a test can let an ack wait pass
without waiting. Every message goes through the codec, as it would on the wire.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from uuid import uuid4

from bus import codec, subjects, tracing
from bus.dead_letters import DeadLetters
from bus.delivery import MESSAGE_ID, MESSAGE_TTL, whole_seconds
from bus.envelope import Message
from bus.errors import AnswerLate, BusError, NoAnswer, NobodyThere, PublishFailed
from bus.handling import handle, respond
from bus.memory_dead_letters import MemoryDeadLetters
from bus.memory_streams import MemoryPuller, MemoryQueue, MemoryStream
from bus.port import Handler, Puller, Reconnected, Responder, Subscription
from bus.tasks import Tasks
from bus.topology import DLQ, Topology

Receive = Callable[["_Told"], Coroutine[Any, Any, None]]


class _Told:
    """One message on its way to followers; a question carries the future of its answer."""

    def __init__(self, subject: str, raw: bytes, headers: Mapping[str, str]) -> None:
        self.subject = subject
        self.raw = raw
        self.headers = headers
        self.answer: asyncio.Future[bytes | None] | None = None


class _Member:
    """Satisfies `bus.port.Subscription`: a follower, or one member of a group that answers."""

    def __init__(self, pattern: str, group: str | None, receive: Receive) -> None:
        self.pattern = pattern
        self.group = group
        self._receive = receive
        self._tasks = Tasks()
        self.is_closed = False

    def take(self, told: _Told) -> None:
        """Receive a message beside or after those that are being worked on."""
        self._tasks.spawn(self._receive(told), self.pattern)

    async def close(self) -> None:
        """Take no more; wait for handlers that run."""
        self.is_closed = True
        await self._tasks.join()


class MemoryBus:
    """Satisfies `bus.port.Bus`. All who share an instance are on the same bus."""

    def __init__(self, topology: Topology | None = None) -> None:
        topology = topology or Topology.for_pools(["default"])
        self._offset_s = 0.0
        self._streams = {spec.name: MemoryStream(spec, self.now) for spec in topology.streams}
        self._consumers = {spec.name: spec for spec in topology.consumers}
        self._members: list[_Member] = []
        self._reconnected: list[Reconnected] = []
        self._is_closed = False

    def now(self) -> float:
        """Seconds on this bus's own clock."""
        return asyncio.get_running_loop().time() + self._offset_s

    def advance(self, seconds: float) -> None:
        """Let time pass for ack waits, delays, ages and duplicate windows."""
        self._offset_s += seconds
        for stream in self._streams.values():
            stream.wake()

    def count(self, stream: str) -> int:
        """How many messages a stream holds, delivered and unsettled ones included."""
        return len(self._streams[stream])

    def put_raw(self, subject: str, raw: bytes) -> None:
        """Store bytes as another release, or a stranger, might have sent them."""
        self._stream_of(subject).store(subject, raw, {})

    def tell_raw(self, subject: str, raw: bytes) -> None:
        """Tell bytes as another release, or a stranger, might have told them."""
        self._spread(_Told(subject, raw, {}))

    async def restart(self) -> None:
        """Do what a restarted server does: forget streams in memory, then let everybody reconnect."""
        for stream in self._streams.values():
            if stream.spec.storage == "memory":
                stream.clear()
        for callback in self._reconnected:
            await callback()

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        message_id: str | None = None,
        deadline_s: float = 15.0,  # noqa: ARG002 - nothing here takes time
        ttl_s: float | None = None,
    ) -> None:
        """Store a message in the stream of its subject."""
        raw = codec.encode(message)
        headers = {MESSAGE_ID: message_id or uuid4().hex}
        if ttl_s is not None:
            headers[MESSAGE_TTL] = str(whole_seconds(ttl_s))
        with tracing.sending(subject, headers):
            if self._is_closed:
                raise PublishFailed("the bus is closed")
            self._stream_of(subject).store(subject, raw, headers)

    async def tell(self, subject: str, message: Message) -> None:
        """Send a message to whoever follows the subject at this moment."""
        headers: dict[str, str] = {}
        with tracing.telling(subject, headers):
            self._spread(_Told(subject, codec.encode(message), headers))

    async def follow(self, subject: str, handler: Handler) -> Subscription:
        """Call ``handler`` for each message told on the subject from now on, one after the other."""
        in_order = asyncio.Lock()

        async def receive(told: _Told) -> None:
            async with in_order:
                await handle(told.subject, told.raw, told.headers, handler)

        return self._join(_Member(subject, None, receive))

    async def answer(self, subject: str, responder: Responder, *, group: str) -> Subscription:
        """Answer questions on the subject, taking turns with the other members of ``group``."""

        async def receive(told: _Told) -> None:
            raw = await respond(told.subject, told.raw, told.headers, responder)
            if told.answer is not None and not told.answer.done():
                told.answer.set_result(raw)

        return self._join(_Member(subject, group, receive))

    async def ask(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        """Ask whoever answers on the subject."""
        headers: dict[str, str] = {}
        with tracing.sending(subject, headers):
            question = _Told(subject, codec.encode(message), headers)
            question.answer = asyncio.get_running_loop().create_future()
            if not self._spread(question):
                raise NobodyThere(f"{subject}: nobody is there")
            try:
                async with asyncio.timeout(timeout_s):
                    raw = await question.answer
            except TimeoutError as error:
                raise AnswerLate(f"{subject}: no answer within {timeout_s:g} s") from error
            if raw is None:
                raise NoAnswer(f"{subject}: whoever answers there failed")
            return codec.decode(raw)

    def puller(self, consumer: str) -> Puller:
        """Bind to a durable consumer of the topology by name."""
        spec = self._consumers.get(consumer)
        if spec is None:
            raise BusError(f"no consumer is named {consumer}")
        return MemoryPuller(MemoryQueue(self._streams[spec.stream], spec, self._streams[DLQ]), self.now)

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages that were given up."""
        return MemoryDeadLetters(self._streams, list(self._consumers.values()))

    def on_reconnect(self, callback: Reconnected) -> None:
        """Call back at each `restart`."""
        self._reconnected.append(callback)

    @property
    def num_dropped(self) -> int:
        """Nothing: what is told waits until it is heard."""
        return 0

    async def is_connected(self) -> bool:
        """Whether it is still open."""
        return not self._is_closed

    async def find_missing(self, consumers: Sequence[str]) -> list[str]:
        """Return those of the durable consumers that its topology does not have."""
        return [consumer for consumer in consumers if consumer not in self._consumers]

    async def close(self) -> None:
        """End every subscription."""
        self._is_closed = True
        for member in self._members:
            await member.close()

    def _stream_of(self, subject: str) -> MemoryStream:
        for stream in self._streams.values():
            if stream.spec.takes(subject):
                return stream
        raise PublishFailed(f"no stream takes {subject}")

    def _join(self, member: _Member) -> _Member:
        self._members.append(member)
        return member

    def _spread(self, told: _Told) -> bool:
        """Hand a message to every follower and one member of each group; return whether anyone was there."""
        self._members = [member for member in self._members if not member.is_closed]
        listening = [member for member in self._members if subjects.matches(member.pattern, told.subject)]
        served: set[str] = set()
        for member in listening:
            if member.group is not None:
                if member.group in served:
                    continue
                served.add(member.group)
                # To the end of the line: the next question is another member's.
                self._members.remove(member)
                self._members.append(member)
            member.take(told)
        return bool(listening)
