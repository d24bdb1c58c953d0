"""Digests by the million in little memory."""

import hashlib
from array import array

_EMPTY = 0
_FIRST_SLOTS = 1024


def short_digest(text: str) -> int:
    """64 bits that name a text, never 0."""
    made = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(made.digest(), "little") or 1


class DigestMap:
    """Numbers by the 64-bit digests of names: 16 bytes a slot, where a dict takes over a hundred.

    Open addressing with linear probing; digests are as good as random, so their low bits are the slot.
    """

    def __init__(self) -> None:
        self._keys = array("Q", bytes(8 * _FIRST_SLOTS))
        self._values = array("Q", bytes(8 * _FIRST_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, name: str, value: int = 0) -> bool:
        """Remember a name; False when it is there already, and then it keeps its value."""
        if self._count * 3 > len(self._keys) * 2:
            self._grow()
        key = short_digest(name)
        slot = self._slot(key)
        if self._keys[slot] != _EMPTY:
            return False
        self._keys[slot], self._values[slot] = key, value
        self._count += 1
        return True

    def find(self, name: str) -> int | None:
        """The value of a name; None where it was never added."""
        slot = self._slot(short_digest(name))
        return None if self._keys[slot] == _EMPTY else self._values[slot]

    def replace(self, name: str, value: int) -> None:
        """Give a name that is there another value."""
        self._values[self._slot(short_digest(name))] = value

    def _slot(self, key: int) -> int:
        mask = len(self._keys) - 1
        slot = key & mask
        while self._keys[slot] not in (_EMPTY, key):
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._keys = array("Q", bytes(16 * len(keys)))
        self._values = array("Q", bytes(16 * len(keys)))
        for key, value in zip(keys, values, strict=True):
            if key != _EMPTY:
                slot = self._slot(key)
                self._keys[slot], self._values[slot] = key, value
