"""What the rest of the house may ask of a bus. NATS and the in-memory bus both answer to it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from bus.dead_letters import DeadLetters, Death
from bus.envelope import Message

Handler = Callable[[Message], Awaitable[None]]
Responder = Callable[[Message], Awaitable[Message]]
Reconnected = Callable[[], Awaitable[None]]


class Subscription(Protocol):
    """A running `follow` or `answer`."""

    async def close(self) -> None:
        """Take no more; wait for handlers that run."""


class Delivery(Protocol):
    """One message out of a stream, not yet settled. Settle it exactly once: ack, nak or term."""

    @property
    def message(self) -> Message:
        """The decoded message."""

    @property
    def raw(self) -> bytes:
        """The bytes as they were published."""

    @property
    def subject(self) -> str:
        """Where it was published."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, trace context among them."""

    @property
    def num_delivered(self) -> int:
        """1 for the first delivery."""

    async def ack(self, *, is_confirmed: bool = True) -> None:
        """Done: remove it. Returns when the server has confirmed, unless that is not asked for.

        An ack that is not confirmed costs no round trip; where it is lost, with the connection or the server,
        the message is delivered again.
        """

    async def nak(self, *, delay_s: float = 0.0) -> None:
        """Give it back, to be delivered again no sooner than ``delay_s`` from now."""

    async def term(self, reason: str) -> None:
        """Remove it as hopeless."""

    async def dead_letter(self, death: Death) -> None:
        """Remove it as hopeless and keep a copy among the dead letters, with its headers and why.

        Raises:
            PublishFailed: no copy could be kept; it is not removed.
        """

    async def in_progress(self) -> None:
        """Ask for another ack wait."""


class Puller(Protocol):
    """Takes work from one durable consumer when its owner has room."""

    async def fetch(self, *, limit: int, wait_s: float) -> list[Delivery]:
        """Return between 0 and ``limit`` deliveries, as soon as there is one, or none after ``wait_s``.

        Undecodable messages never come out of here: malformed ones are terminated, unknown tags are
        handed back with a delay. A fetch that is cancelled loses nothing.

        Raises:
            ConsumerGone: nothing answers for the consumer; it may be there again later.
        """

    async def close(self) -> None:
        """Stop pulling and hand back what was fetched and not yet given out."""


class Bus(Protocol):
    """Publish, pull, follow, ask: everything a room may do with another."""

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        message_id: str | None = None,
        deadline_s: float = 15.0,
        ttl_s: float | None = None,
    ) -> None:
        """Store a message in the stream of its subject and return when the server has it.

        A message id that was used within the duplicate window is accepted and stored once.

        Raises:
            StreamFull: the stream takes no more for now.
            PublishFailed: not acknowledged within ``deadline_s``; it may be stored all the same.
            MessageTooLarge: over 256 kB once encoded.
            NotPermitted: this credential may not publish there.
        """

    async def tell(self, subject: str, message: Message) -> None:
        """Send a message to whoever follows the subject at this moment; nothing is stored."""

    async def follow(self, subject: str, handler: Handler) -> Subscription:
        """Call ``handler`` for each message told on the subject from now on."""

    async def ask(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        """Ask whoever answers on the subject.

        Raises:
            NoAnswer: nobody is there, or nobody answered in time.
        """

    async def answer(self, subject: str, responder: Responder, *, group: str) -> Subscription:
        """Answer questions on the subject, sharing them with the other members of ``group``."""

    def puller(self, consumer: str) -> Puller:
        """Bind to a durable consumer of the topology by name."""

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages that were given up."""

    def on_reconnect(self, callback: Reconnected) -> None:
        """Call back each time the connection was lost and is there again.

        Messages that were told meanwhile did not arrive here, and streams in memory may be empty: who
        waits for an answer asks again. Subscriptions and pullers need no help; they go on by themselves.
        """

    @property
    def num_dropped(self) -> int:
        """Messages that were followed and lost, because this process did not keep up."""

    async def is_connected(self) -> bool:
        """Whether a round trip to the bus works now."""

    async def find_missing(self, consumers: Sequence[str]) -> list[str]:
        """Return those of the durable consumers that the bus does not have.

        Raises:
            BusUnavailable: the bus does not say.
            NotPermitted: this credential may not ask.
        """

    async def close(self) -> None:
        """Drain and disconnect."""
