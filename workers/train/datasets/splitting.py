"""Which rows are kept for tests.

A row's own content decides: a tenth of all digests are for tests, so that neither the order of the rows nor
what stands beside them changes where a row goes, and rows that say the same go the same way.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.train.datasets.facts import Split

#: Of 2**32 draws, those below are for tests: a tenth.
_TEST_DRAWS = round(0.1 * 2**32)
#: Classes with fewer rows keep them all for training.
_FEWEST = 10
_TAIL_SHARE = 0.1
NO_SPLIT, TRAIN, TEST = 0, 1, 2
CODES: dict[Split | None, int] = {None: NO_SPLIT, "train": TRAIN, "test": TEST}
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


def draw_of(digest: bytes) -> int:
    """The 32 bits of a row's digest that its split is drawn by."""
    return int.from_bytes(digest[:4], "little")


@dataclass(slots=True)
class _Class:
    num_rows: int = 0
    num_drawn: int = 0
    lowest_draw: int = 2**32
    #: The row of the lowest draw.
    lowest_row: int = -1


class Splitter:
    """Hears of every row once, and can then tell of each where it goes.

    A class of ten rows and more has at least one for tests: the one with the lowest draw, if no other. Rows
    without a label are for training where others have one.
    """

    def __init__(self, *, is_running_text: bool) -> None:
        self._is_running = is_running_text
        self._classes: dict[int, _Class] = {}
        self._num_given = [0, 0, 0]
        self._num_rows = 0
        self._total_size = 0

    def add(self, code: int, draw: int, given: int, size: int) -> None:
        """A row: its class (-1: none), its draw, the split its source gives, the characters of its text."""
        found = self._classes.setdefault(code, _Class())
        found.num_rows += 1
        found.num_drawn += draw < _TEST_DRAWS
        if draw < found.lowest_draw:
            found.lowest_draw, found.lowest_row = draw, self._num_rows
        self._num_given[given] += 1
        self._num_rows += 1
        self._total_size += size

    def finish(self) -> "Splits":
        """What follows for each row."""
        labelled = {code: found for code, found in self._classes.items() if code >= 0}
        drawing = labelled or self._classes
        large = {code: found for code, found in drawing.items() if found.num_rows >= _FEWEST}
        forced = [found.lowest_row for found in large.values() if not found.num_drawn]
        if not large and self._num_rows > 1:
            # Something has to be kept for tests, but not a class's only row.
            several = [found for found in drawing.values() if found.num_rows > 1] or list(drawing.values())
            forced = [min(several, key=lambda found: found.lowest_draw).lowest_row]
        return Splits(
            is_given=self._num_given[TRAIN] > 0 and self._num_given[TEST] > 0,
            drawing=np.array(sorted(large), np.int64),
            forced=np.array(sorted(forced), np.int64),
            tail_from=int(self._total_size * (1 - _TAIL_SHARE)) if self._is_running else None,
        )


@dataclass(frozen=True, slots=True)
class Splits:
    """Where each row goes, as its source says, or else: a text's end, or by its draw."""

    is_given: bool
    #: Classes of which a tenth is for tests.
    drawing: Numbers
    #: Rows for tests whatever their draw.
    forced: Numbers
    #: Characters of a running text after which its rows are for tests.
    tail_from: int | None

    def is_test(self, first: int, codes: Numbers, draws: Numbers, given: Numbers, after: Numbers) -> Mask:
        """Of rows that follow each other from ``first``; ``after`` are characters up to each one's end."""
        if self.is_given:
            return np.equal(given, TEST)
        if self.tail_from is not None:
            return np.greater(after, self.tail_from)
        rows = np.arange(first, first + len(codes))
        drawn = (draws < _TEST_DRAWS) & np.isin(codes, self.drawing)
        return np.logical_or(drawn, np.isin(rows, self.forced))
