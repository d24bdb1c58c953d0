from datetime import UTC, datetime, timedelta

import pytest

from server.auth.principal import Principal
from server.database import Database
from server.ids import new_id
from server.records import UsageRecord
from server.usage import UsageMeter
from tests.support.embedding import MakePrincipal

ONE = UsageRecord(requests=1, items=2, tokens=30, bytes=400, compute_s=0.5)
TWICE = UsageRecord(requests=2, items=4, tokens=60, bytes=800, compute_s=1.0)


async def test_what_was_recorded_is_summed(usage: UsageMeter, principal: Principal) -> None:
    usage.record(principal.user_id, ONE)
    await usage.flush()
    usage.record(principal.user_id, ONE)

    assert TWICE == await usage.total(principal.user_id, None)


async def test_two_replicas_add_to_the_same_hour(database: Database, principal: Principal) -> None:
    for _ in range(2):
        replica = UsageMeter(database)
        replica.record(principal.user_id, ONE)
        await replica.close()

    [row] = await database.fetch("SELECT * FROM usage_hours")

    assert (2, 4, 60, 800) == (row["requests"], row["items"], row["tokens"], row["bytes"])


async def test_users_do_not_see_each_others_usage(usage: UsageMeter, make_principal: MakePrincipal) -> None:
    mine, theirs = await make_principal(), await make_principal()
    usage.record(theirs.user_id, ONE)

    assert UsageRecord() == await usage.total(mine.user_id, None)


async def test_since_counts_from_the_hour_that_contains_it(
    usage: UsageMeter, database: Database, principal: Principal
) -> None:
    now = datetime.now(UTC)
    await database.execute(
        "INSERT INTO usage_hours (user_id, hour, requests) VALUES ({}, {}, 7)",
        principal.user_id,
        now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=5),
    )
    usage.record(principal.user_id, ONE)

    assert 1 == (await usage.total(principal.user_id, now - timedelta(hours=2))).requests
    assert 8 == (await usage.total(principal.user_id, now - timedelta(hours=5))).requests


async def test_closing_writes_what_is_left(database: Database, principal: Principal) -> None:
    meter = UsageMeter(database)
    meter.start()
    meter.record(principal.user_id, ONE)

    await meter.close()

    assert ONE == await UsageMeter(database).total(principal.user_id, None)


async def test_an_account_that_is_gone_does_not_keep_the_others_from_being_written(
    usage: UsageMeter, principal: Principal
) -> None:
    usage.record(new_id(), ONE)
    usage.record(principal.user_id, ONE)

    assert ONE == await usage.total(principal.user_id, None)


async def test_what_could_not_be_written_is_kept_for_the_next_time(
    usage: UsageMeter, database: Database, principal: Principal
) -> None:
    usage.record(principal.user_id, ONE)
    await database.execute("ALTER TABLE usage_hours RENAME TO away")
    with pytest.raises(Exception, match="usage_hours"):
        await usage.flush()
    usage.record(principal.user_id, ONE)
    await database.execute("ALTER TABLE away RENAME TO usage_hours")

    assert TWICE == await usage.total(principal.user_id, None)
