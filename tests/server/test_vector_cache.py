import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.vector_cache import CachedVector, VectorCache


def _entry(dimension: int = 4, value: float = 1.0) -> CachedVector:
    return CachedVector(np.full(dimension, value, dtype=np.float32), truncated=False, tokens=3)


def test_what_was_put_is_found() -> None:
    cache = VectorCache(10_000)
    entry = _entry()

    cache.put(b"a", entry)

    assert entry is cache.find(b"a")
    assert None is cache.find(b"b")


def test_the_least_recently_used_entry_goes_first() -> None:
    one = VectorCache(10_000)
    one.put(b"a", _entry())
    cache = VectorCache(2 * one.used_bytes)
    cache.put(b"a", _entry())
    cache.put(b"b", _entry())
    cache.find(b"a")

    cache.put(b"c", _entry())

    assert [True, False, True] == [cache.find(key) is not None for key in (b"a", b"b", b"c")]


def test_an_entry_over_the_whole_ceiling_is_not_kept_and_evicts_nothing() -> None:
    cache = VectorCache(1_000)
    cache.put(b"a", _entry())

    cache.put(b"b", _entry(dimension=10_000))

    assert cache.find(b"a") is not None
    assert cache.find(b"b") is None


def test_a_ceiling_of_zero_keeps_nothing() -> None:
    cache = VectorCache(0)

    cache.put(b"a", _entry())

    assert 0 == len(cache)


@given(
    puts=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 200)), max_size=60),
    max_bytes=st.integers(0, 6_000),
)
def test_the_ceiling_holds_and_the_count_of_bytes_is_right(
    puts: list[tuple[int, int]], max_bytes: int
) -> None:
    cache = VectorCache(max_bytes)
    for key, dimension in puts:
        cache.put(bytes([key]), _entry(dimension))
        assert cache.used_bytes <= max_bytes

    kept = [entry for key in range(10) if (entry := cache.find(bytes([key]))) is not None]

    assert len(kept) == len(cache)
    assert sum(entry.vector.nbytes + 400 for entry in kept) == cache.used_bytes
