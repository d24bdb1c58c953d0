"""Operators see what was given up, put it back and forget it, from a shell."""

from pathlib import Path

import pytest

from bus import codec, subjects, topology
from bus.client import NatsBus
from bus.dead_letters import Death
from bus.messages import EmbedJob
from server.database import Database
from server.ids import new_id
from tests.support.jobs import make_user
from tests.support.script import Script


@pytest.fixture
def environ(database_url: str, nats_url: str, tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "NATS_URL": nats_url, "OBJECT_STORE_URL": tmp_path.as_uri()}


async def _bury_job(database: Database, bus: NatsBus) -> str:
    """Give up a job that has failed."""
    owner, job_id = await make_user(database), new_id()
    await database.execute(
        "INSERT INTO jobs (id, user_id, kind, state, attempt, error_code, finished_at)"
        " VALUES ({}, {}, 'EMBEDDING', 'FAILED', 3, 'INTERNAL', now())",
        job_id,
        owner.user_id,
    )
    command = EmbedJob(job_id=str(job_id), publish_number=1)
    await bus.publish(subjects.embed_job("default", str(job_id)), command)
    [delivery] = await bus.puller(topology.embed_bulk("default")).fetch(limit=1, wait_s=5)
    await delivery.dead_letter(Death(code="INTERNAL", reason="Input 3 has ended it.", attempt=3))
    return str(job_id)


async def test_dead_jobs_are_listed_retried_and_dropped(
    towhee_api: Script, environ: dict[str, str], database: Database, nats_bus: NatsBus
) -> None:
    assert "no dead jobs\n" == towhee_api.run("jobs", "dead", env=environ).stdout
    retried, dropped = [await _bury_job(database, nats_bus) for _ in range(2)]

    listed = towhee_api.run("jobs", "dead", env=environ)
    retry = towhee_api.run("jobs", "retry", "1", env=environ)
    drop = towhee_api.run("jobs", "drop", "2", env=environ)

    first, second = listed.stdout.splitlines()
    assert first.startswith("1  ")
    assert f"job {retried} FAILED  INTERNAL  attempt 3, delivery 1: Input 3 has ended it." in first
    assert f"job {dropped} FAILED" in second
    assert (0, f"job {retried} is published again under number 2\n") == (retry.returncode, retry.stdout)
    assert (0, f"dropped what was published on {subjects.embed_job('default', dropped)}\n") == (
        drop.returncode,
        drop.stdout,
    )
    assert "no dead jobs\n" == towhee_api.run("jobs", "dead", env=environ).stdout
    [waiting] = await database.fetch("SELECT message_id, message FROM outbox WHERE sent_at IS NULL")
    assert f"{retried}:2" == waiting["message_id"]
    command = codec.decode(waiting["message"])
    assert isinstance(command, EmbedJob)
    assert (retried, 2) == (command.job_id, command.publish_number)


def test_what_can_not_be_done_is_one_line(
    towhee_api: Script, environ: dict[str, str], nats_bus: NatsBus, tmp_path: Path
) -> None:
    cases = {
        ("jobs", "retry", "7"): (1, "There is no dead job 7."),
        ("jobs", "drop", "all"): (2, "all is no id: towhee-api jobs dead lists them"),
        ("jobs", "dead", "--data-dir", str(tmp_path)): (2, f"no stack of yours is up in {tmp_path}"),
        ("jobs",): (2, "required: COMMAND"),
    }
    for arguments, (code, said) in cases.items():
        done = towhee_api.run(*arguments, env=environ)
        assert (code, 1) == (done.returncode, len(done.stderr.splitlines()))
        assert said in done.stderr

    away = towhee_api.run("jobs", "dead", env={**environ, "DATABASE_URL": "postgres://a@127.0.0.1:1/b"})
    assert 1 == away.returncode
    assert "check DATABASE_URL" in away.stderr
