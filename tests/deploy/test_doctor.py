"""The doctor asks everything for real and says what to do."""

from pathlib import Path

import pytest

from tests.support.script import Script


@pytest.fixture
def addresses(database_url: str, nats_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "NATS_URL": nats_url,
        "OBJECT_STORE_URL": tmp_path.as_uri(),
    }


def said(output: str) -> list[str]:
    """Each line without the time it took."""
    return [line.rpartition(" (")[0] or line for line in output.splitlines()]


def test_what_is_well_is_said_in_a_line_each(towhee_api: Script, addresses: dict[str, str]) -> None:
    assert 0 == towhee_api.run("bus", "apply", env=addresses).returncode

    done = towhee_api.run("doctor", env=addresses)

    assert (0, "") == (done.returncode, done.stderr)
    assert [
        "ok    bus: answers",
        "ok    database: answers, its schema is up to date",
        "ok    object store: can be written and read",
        "ok    streams: as declared, for the pools default",
    ] == sorted(said(done.stdout))


def test_streams_that_are_missing_are_named_with_the_command_that_makes_them(
    towhee_api: Script, addresses: dict[str, str]
) -> None:
    done = towhee_api.run("doctor", "--pool", "nobody-made-this", env=addresses)

    line = next(line for line in done.stdout.splitlines() if line.startswith("FAIL"))
    assert 1 == done.returncode
    assert line.startswith("FAIL  streams: ")
    assert line.endswith(": run towhee-api bus apply")
    assert "towhee-api: streams: not well, the lines above say what to do\n" == done.stderr


def test_nobody_there_is_said_for_each_part(towhee_api: Script, tmp_path: Path) -> None:
    nowhere = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "NATS_URL": "nats://127.0.0.1:1",
        "OBJECT_STORE_URL": (tmp_path / "file").as_uri(),
    }
    (tmp_path / "file").write_text("not a folder")

    done = towhee_api.run("doctor", env=nowhere)

    assert 1 == done.returncode
    assert ["FAIL"] * 4 == [line[:4] for line in done.stdout.splitlines()]


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
