"""Work behind a call is kept, waited for and heard of."""

import asyncio
import logging

import pytest

from bus.tasks import Tasks


async def test_a_failure_is_logged_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("no")

    tasks = Tasks()
    tasks.spawn(fail(), "a task of mine")

    with caplog.at_level(logging.WARNING):
        await tasks.join()

    assert "a task of mine failed: ValueError('no')" in caplog.text


async def test_joining_waits_for_tasks_that_start_meanwhile() -> None:
    tasks = Tasks()
    done: list[str] = []

    async def second() -> None:
        done.append("second")

    async def first() -> None:
        await asyncio.sleep(0)
        tasks.spawn(second(), "second")
        done.append("first")

    tasks.spawn(first(), "first")
    await tasks.join()

    assert done == ["first", "second"]


async def test_a_task_may_join_the_others() -> None:
    tasks = Tasks()
    joining = tasks.spawn(tasks.join(), "joining")

    await asyncio.wait_for(joining, 5.0)


async def test_cancelling_ends_all_of_them() -> None:
    tasks = Tasks()
    waiting = tasks.spawn(asyncio.Event().wait(), "waiting")
    await asyncio.sleep(0)

    await tasks.cancel()

    assert waiting.cancelled()
