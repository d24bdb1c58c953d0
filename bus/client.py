"""NATS behind the port: publish with a retry budget, tell, follow, ask, answer, pull."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from uuid import uuid4

import nats.errors
from nats.aio.msg import Msg

from bus import codec, tracing
from bus.channel import TRANSIENT, Channel
from bus.connection import Connection
from bus.dead_letters import DeadLetters
from bus.delivery import ERROR_CODE, MESSAGE_ID, MESSAGE_TTL, whole_seconds
from bus.envelope import Message
from bus.errors import AnswerLate, NoAnswer, NobodyThere, PublishFailed, StreamFull
from bus.handling import handle, respond
from bus.jetstream import UNAVAILABLE, ApiRefused, read_publish_ack
from bus.nats_dead_letters import NatsDeadLetters
from bus.port import Handler, Puller, Reconnected, Responder, Subscription
from bus.pull import NatsPuller
from bus.tasks import Tasks
from bus.topology import GIVEN_UP, exists

#: One try at a publish; several fit into a deadline, so a lost acknowledgement costs a retry, not the call.
ATTEMPT_S = 3.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
ROUND_TRIP_S = 2.0
#: Answers that one member of a group computes at the same time.
CONCURRENT_ANSWERS = 32

_STORE_FAILED = 10077
#: Account and server limits: resources, memory, storage.
_NO_RESOURCES = frozenset({10002, 10023, 10028, 10047})


class _Listening:
    """Satisfies `bus.port.Subscription`."""

    def __init__(self, connection: Connection, channel: Channel, tasks: Tasks) -> None:
        self._connection = connection
        self._channel = channel
        self._tasks = tasks

    async def close(self) -> None:
        """Take no more; wait for handlers that run, except for one that calls this itself."""
        if asyncio.current_task() is self._channel.receiving:
            # The channel is drained when its receiver returns, which waits for us.
            self._tasks.spawn(self._connection.unlisten(self._channel), "close from inside")
            return
        await self._connection.unlisten(self._channel)
        await self._tasks.join()


class NatsBus:
    """Satisfies `bus.port.Bus`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # One for each lane that the process pulls from, for as long as it lives.
        self._pullers: list[NatsPuller] = []
        self._dead_letters = NatsDeadLetters(connection, self._store, self._advisories)

    @classmethod
    async def connect(
        cls, url: str, *, name: str, credentials: Path | None = None, patience_s: float = 30.0
    ) -> Self:
        """Connect, waiting up to ``patience_s`` for a server that is still starting.

        ``url`` may name several servers of a cluster, separated by commas; ``name`` shows up in the
        server's monitoring.

        Raises:
            BusUnavailable: no server accepted in time.
            NotPermitted: the server refuses the credential.
        """
        return cls(await Connection.open(url, name=name, credentials=credentials, patience_s=patience_s))

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        message_id: str | None = None,
        deadline_s: float = 15.0,
        ttl_s: float | None = None,
    ) -> None:
        """Store a message in the stream of its subject; repeated under one message id until acknowledged."""
        raw = codec.encode(message)
        headers = {MESSAGE_ID: message_id or uuid4().hex}
        if ttl_s is not None:
            headers[MESSAGE_TTL] = str(whole_seconds(ttl_s))
        with tracing.sending(subject, headers):
            await self._store(subject, raw, headers, deadline_s)

    async def _store(self, subject: str, raw: bytes, headers: Mapping[str, str], deadline_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_s
        pause_s = FIRST_PAUSE_S
        last: Exception | None = None
        while await self._connection.wait_until_connected(deadline - loop.time()):
            try:
                timeout_s = min(ATTEMPT_S, deadline - loop.time())
                answer = await self._connection.request(subject, raw, headers=headers, timeout_s=timeout_s)
                read_publish_ack(answer.data)
            except ApiRefused as error:
                if _is_full(error):
                    raise StreamFull(f"{subject}: {error}") from error
                if error.code != UNAVAILABLE:
                    raise PublishFailed(f"{subject}: {error}") from error
                last = error
            except TRANSIENT as error:
                last = error
            except nats.errors.Error as error:
                raise PublishFailed(f"{subject}: {error}") from error
            else:
                return
            if loop.time() + pause_s >= deadline:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        reason = last or "no connection to the bus"
        raise PublishFailed(f"{subject}: not acknowledged within {deadline_s:g} s: {reason}") from last

    async def tell(self, subject: str, message: Message) -> None:
        """Send a message to whoever follows the subject at this moment.

        It is handed to the connection and nothing more is known of it; without a connection it waits there.

        Raises:
            BusUnavailable: the connection is closed, or too much is waiting there already.
        """
        headers: dict[str, str] = {}
        with tracing.telling(subject, headers):
            await self._connection.publish(subject, codec.encode(message), headers=headers or None)

    async def follow(self, subject: str, handler: Handler) -> Subscription:
        """Call ``handler`` for each message told on the subject from now on, one after the other.

        Raises:
            NotPermitted: this credential may not follow the subject.
            BusUnavailable: there is no connection.
        """

        async def receive(told: Msg) -> None:
            await handle(told.subject, told.data, told.headers or {}, handler)

        channel = await self._connection.listen(subject, receive)
        return _Listening(self._connection, channel, Tasks())

    async def ask(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        """Ask whoever answers on the subject.

        Raises:
            NoAnswer: nobody is there (`NobodyThere`) or is in time (`AnswerLate`), or whoever answers failed.
            NotPermitted: this credential may not ask there.
        """
        raw = codec.encode(message)
        headers: dict[str, str] = {}
        deadline = asyncio.get_running_loop().time() + timeout_s
        with tracing.sending(subject, headers):
            await self._connection.wait_until_connected(timeout_s)
            remaining_s = max(0.0, deadline - asyncio.get_running_loop().time())
            try:
                answer = await self._connection.request(subject, raw, headers=headers, timeout_s=remaining_s)
            except nats.errors.TimeoutError as error:
                raise AnswerLate(f"{subject}: no answer within {timeout_s:g} s") from error
            except nats.errors.NoRespondersError as error:
                raise NobodyThere(f"{subject}: nobody is there") from error
            except TRANSIENT as error:
                raise NoAnswer(f"{subject}: {error}") from error
            if ERROR_CODE in (answer.headers or {}):
                raise NoAnswer(f"{subject}: whoever answers there failed")
            return codec.decode(answer.data)

    async def answer(self, subject: str, responder: Responder, *, group: str) -> Subscription:
        """Answer questions on the subject, sharing them with the other members of ``group``.

        Up to 32 at a time; more wait their turn.

        Raises:
            NotPermitted: this credential may not answer on the subject.
            BusUnavailable: there is no connection.
        """
        tasks = Tasks()
        room = asyncio.Semaphore(CONCURRENT_ANSWERS)

        async def work(question: Msg) -> None:
            try:
                raw = await respond(question.subject, question.data, question.headers or {}, responder)
                failure = {ERROR_CODE: "500"} if raw is None else None
                if question.reply:
                    await self._connection.publish(question.reply, raw or b"", headers=failure)
            finally:
                room.release()

        async def receive(question: Msg) -> None:
            await room.acquire()
            tasks.spawn(work(question), subject)

        channel = await self._connection.listen(subject, receive, queue=group)
        return _Listening(self._connection, channel, tasks)

    def puller(self, consumer: str) -> Puller:
        """Bind to a durable consumer of the topology by name."""
        puller = NatsPuller(self._connection, consumer, self._store)
        self._pullers.append(puller)
        return puller

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages that were given up."""
        return self._dead_letters

    def _advisories(self) -> NatsPuller:
        puller = NatsPuller(self._connection, GIVEN_UP, self._store, reads_raw=True)
        self._pullers.append(puller)
        return puller

    def on_reconnect(self, callback: Reconnected) -> None:
        """Call back each time the connection was lost and is there again."""
        self._connection.on_reconnect(callback)

    @property
    def num_dropped(self) -> int:
        """Messages that were followed and lost, because this process did not keep up."""
        return self._connection.num_dropped

    async def is_connected(self) -> bool:
        """Whether a round trip to the bus works now."""
        try:
            await self._connection.round_trip(ROUND_TRIP_S)
        except (*TRANSIENT, nats.errors.Error):
            return False
        return True

    async def find_missing(self, consumers: Sequence[str]) -> list[str]:
        """Return those of the durable consumers that the bus does not have."""
        return [consumer for consumer in consumers if not await exists(self._connection, consumer)]

    async def close(self) -> None:
        """Hand back what was not given out, let handlers end, and disconnect."""
        await asyncio.gather(*(puller.close() for puller in self._pullers))
        await self._connection.close()


def _is_full(error: ApiRefused) -> bool:
    """Whether a stream, the account or the server is at a limit, rather than broken."""
    if error.err_code == _STORE_FAILED:
        return error.description.startswith("maximum")
    return error.err_code in _NO_RESOURCES
