"""The loop of background services."""

import asyncio

import pytest

from bus.errors import BusUnavailable
from server.errors import Busy
from server.repeating import Repeating
from tests.support.processes import until


class Steps:
    """Counts steps and lets a test wait for one."""

    def __init__(self, *, failing: int = 0, holding: bool = False) -> None:
        self.begun = asyncio.Queue[int]()
        self.release = asyncio.Event()
        self.num_done = 0
        self._failing = failing
        self._is_holding = holding
        self._num_begun = 0

    async def __call__(self) -> None:
        self._num_begun += 1
        self.begun.put_nowait(self._num_begun)
        if self._is_holding:
            await self.release.wait()
        if self._num_begun <= self._failing:
            raise RuntimeError("a step that fails")
        self.num_done += 1


async def _next(steps: Steps) -> int:
    return await asyncio.wait_for(steps.begun.get(), 5)


async def test_the_first_step_runs_at_once_and_the_next_when_woken() -> None:
    steps = Steps()
    loop = Repeating(steps, name="test", every_s=3600)
    loop.start()

    assert 1 == await _next(steps)
    loop.wake()
    assert 2 == await _next(steps)
    await loop.close()


async def test_a_step_runs_again_without_being_woken() -> None:
    steps = Steps()
    loop = Repeating(steps, name="test", every_s=0.01)
    loop.start()

    assert [1, 2, 3] == [await _next(steps) for _ in range(3)]
    await loop.close()


async def test_waking_during_a_step_is_not_forgotten() -> None:
    steps = Steps(holding=True)
    loop = Repeating(steps, name="test", every_s=3600)
    loop.start()
    await _next(steps)

    loop.wake()
    steps.release.set()

    assert 2 == await _next(steps)
    await loop.close()


async def test_a_step_that_fails_is_tried_again() -> None:
    steps = Steps(failing=2)
    loop = Repeating(steps, name="test", every_s=3600, retry_s=0.01)
    loop.start()

    assert [1, 2, 3] == [await _next(steps) for _ in range(3)]
    await loop.close()
    assert 1 == steps.num_done


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [(RuntimeError("a bug"), True), (Busy("away"), False), (BusUnavailable("away"), False)],
)
async def test_only_a_bug_is_told_with_its_traceback(
    error: Exception, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise error

    loop = Repeating(fail, name="test", every_s=3600, retry_s=3600)
    loop.start()
    await until(lambda: bool(caplog.records))
    await loop.close()

    [record] = caplog.records
    assert str(error) in record.getMessage()
    assert has_traceback == bool(record.exc_info)


async def test_closing_lets_the_step_in_hand_end_and_begins_no_other() -> None:
    steps = Steps(holding=True)
    loop = Repeating(steps, name="test", every_s=0)
    loop.start()
    await _next(steps)

    closing = asyncio.create_task(loop.close())
    await asyncio.sleep(0)
    assert not closing.done()
    steps.release.set()
    await asyncio.wait_for(closing, 5)

    assert 1 == steps.num_done
    assert steps.begun.empty()


async def test_closing_waits_no_longer_than_the_grace() -> None:
    steps = Steps(holding=True)
    loop = Repeating(steps, name="test", every_s=0)
    loop.start()
    await _next(steps)

    await asyncio.wait_for(loop.close(grace_s=0.01), 5)

    assert 0 == steps.num_done


async def test_closing_what_never_started_is_fine() -> None:
    await Repeating(Steps(), name="test", every_s=1).close()
