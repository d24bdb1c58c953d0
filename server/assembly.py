"""Puts the rows of one command together, in whatever order and however often they arrive."""

from typing import Final

import numpy as np
import numpy.typing as npt

from bus.messages import ItemError, VectorsComputed

_FLOAT32_BYTES: Final = 4


class MalformedAnswer(Exception):
    """A worker sent rows that don't fit what was asked."""


class Assembly:
    """The rows of one command as they come in.

    A worker may die after some of its chunks, and the next one may cut the same rows into other chunks:
    the first row that arrives for an index stays, and only its cost is counted.

    Attributes:
        vectors: shape (count, dimension), float32; rows of failed items are zero.
        truncated: for each row, whether the model saw only the start of the input.
        tokens: for each row, the model's tokens.
        failures: why some rows have no vector, by index.
        compute_s: CPU or device seconds spent on the rows that were kept.
    """

    def __init__(self, count: int, dimension: int) -> None:
        self.vectors: npt.NDArray[np.float32] = np.zeros((count, dimension), dtype=np.float32)
        self.truncated = [False] * count
        self.tokens = [0] * count
        self.failures: dict[int, ItemError] = {}
        self.compute_s = 0.0
        self._arrived: npt.NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self._missing = count

    @property
    def is_complete(self) -> bool:
        """Whether every row is there."""
        return self._missing == 0

    def add(self, chunk: VectorsComputed) -> None:
        """Take the rows that were not there yet.

        Raises:
            MalformedAnswer: rows out of range, of another dimension, or fewer bytes than rows.
        """
        rows = self._rows_of(chunk)
        start, stop = chunk.first_index, chunk.first_index + chunk.count
        arrived = self._arrived[start:stop]
        num_new = chunk.count - int(np.count_nonzero(arrived))
        if num_new == 0:
            return
        new = range(chunk.count) if num_new == chunk.count else np.flatnonzero(~arrived).tolist()
        if num_new == chunk.count:
            self.vectors[start:stop] = rows
        else:
            self.vectors[start:stop][~arrived] = rows[~arrived]
        for row in new:
            self.truncated[start + row] = chunk.truncated[row]
            self.tokens[start + row] = chunk.tokens[row]
        for failure in chunk.failures:
            if not arrived[failure.index - start]:
                self.failures[failure.index] = failure
        self.compute_s += chunk.compute_s * num_new / chunk.count
        arrived[:] = True
        self._missing -= num_new

    def _rows_of(self, chunk: VectorsComputed) -> npt.NDArray[np.float32]:
        count, dimension = self.vectors.shape
        stop = chunk.first_index + chunk.count
        if chunk.first_index < 0 or chunk.count < 1 or stop > count:
            raise MalformedAnswer(f"rows {chunk.first_index} to {stop} of {count}")
        if chunk.dimension != dimension:
            raise MalformedAnswer(f"{chunk.dimension} dimensions instead of {dimension}")
        if len(chunk.vectors) != chunk.count * dimension * _FLOAT32_BYTES:
            raise MalformedAnswer(f"{len(chunk.vectors)} bytes for {chunk.count} rows")
        if len(chunk.truncated) != chunk.count or len(chunk.tokens) != chunk.count:
            raise MalformedAnswer("a list that is not as long as there are rows")
        if not all(chunk.first_index <= failure.index < stop for failure in chunk.failures):
            raise MalformedAnswer("a failure of a row that is not in the chunk")
        return np.frombuffer(chunk.vectors, dtype="<f4").reshape(chunk.count, dimension)
