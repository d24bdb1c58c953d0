"""What `towhee-api doctor` asks of a bus: that it answers, holds what the table says, and has workers."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from bus import subjects
from bus.client import NatsBus
from bus.envelope import Message
from bus.errors import BusError
from bus.messages import AnnouncePipelines, AnnounceTrainers, PipelinesAnnounced, TrainersAnnounced
from bus.topology import Topology, apply
from deploy.errors import CommandFailed, Noteworthy

_CONNECT_S = 2.0
#: Workers announce themselves every 2 s even when a question was lost.
_LISTEN_S = 3.0
_PAGE = 100
#: Each letter is a request; who has more than this has seen enough.
_MOST_LETTERS = 1000


class BusChecks:
    """One question for each thing on the bus. An answer is what is well about it.

    All raise `CommandFailed`, or a `BusError`, with what is wrong and what to do.
    """

    def __init__(self, pools: Sequence[str], *, credentials: Path | None) -> None:
        self._pools = pools
        self._credentials = credentials
        self._topology = Topology.for_pools(pools)
        self._url = ""
        self._bus: NatsBus | None = None

    async def open(self, url: str) -> str:
        """Connect, and make a round trip."""
        self._url = url
        try:
            self._bus = await NatsBus.connect(
                url, name="doctor", credentials=self._credentials, patience_s=_CONNECT_S
            )
        except BusError as error:
            raise CommandFailed(f"{error}: check NATS_URL, and that the NATS server runs") from error
        if not await self._bus.is_connected():
            raise CommandFailed("connected, but does not answer: start the NATS server again")
        return "answers"

    async def close(self) -> None:
        """Disconnect."""
        if self._bus is not None:
            await self._bus.close()

    async def ask_streams(self) -> str:
        """Compare the streams with the table."""
        await self._compare(msgspec.structs.replace(self._topology, consumers=()))
        return f"as declared: {', '.join(stream.name for stream in self._topology.streams)}"

    async def ask_consumers(self) -> str:
        """Compare the consumers with the table, those of every pool among them."""
        await self._compare(msgspec.structs.replace(self._topology, streams=()))
        return f"as declared, for the pools {', '.join(self._pools)}"

    async def ask_pools(self) -> str:
        """Ask the workers to announce themselves, and wait until every pool has one that does."""
        found = await self._find_workers()
        missing = [pool for pool in self._pools if not found[pool]]
        if missing:
            raise CommandFailed(
                f"nobody works for {', '.join(missing)}: run towhee-api work embed there, or look why it ends"
            )
        return "; ".join(f"{pool} hosts {', '.join(sorted(found[pool]))}" for pool in self._pools)

    async def ask_trainers(self) -> str:
        """Ask the train workers to announce themselves, and wait until every pool has one that does.

        Raises:
            Noteworthy: a pool has none. Embedding needs none; trainings and data sets wait for one.
        """
        found = await self._find_trainers()
        missing = [pool for pool in self._pools if not found[pool]]
        if missing:
            raise Noteworthy(
                f"nobody trains for {', '.join(missing)}:"
                " trainings and data sets wait there until towhee-api work train runs"
            )
        return "; ".join(f"{pool} trains on {', '.join(sorted(found[pool]))}" for pool in self._pools)

    async def ask_dead_letters(self) -> str:
        """Count what was given up, by what it was and why.

        Raises:
            Noteworthy: there is something. The bus is well, and each failed job's owner has been told.
        """
        counted = await self._count_dead_letters()
        number = counted.total()
        if number == 0:
            return "none"
        at_least = "at least " if number >= _MOST_LETTERS else ""
        kinds = "; ".join(f"{count} of {family}, {code}" for (family, code), count in counted.most_common())
        raise Noteworthy(
            f"{at_least}{number} given up ({kinds}):"
            " towhee-api jobs dead says why, then jobs retry ID or jobs drop ID"
        )

    async def _count_dead_letters(self) -> Counter[tuple[str, str]]:
        dead_letters = self._connected().dead_letters
        counted: Counter[tuple[str, str]] = Counter()
        after = 0
        while counted.total() < _MOST_LETTERS and (page := await dead_letters.read(after=after, limit=_PAGE)):
            counted.update((subjects.family(letter.subject), letter.code) for letter in page)
            after = page[-1].id
        return counted

    async def _find_workers(self) -> dict[str, set[str]]:
        """Return the pipelines that are hosted now, by pool."""
        found: defaultdict[str, set[str]] = defaultdict(set)

        def take(message: Message) -> None:
            if isinstance(message, PipelinesAnnounced) and not message.leaving:
                for pipeline in message.pipelines:
                    found[pipeline.pool].add(pipeline.name)

        await self._listen(
            subjects.PIPELINES_ANNOUNCED,
            take,
            ask=(subjects.PIPELINES_WANTED, AnnouncePipelines()),
            until=lambda: all(found[pool] for pool in self._pools),
        )
        return found

    async def _find_trainers(self) -> dict[str, set[str]]:
        """Return the devices that are trained on now, by pool."""
        found: defaultdict[str, set[str]] = defaultdict(set)

        def take(message: Message) -> None:
            if isinstance(message, TrainersAnnounced) and not message.leaving:
                found[message.pool].add(message.device)

        await self._listen(
            subjects.TRAINERS_ANNOUNCED,
            take,
            ask=(subjects.TRAINERS_WANTED, AnnounceTrainers()),
            until=lambda: all(found[pool] for pool in self._pools),
        )
        return found

    async def _listen(
        self,
        subject: str,
        take: Callable[[Message], None],
        *,
        ask: tuple[str, Message],
        until: Callable[[], bool],
    ) -> None:
        """Ask workers to announce themselves, and take what they say until it is enough, or for a while."""
        bus = self._connected()
        is_enough = asyncio.Event()

        async def hear(message: Message) -> None:
            take(message)
            if until():
                is_enough.set()

        following = await bus.follow(subject, hear)
        await bus.tell(*ask)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LISTEN_S):
                await is_enough.wait()
        await following.close()

    async def _compare(self, topology: Topology) -> None:
        changes = await apply(self._url, topology, dry_run=True, credentials=self._credentials)
        if changes:
            raise CommandFailed(f"{'; '.join(changes)}: run towhee-api bus apply")

    def _connected(self) -> NatsBus:
        if self._bus is None:
            raise RuntimeError("the bus has not been opened")
        return self._bus
