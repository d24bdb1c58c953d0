"""Which inputs share a batch: a token budget over a window sorted by length, never a count and never a timer.

A batch costs its longest row times its number of rows. So each batch starts with the input that has waited
longest, which is how nobody starves, and takes on those of the waiting that are nearest to it in length, as
long as the padded sum stays within the budget and no row is padded much.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import msgspec

from workers.embed.items import Lane, Matrix, Prepared, Refusal


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How batches are cut.

    Attributes:
        tokens: padded tokens in a batch; a single longer input makes a batch of its own.
        window: how many of the longest waiting inputs are looked at for one batch.
        padding: tokens a row may be padded by, whatever its length; beyond, a quarter of the longest row.
        bulk_every: while both lanes wait, one batch of this many is bulk's.
    """

    tokens: int = 512
    window: int = 512
    padding: int = 8
    bulk_every: int = 5


class Owner(Protocol):
    """Whoever waits for a unit."""

    def is_wanted(self, now: float) -> bool:
        """Whether the unit is still worth computing at ``now`` (of ``time.monotonic``)."""

    def take(self, index: int, row: Matrix | Refusal, compute_s: float) -> None:
        """Receive the row of input ``index``, or why there is none."""

    def expire(self) -> None:
        """Hear that a unit was dropped because it was not wanted any more."""


class Unit(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One prepared input, waiting.

    Attributes:
        index: which of its owner's inputs it is.
        arrived: orders units across pipelines.
    """

    prepared: Prepared
    owner: Owner
    index: int
    arrived: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one pipeline that go through it together."""

    pipeline: str
    lane: Lane
    units: list[Unit]

    @property
    def padded_tokens(self) -> int:
        """What the batch costs."""
        return len(self.units) * max(unit.prepared.length for unit in self.units)


class Window:
    """Everything that waits for the device."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._waiting: dict[Lane, dict[str, deque[Unit]]] = {lane: {} for lane in Lane}
        self._since_bulk = 0

    @property
    def has_full_batch(self) -> bool:
        """Whether what waits would fill a batch, were it all of one pipeline, lane and length."""
        return sum(unit.prepared.length for queue in self._queues() for unit in queue) >= self._limits.tokens

    def add(self, pipeline: str, lane: Lane, unit: Unit) -> None:
        """Let a unit wait."""
        self._waiting[lane].setdefault(pipeline, deque()).append(unit)

    def next_batch(self, now: float) -> tuple[Batch | None, list[Unit]]:
        """Cut the next batch; also give the units that are dropped, as nobody waits for them any more."""
        dropped = self._drop_unwanted(now)
        lane = self._choose_lane()
        if lane is None:
            return None, dropped
        queues = self._waiting[lane]
        pipeline = min(queues, key=lambda name: queues[name][0].arrived)
        units = self._cut(queues[pipeline])
        if not queues[pipeline]:
            del queues[pipeline]
        return Batch(pipeline=pipeline, lane=lane, units=units), dropped

    def _queues(self) -> Iterator[deque[Unit]]:
        return (queue for queues in self._waiting.values() for queue in queues.values())

    def _drop_unwanted(self, now: float) -> list[Unit]:
        dropped: list[Unit] = []
        for queues in self._waiting.values():
            for pipeline, queue in list(queues.items()):
                unwanted = [unit for unit in queue if not unit.owner.is_wanted(now)]
                if unwanted:
                    dropped += unwanted
                    gone = set(map(id, unwanted))
                    queues[pipeline] = deque(unit for unit in queue if id(unit) not in gone)
                if not queues[pipeline]:
                    del queues[pipeline]
        return dropped

    def _choose_lane(self) -> Lane | None:
        interactive, bulk = self._waiting[Lane.INTERACTIVE], self._waiting[Lane.BULK]
        if not interactive:
            self._since_bulk = 0
            return Lane.BULK if bulk else None
        if not bulk:
            return Lane.INTERACTIVE
        self._since_bulk = (self._since_bulk + 1) % self._limits.bulk_every
        return Lane.INTERACTIVE if self._since_bulk else Lane.BULK

    def _cut(self, queue: deque[Unit]) -> list[Unit]:
        candidates = sorted(islice(queue, self._limits.window), key=lambda unit: unit.prepared.length)
        taken = self._neighbours(candidates, candidates.index(queue[0]))
        chosen = set(map(id, taken))
        rest = [unit for unit in queue if id(unit) not in chosen]
        queue.clear()
        queue.extend(rest)
        return taken

    def _neighbours(self, ordered: list[Unit], start: int) -> list[Unit]:
        """Grow a run of ``ordered`` around ``start``, each time to the side that adds less padding."""
        low, high = start, start + 1
        while True:
            can_go_down = self._fits(ordered, low - 1, high)
            can_go_up = self._fits(ordered, low, high + 1)
            if can_go_down and can_go_up:
                longest = ordered[high - 1].prepared.length
                down = longest - ordered[low - 1].prepared.length
                up = (high - low) * (ordered[high].prepared.length - longest)
                can_go_down = down <= up
            if can_go_down:
                low -= 1
            elif can_go_up:
                high += 1
            else:
                return ordered[low:high]

    def _fits(self, ordered: list[Unit], low: int, high: int) -> bool:
        if low < 0 or high > len(ordered):
            return False
        shortest, longest = ordered[low].prepared.length, ordered[high - 1].prepared.length
        padding = max(self._limits.padding, longest // 4)
        return longest * (high - low) <= self._limits.tokens and longest - shortest <= padding
