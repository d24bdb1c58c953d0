"""Many who read the same thing at the same time read it once."""

import asyncio
from collections import Counter

import pytest

from server.shared_reading import SharedReads
from tests.support.processes import until


class Shelf:
    """Something that takes until it is told to read."""

    def __init__(self) -> None:
        self.num_begun: Counter[str] = Counter()
        self.num_cancelled = 0
        self.is_open = asyncio.Event()
        self.reads: SharedReads[str, str] = SharedReads()

    async def ask(self, key: str, *, is_fresh: bool = True) -> str:
        """Read, alone or with others."""

        async def read() -> str:
            self.num_begun[key] += 1
            number = self.num_begun[key]
            try:
                await self.is_open.wait()
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
            if key == "bad":
                raise ValueError(key)
            return f"{key} {number}"

        return await self.reads.read(key, read, is_fresh=is_fresh)

    async def until_begun(self, key: str, times: int = 1) -> None:
        """Return when a reading has begun."""
        await until(lambda: self.num_begun[key] >= times)


@pytest.fixture
async def shelf() -> Shelf:
    return Shelf()


async def test_those_who_come_together_read_once(shelf: Shelf) -> None:
    asking = [asyncio.create_task(shelf.ask(key)) for key in ("a", "b") * 50]
    await shelf.until_begun("b")
    shelf.is_open.set()

    assert ["a 1", "b 1"] * 50 == await asyncio.gather(*asking)
    assert {"a": 1, "b": 1} == shelf.num_begun
    assert shelf.reads.is_idle


@pytest.mark.parametrize(("is_fresh", "second"), [(True, "a 2"), (False, "a 1")])
async def test_who_comes_after_a_reading_has_begun_shares_it_only_where_nothing_changes(
    shelf: Shelf, *, is_fresh: bool, second: str
) -> None:
    first = asyncio.create_task(shelf.ask("a", is_fresh=is_fresh))
    await shelf.until_begun("a")
    late = [asyncio.create_task(shelf.ask("a", is_fresh=is_fresh)) for _ in range(10)]
    await asyncio.sleep(0)
    shelf.is_open.set()

    assert ["a 1", *[second] * 10] == await asyncio.gather(first, *late)
    assert shelf.reads.is_idle


async def test_an_error_is_told_to_all_and_the_next_reads_again(shelf: Shelf) -> None:
    shelf.is_open.set()
    asking = [asyncio.create_task(shelf.ask("bad")) for _ in range(3)]

    errors = await asyncio.gather(*asking, return_exceptions=True)

    assert [ValueError] * 3 == [type(error) for error in errors]
    with pytest.raises(ValueError, match="bad"):
        await shelf.ask("bad")
    assert 2 == shelf.num_begun["bad"]


async def test_a_reader_that_goes_away_leaves_the_reading_to_the_others_and_the_last_ends_it(
    shelf: Shelf,
) -> None:
    asking = [asyncio.create_task(shelf.ask("a")) for _ in range(3)]
    await shelf.until_begun("a")

    for task in asking[:2]:
        task.cancel()
    await asyncio.wait(asking[:2])
    assert (False, 0) == (shelf.reads.is_idle, shelf.num_cancelled)
    asking[2].cancel()
    await asyncio.wait(asking)

    assert shelf.reads.is_idle
    await until(lambda: shelf.num_cancelled == 1)
