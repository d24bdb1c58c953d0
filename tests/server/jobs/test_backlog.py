"""How much unfinished work is accepted."""

import asyncio

import pytest

from server.auth.principal import Principal
from server.backlog import Backlog
from server.database import Database
from server.errors import Busy
from server.job_inputs import CreateJobRequest
from tests.support.jobs import MAX_OPEN_OF_USER, Replica, Worker, make_user

REQUEST = CreateJobRequest(texts=["one"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_user_with_too_many_open_jobs_is_told_when_to_come_back_and_nobody_else_is(
    replica: Replica, worker: Worker, owner: Principal, database: Database
) -> None:
    first = await replica.create(owner, 1)
    await asyncio.gather(*(replica.create(owner, 1) for _ in range(MAX_OPEN_OF_USER - 1)))

    with pytest.raises(Busy) as refusal:
        await asyncio.wait_for(replica.jobs.create(owner, REQUEST), 1.0)

    assert 5.0 == refusal.value.retry_after_s
    assert [MAX_OPEN_OF_USER] == [row["n"] for row in await database.fetch("SELECT count(*) AS n FROM jobs")]
    await replica.jobs.create(await make_user(database), REQUEST)
    await worker.finish(await worker.claim(first.id))
    await replica.projection.step()
    await replica.jobs.create(owner, REQUEST)


async def test_a_job_that_was_accepted_is_found_by_its_key_when_no_more_are_taken(
    replica: Replica, owner: Principal
) -> None:
    keyed = CreateJobRequest(texts=["one"], idempotency_key="k")
    job = await replica.jobs.create(owner, keyed)
    for _ in range(MAX_OPEN_OF_USER - 1):
        await replica.create(owner, 1)

    assert job == await replica.jobs.create(owner, keyed)


async def test_a_full_pool_takes_no_more_from_anybody_until_some_have_ended(
    replica: Replica, owner: Principal, database: Database
) -> None:
    clock = Clock()
    backlog = Backlog(database, max_of_user=100, max_of_pool=3, clock=clock)
    for _ in range(2):
        await replica.create(owner, 1)
    stranger = await make_user(database)
    await backlog.check(stranger.user_id, "default")

    # Counted by this server itself, within the second.
    with pytest.raises(Busy):
        await backlog.check(owner.user_id, "default")
    await backlog.check(owner.user_id, "pictures")
    # The one it had let pass came to nothing.
    clock.now += 1.0
    await backlog.check(owner.user_id, "default")
    await replica.create(owner, 1)
    clock.now += 1.0
    with pytest.raises(Busy):
        await backlog.check(stranger.user_id, "default")

    await database.execute("UPDATE jobs SET state = 'FAILED'")
    clock.now += 1.0
    await backlog.check(stranger.user_id, "default")
