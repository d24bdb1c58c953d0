"""Our own pull loop over JetStream, because a worker must hold exactly the work it was given.

A pull with both ``no_wait`` and ``expires`` waits for the first message, takes what is there up to the
batch, and ends. So between two fetches no pull is open, nothing arrives for a worker that is busy, and
what is left goes to whoever has room. Pulls live 5 s at most and say every second that they do: a server
that was lost, or a consumer without a leader, is noticed within three. Whatever arrives although nobody
waits for it (the pull of a cancelled fetch) is handed back at once.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from types import MappingProxyType

from nats.aio.msg import Msg

from bus import codec, subjects
from bus.channel import TRANSIENT, Channel
from bus.connection import Connection
from bus.dead_letters import Death, Store, headers_of
from bus.delivery import MESSAGE_ID, AlreadySettled, settle_unreadable
from bus.envelope import Message
from bus.errors import ConsumerGone, MalformedMessage, NotSettled, UnknownMessage
from bus.jetstream import PREFIX
from bus.port import Delivery
from bus.tasks import Tasks
from bus.topology import stream_of

_log = logging.getLogger(__name__)

EXPIRES_S = 5.0
#: A pull that waits hears from the server this often, and is given up when it misses two in a row.
HEARTBEAT_S = 1.0
#: How long after a pull's end its last status may take.
GRACE_S = 0.25
PAUSE_S = 0.1
SETTLE_ATTEMPT_S = 2.0
SETTLE_S = 6.0
DEAD_LETTER_S = 10.0

MAX_REASON_BYTES = 200
CLOSE_S = 10.0

_ALIVE = "100"
_ENDED_NORMALLY = frozenset({"404", "408"})
_SILENT = "no sign of life"


class NatsDelivery:
    """Satisfies `bus.port.Delivery`."""

    def __init__(self, connection: Connection, raw: Msg, store: Store) -> None:
        self._connection = connection
        self._store = store
        self._raw = raw
        self._is_settled = False
        self.subject = raw.subject
        self.headers: Mapping[str, str] = MappingProxyType(raw.headers or {})
        self.num_delivered = raw.metadata.num_delivered

    @cached_property
    def message(self) -> Message:
        """The decoded message."""
        return codec.decode(self._raw.data)

    @property
    def raw(self) -> bytes:
        """The bytes as they are."""
        return self._raw.data

    async def ack(self, *, is_confirmed: bool = True) -> None:
        """Remove it; returns when the server has confirmed, or at once.

        Raises:
            NotSettled: the server did not confirm.
            BusUnavailable: too much waits for a connection that is lost, or it is closed.
        """
        if is_confirmed:
            await self._settle(b"+ACK")
            return
        if self._is_settled:
            raise AlreadySettled(self.subject)
        await self._connection.publish(self._raw.reply, b"+ACK")
        self._is_settled = True

    async def nak(self, *, delay_s: float = 0.0) -> None:
        """Give it back."""
        await self._settle(b"-NAK " + json.dumps({"delay": round(delay_s * 1e9)}).encode())

    async def term(self, reason: str) -> None:
        """Remove it as hopeless."""
        await self._settle(b"+TERM " + reason.encode()[:MAX_REASON_BYTES])

    async def dead_letter(self, death: Death) -> None:
        """Keep a copy, then remove it.

        Raises:
            PublishFailed: no copy could be kept.
        """
        headers = headers_of(
            self.headers, subject=self.subject, num_delivered=self.num_delivered, death=death
        )
        stored = self._raw.metadata
        # The time, too: a stream that is made anew counts from 1 again.
        headers[MESSAGE_ID] = f"dead:{stored.stream}:{stored.sequence.stream}:{stored.timestamp.isoformat()}"
        await self._store(subjects.dead_letter(self.subject), self._raw.data, headers, DEAD_LETTER_S)
        await self.term(f"{death.code}: {death.reason}")

    async def in_progress(self) -> None:
        """Ask for another ack wait.

        Raises:
            NotSettled: the server did not confirm.
        """
        try:
            await self._connection.request(self._raw.reply, b"+WPI", timeout_s=SETTLE_ATTEMPT_S)
        except TRANSIENT as error:
            raise NotSettled(f"{self.subject}: {error}") from error

    async def _settle(self, verb: bytes) -> None:
        """Repeat until the server confirms: settling twice on the wire does no harm."""
        if self._is_settled:
            raise AlreadySettled(self.subject)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_S
        while True:
            try:
                await self._connection.request(self._raw.reply, verb, timeout_s=SETTLE_ATTEMPT_S)
            except TRANSIENT as error:
                if loop.time() >= deadline:
                    raise NotSettled(f"{self.subject}: {error}") from error
            else:
                self._is_settled = True
                return
            await asyncio.sleep(PAUSE_S)


class _Pull:
    """One pull request that the server may still answer, until ``until`` on the loop's clock."""

    def __init__(self, number: int, limit: int, until: float) -> None:
        self.number = number
        self.num_missing = limit
        self.until = until
        #: When its silence means that it is lost; it is ``until`` for one that promises no heartbeats.
        self.silent_at = until

    @property
    def next_look_at(self) -> float:
        """When something is wrong unless the server has said something by then."""
        return min(self.until, self.silent_at)

    def hear(self, now: float) -> None:
        """Take a sign of life."""
        self.silent_at = now + 2 * HEARTBEAT_S + GRACE_S


class NatsPuller:
    """Satisfies `bus.port.Puller`."""

    def __init__(
        self, connection: Connection, consumer: str, store: Store, *, reads_raw: bool = False
    ) -> None:
        self._connection = connection
        #: Whether the stream holds something else than our messages.
        self._reads_raw = reads_raw
        self._store = store
        self._consumer = consumer
        self._next_subject = f"{PREFIX}.CONSUMER.MSG.NEXT.{stream_of(consumer)}.{consumer}"
        self._inbox = connection.new_inbox()
        self._channel: Channel | None = None
        self._one_fetch = asyncio.Lock()
        # What open pulls have asked for; no delivery outlives the fetch it arrived in.
        self._ready: deque[NatsDelivery] = deque()
        self._changed = asyncio.Event()
        self._pull: _Pull | None = None
        self._num_pulls = 0
        #: What the server said instead of an answer, until it answers.
        self._trouble: str | None = None
        self._is_fetching = False
        self._is_closed = False
        self._tasks = Tasks()
        #: Deliveries that nobody here was given.
        self.num_handed_back = 0

    async def fetch(self, *, limit: int, wait_s: float) -> list[Delivery]:
        """Return up to ``limit`` deliveries as soon as there is one, or none after ``wait_s``.

        One fetch at a time; a second one waits for the first. While there is no connection nothing comes.

        Raises:
            ConsumerGone: nothing answers for the consumer.
            NotPermitted: this credential may not pull there.
            BusUnavailable: the inbox for deliveries could not be opened.
        """
        async with self._one_fetch:
            self._is_fetching = True
            try:
                await self._gather(limit, wait_s)
                if self._is_closed:
                    return []
                return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
            finally:
                self._is_fetching = False
                # The fetch was cancelled, or the puller closed, or an earlier pull was answered too.
                while self._ready:
                    self._hand_back(self._ready.popleft())

    async def close(self) -> None:
        """Stop pulling and hand back what has arrived and was not given out."""
        self._is_closed = True
        self._changed.set()
        async with self._one_fetch:
            if self._channel is not None:
                channel, self._channel = self._channel, None
                self._connection.off_reconnect(self._on_reconnect)
                await self._connection.unlisten(channel)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._tasks.join()
        await self._tasks.cancel()
        if self.num_handed_back:
            _log.info("%s: %d deliveries were handed back", self._consumer, self.num_handed_back)
            self.num_handed_back = 0

    async def _gather(self, limit: int, wait_s: float) -> None:
        """Return when deliveries are ready and no pull is open, or when the time is up."""
        loop = asyncio.get_running_loop()
        await self._open_inbox()
        deadline = loop.time() + wait_s
        may_pull = True
        with self._connection.pending.watch(self._next_subject) as denied:
            denied.add_done_callback(lambda _: self._changed.set())
            while not self._is_closed:
                if denied.done():
                    denied.result()
                if self._pull is not None and loop.time() < self._pull.next_look_at:
                    await self._wait(self._pull.next_look_at - loop.time())
                    may_pull = loop.time() < deadline
                    continue
                self._end_pull()
                if self._ready or not may_pull:
                    break
                may_pull = await self._open_pull(limit, deadline)
        if self._trouble is not None and not self._ready and not self._is_closed:
            raise ConsumerGone(f"{self._consumer}: {self._trouble}")

    async def _open_inbox(self) -> None:
        if self._channel is None and not self._is_closed:
            self._channel = await self._connection.listen(f"{self._inbox}.*", self._receive)
            self._connection.on_reconnect(self._on_reconnect)

    async def _open_pull(self, limit: int, deadline: float) -> bool:
        """Ask for up to ``limit`` messages; False when there is no connection all the time."""
        loop = asyncio.get_running_loop()
        if self._trouble is not None:
            await self._wait(PAUSE_S)
        if not await self._connection.wait_until_connected(max(0.0, deadline - loop.time())):
            return False
        if self._ready:
            # An earlier pull was answered meanwhile.
            return True
        expires_s = min(EXPIRES_S, deadline - loop.time())
        self._num_pulls += 1
        request: dict[str, int | bool] = {"batch": limit, "no_wait": True}
        self._pull = _Pull(self._num_pulls, limit, loop.time() + max(expires_s, 0.0) + GRACE_S)
        if expires_s > 0:
            request["expires"] = round(expires_s * 1e9)
        # The server takes no longer interval than half of the pull's life.
        if expires_s >= 2 * HEARTBEAT_S:
            request["idle_heartbeat"] = round(HEARTBEAT_S * 1e9)
            self._pull.hear(loop.time())
        await self._connection.publish(
            self._next_subject, json.dumps(request).encode(), reply=f"{self._inbox}.{self._num_pulls}"
        )
        return True

    def _end_pull(self) -> None:
        """Give up on a pull that is over, whose last status is lost, or that is not heard of any more."""
        if self._pull is not None and self._pull.silent_at < self._pull.until:
            self._note(_SILENT)
        self._pull = None

    def _note(self, trouble: str) -> None:
        """Remember what is wrong, and say so once."""
        if self._trouble != trouble:
            self._trouble = trouble
            _log.warning("pulling from %s: %s", self._consumer, trouble)

    async def _wait(self, timeout_s: float) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def _receive(self, raw: Msg) -> None:
        if raw.subject.startswith(self._inbox):
            self._take_status(raw)
        else:
            self._take_delivery(NatsDelivery(self._connection, raw, self._store))
        self._changed.set()

    def _take_status(self, raw: Msg) -> None:
        """A pull is over; a delivery never says which pull it belongs to, a status does."""
        if self._pull is None or raw.subject != f"{self._inbox}.{self._pull.number}":
            return
        headers = raw.headers or {}
        status = headers.get("Status", "")
        if status == _ALIVE:
            self._trouble = None
            self._pull.hear(asyncio.get_running_loop().time())
            return
        self._pull = None
        if status in _ENDED_NORMALLY:
            self._trouble = None
        else:
            # 503: nobody is subscribed to the consumer's pulls. 409: deleted, too many pulls, new leader.
            self._note(f"{status} {headers.get('Description', '').strip()}")

    def _take_delivery(self, delivery: NatsDelivery) -> None:
        if self._pull is not None:
            self._pull.num_missing -= 1
            # The last status follows at once, or was lost.
            self._pull.until = min(self._pull.until, asyncio.get_running_loop().time() + GRACE_S)
            if self._pull.num_missing == 0:
                self._pull = None
        self._trouble = None
        try:
            _ = self._reads_raw or delivery.message
        except (MalformedMessage, UnknownMessage) as error:
            _log.warning("%s: unreadable: %r", delivery.subject, error)
            self._tasks.spawn(settle_unreadable(delivery, error), "settle unreadable")
            return
        if self._is_fetching and not self._is_closed:
            self._ready.append(delivery)
        else:
            self._hand_back(delivery)

    def _hand_back(self, delivery: NatsDelivery) -> None:
        self.num_handed_back += 1
        self._tasks.spawn(delivery.nak(), "hand back")

    async def _on_reconnect(self) -> None:
        """Pull again: what was asked of the lost server is void."""
        self._pull = None
        self._changed.set()
