"""When the loop has to look up from its work.

The loop compares one number a batch. Everything that happens now and then (a report, an evaluation, a
checkpoint, the end) asks here for the next batch at which it is due.
"""

import time
from typing import NamedTuple

_MOST_BATCHES = 32
#: Seconds between two looks at the clock that are aimed at.
_AIM_S = 0.2


class Due(NamedTuple):
    """What is due at a pause."""

    log: bool
    evaluate: bool
    checkpoint: bool
    print: bool


class Rhythm(NamedTuple):
    """Intervals in steps, or in seconds where the name says so; None is never.

    ``fixed`` is the number of batches between pauses where several processes have to pause together.
    """

    batches_per_step: int
    log_every_s: float
    evaluate_every: int | None = None
    checkpoint_every: tuple[int, ...] = ()
    checkpoint_every_s: float | None = None
    print_every: int | None = None
    last_step: int | None = None
    fixed: int | None = None


class Pauses:
    """The batches at which to pause, and what is due there."""

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        self._logged_at = self._checkpointed_at = self._paused_at = time.monotonic()
        self._paused_batch = 0
        self._first = True

    def due(self, batch: int) -> Due:
        """What is due after ``batch`` batches in all."""
        rhythm, now = self._rhythm, time.monotonic()
        whole, rest = divmod(batch, rhythm.batches_per_step)
        at_step = rest == 0 and whole > 0
        log = self._first or now - self._logged_at >= rhythm.log_every_s
        late = (
            rhythm.checkpoint_every_s is not None and now - self._checkpointed_at >= rhythm.checkpoint_every_s
        )
        checkpoint = at_step and (late or any(whole % every == 0 for every in rhythm.checkpoint_every))
        if log:
            self._logged_at, self._first = now, False
        if checkpoint:
            self._checkpointed_at = now
        evaluate = self.evaluates(batch)
        shown = at_step and rhythm.print_every is not None and whole % rhythm.print_every == 0
        return Due(log, evaluate, checkpoint, shown)

    def evaluates(self, batch: int) -> bool:
        """Whether there is an evaluation after ``batch`` batches in all."""
        every = self._rhythm.evaluate_every
        return every is not None and batch > 0 and batch % (every * self._rhythm.batches_per_step) == 0

    def next(self, batch: int) -> int:
        """The batch at which to pause next, after a pause at ``batch``."""
        rhythm = self._rhythm
        if rhythm.fixed is not None:
            # Processes have to pause at the same batches: no clock may decide.
            ahead = rhythm.fixed
        else:
            now = time.monotonic()
            done = batch - self._paused_batch
            each = (now - self._paused_at) / done if done > 0 else _AIM_S
            ahead = max(1, min(_MOST_BATCHES, int(_AIM_S / each) if each > 0 else _MOST_BATCHES))
            self._paused_at, self._paused_batch = now, batch
        stops = [batch + ahead]
        for every in (rhythm.evaluate_every, rhythm.print_every, *rhythm.checkpoint_every):
            if every is not None:
                span = every * rhythm.batches_per_step
                stops.append(batch - batch % span + span)
        if rhythm.last_step is not None and rhythm.last_step * rhythm.batches_per_step > batch:
            stops.append(rhythm.last_step * rhythm.batches_per_step)
        return min(stops)
