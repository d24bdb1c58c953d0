"""The doctor asks everything for real and says what to do."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest

from bus import subjects, topology
from bus.client import NatsBus
from bus.dead_letters import Death
from bus.envelope import Message
from bus.messages import EmbedJob, TrainersAnnounced
from bus.topology import Topology, apply
from tests.support.script import Script
from tests.support.tiny import Addresses, tiny_worker

OWN_POOL = "doctors-own"


@pytest.fixture
def environ(database_url: str, nats_url: str, nats_bus: NatsBus, tmp_path: Path) -> dict[str, str]:
    """Real parts, all of them well."""
    return {
        "DATABASE_URL": database_url,
        "NATS_URL": nats_url,
        "OBJECT_STORE_URL": tmp_path.as_uri(),
    }


@pytest.fixture
async def worker(environ: dict[str, str]) -> Any:  # noqa: ANN401 - a fixture that only has to be there
    """A worker of the default pool."""
    async with tiny_worker(Addresses(**{name.lower(): value for name, value in environ.items()})) as worker:
        yield worker


@pytest.fixture
async def trainer(nats_bus: NatsBus) -> None:
    """A train worker of the default pool, as far as a doctor hears of it."""

    async def announce(_: Message) -> None:
        for number in range(2):
            announced = TrainersAnnounced(
                worker_id=f"trainer-{number}", pool="default", device="cpu", samples=[]
            )
            await nats_bus.tell(subjects.TRAINERS_ANNOUNCED, announced)

    await nats_bus.follow(subjects.TRAINERS_WANTED, announce)


class Doctor:
    """Asks the doctor while the test's loop runs on, with its worker."""

    def __init__(self, script: Script, environ: dict[str, str]) -> None:
        self._script = script
        self._environ = environ

    async def ask(self, *arguments: str, **changed: str) -> tuple[int, list[str], str]:
        """Give the exit code, the lines without their times, and what was said on standard error."""
        environ = {**self._environ, **changed}
        done = await asyncio.to_thread(self._script.run, "doctor", *arguments, env=environ)
        lines = [
            line.rpartition(" (")[0] if line.startswith("ok") else line for line in done.stdout.splitlines()
        ]
        return done.returncode, sorted(lines), done.stderr


@pytest.fixture
def doctor(towhee_api: Script, environ: dict[str, str]) -> Doctor:
    return Doctor(towhee_api, environ)


def only_failure(lines: list[str]) -> str:
    """The one line that is not well."""
    [line] = [line for line in lines if line.startswith("FAIL ")]
    return line


@pytest.fixture
def admin(nats_url: str) -> Iterator[Callable[[str], Awaitable[Any]]]:
    """Ask the JetStream API something, as an operator does with the nats command."""

    async def ask(operation: str, body: bytes = b"") -> None:
        client = await nats.connect(nats_url)
        await client.request(f"$JS.API.{operation}", body, timeout=5)
        await client.close()

    return ask


async def test_what_is_well_is_said_in_a_line_each(doctor: Doctor, worker: object, trainer: object) -> None:
    code, lines, error = await doctor.ask()

    assert (0, "") == (code, error), lines
    assert ["ok"] * 8 == [line.split()[0] for line in lines]
    assert {
        "ok    bus: answers",
        "ok    database: answers, its schema is up to date",
        "ok    object store: can be written and read",
        "ok    consumers: as declared, for the pools default",
        "ok    pools: default hosts tiny",
        "ok    trainers: default trains on cpu",
        "ok    dead letters: none",
    } <= set(lines)


async def test_a_migration_that_is_missing_is_named(
    doctor: Doctor, worker: object, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM schema_migrations WHERE name LIKE '0003%'")
    await connection.close()

    code, lines, error = await doctor.ask()

    assert 1 == code
    assert "FAIL  database: 0003_outbox_trace not applied: run towhee-api migrate" == only_failure(lines)
    assert "towhee-api: database: not well, the lines above say what to do\n" == error


async def test_a_consumer_that_is_gone_is_named_with_the_command_that_makes_it(
    doctor: Doctor, worker: object, admin: Callable[..., Awaitable[None]]
) -> None:
    await admin("CONSUMER.DELETE.JOB_EVENTS.projection")

    code, lines, _ = await doctor.ask()

    line = only_failure(lines)
    assert 1 == code
    assert line.startswith("FAIL  consumers: create consumer projection of JOB_EVENTS")
    assert line.endswith(": run towhee-api bus apply")


async def test_a_consumer_that_differs_from_the_table_is_named_with_both_values(
    doctor: Doctor, worker: object, nats_url: str
) -> None:
    client = await nats.connect(nats_url)
    manager = client.jsm()
    config = (await manager.consumer_info("JOBS", "embed_bulk_default")).config
    config.ack_wait = 60.0
    await manager.add_consumer("JOBS", config)
    await client.close()

    code, lines, _ = await doctor.ask()

    assert 1 == code
    expected = "update consumer embed_bulk_default of JOBS: ack_wait 60 s -> 12 s: run towhee-api bus apply"
    assert f"FAIL  consumers: {expected}" == only_failure(lines)


async def test_a_stream_that_is_gone_takes_its_consumers_with_it(
    doctor: Doctor, worker: object, admin: Callable[..., Awaitable[None]]
) -> None:
    await admin("STREAM.DELETE.JOBS")

    code, lines, error = await doctor.ask()

    failed = [line for line in lines if line.startswith("FAIL")]
    assert 1 == code
    assert failed[0].startswith("FAIL  consumers: create consumer embed_bulk_default")
    assert failed[1].startswith("FAIL  streams: create stream JOBS")
    assert "towhee-api: streams, consumers: not well, the lines above say what to do\n" == error


async def test_a_pool_without_a_worker_is_named(doctor: Doctor, worker: object, nats_url: str) -> None:
    await apply(nats_url, Topology.for_pools([OWN_POOL]))

    code, lines, _ = await doctor.ask("--pool", "default", "--pool", OWN_POOL)

    expected = f"nobody works for {OWN_POOL}: run towhee-api work embed there, or look why it ends"
    assert (1, f"FAIL  pools: {expected}") == (code, only_failure(lines))


async def test_a_stack_that_does_not_train_is_worth_a_note_and_no_failure(
    doctor: Doctor, worker: object
) -> None:
    code, lines, error = await doctor.ask()

    assert (0, "") == (code, error)
    said = "nobody trains for default: trainings and data sets wait there until towhee-api work train runs"
    assert f"note  trainers: {said}" in lines


async def test_dead_letters_are_counted_by_what_they_are_and_why_and_are_no_failure(
    doctor: Doctor, nats_bus: NatsBus
) -> None:
    for number, why in enumerate(("INTERNAL", "unknown-schema", "INTERNAL")):
        await nats_bus.publish(
            subjects.embed_job("default", str(number)), EmbedJob(job_id=str(number), publish_number=1)
        )
        [delivery] = await nats_bus.puller(topology.embed_bulk("default")).fetch(limit=1, wait_s=5)
        await delivery.dead_letter(Death(code=why, reason="Input 3 has ended it."))

    _, lines, error = await doctor.ask()

    [line] = [line for line in lines if "dead letters" in line]
    said = "3 given up (2 of job.embed, INTERNAL; 1 of job.embed, unknown-schema)"
    todo = "towhee-api jobs dead says why, then jobs retry ID or jobs drop ID"
    assert f"note  dead letters: {said}: {todo}" == line
    # A worker would have taken them, so there is none.
    assert "towhee-api: pools: not well, the lines above say what to do\n" == error


async def test_an_object_store_that_is_no_folder_is_named(
    doctor: Doctor, worker: object, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")

    code, lines, _ = await doctor.ask(OBJECT_STORE_URL=(tmp_path / "file").as_uri())

    line = only_failure(lines)
    assert 1 == code
    assert line.startswith("FAIL  object store: ")
    assert line.endswith(": check OBJECT_STORE_URL, and who may write there")


async def test_an_address_that_is_not_set_is_named(doctor: Doctor, worker: object) -> None:
    code, lines, _ = await doctor.ask(DATABASE_URL="")

    expected = "DATABASE_URL is not set: set it, or name a running stack with --data-dir"
    assert (1, f"FAIL  database: {expected}") == (code, only_failure(lines))


def test_nobody_there_is_said_for_each_part(towhee_api: Script, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    nowhere = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "NATS_URL": "nats://127.0.0.1:1",
        "OBJECT_STORE_URL": (tmp_path / "file").as_uri(),
    }

    done = towhee_api.run("doctor", env=nowhere)

    assert 1 == done.returncode
    *failed, skipped = done.stdout.splitlines()
    assert ["FAIL"] * 3 == [line[:4] for line in failed]
    assert (
        "-     streams, consumers, pools, trainers, dead letters: not asked, as the bus does not answer"
        == skipped
    )


def test_without_an_address_or_a_stack_it_says_how_to_get_one(towhee_api: Script, tmp_path: Path) -> None:
    done = towhee_api.run("doctor", "--data-dir", str(tmp_path))

    expected = f"no stack of yours is up in {tmp_path}: start one with towhee-api up --data-dir {tmp_path}"
    assert (2, "", f"towhee-api: {expected}\n") == (done.returncode, done.stdout, done.stderr)


def test_applying_the_streams_twice_changes_nothing_and_a_dry_run_neither(
    towhee_api: Script, nats_url: str
) -> None:
    env = {"NATS_URL": nats_url}
    pool = ["--pool", "applied-twice"]

    planned = towhee_api.run("bus", "apply", "--dry-run", *pool, env=env)
    changed = towhee_api.run("bus", "apply", *pool, env=env)
    again = towhee_api.run("bus", "apply", *pool, env=env)

    assert [0, 0, 0] == [planned.returncode, changed.returncode, again.returncode]
    assert planned.stdout == changed.stdout
    assert "nothing to do\n" == again.stdout
