"""Vectors that were computed before, in the memory of one replica."""

from collections import OrderedDict
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

#: What an entry costs beside its numbers: key, struct, array header and its place in the table, in bytes.
_OVERHEAD_BYTES: Final = 400


class CachedVector(msgspec.Struct, frozen=True, gc=False):
    """One finished row, shape (dimension,), float32, of unit length."""

    vector: npt.NDArray[np.float32]
    truncated: bool
    #: Model tokens of the input, which count for usage whether or not they were computed again.
    tokens: int


class VectorCache:
    """Least recently used entries go first when ``max_bytes`` would be passed.

    Keys are digests over pipeline name, version and content, so entries never go stale: another version
    has other keys.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, CachedVector] = OrderedDict()
        self._used_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used_bytes(self) -> int:
        """What all entries take together, never more than the ceiling."""
        return self._used_bytes

    def find(self, key: bytes) -> CachedVector | None:
        """Return the entry and make it the most recently used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: CachedVector) -> None:
        """Keep an entry, in place of an older one of the same key."""
        cost = _cost(entry)
        if cost > self._max_bytes:
            return
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self._used_bytes -= _cost(replaced)
        self._entries[key] = entry
        self._used_bytes += cost
        while self._used_bytes > self._max_bytes:
            _, evicted = self._entries.popitem(last=False)
            self._used_bytes -= _cost(evicted)


def _cost(entry: CachedVector) -> int:
    return entry.vector.nbytes + _OVERHEAD_BYTES
