"""PostgreSQL out of its wheel: private, unprivileged, and back after whatever happened to it."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from deploy.local import privileges
from deploy.local.postgres import DataFolderInUse, LocalPostgres, PostgresFailed, prepare, running
from deploy.local.privileges import CannotReach, Identity, find_identity
from tests.support.processes import is_running, until

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may walk into, with a short path."""
    path = Path(tempfile.mkdtemp(prefix="pg"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


async def ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t") for line in lines)


async def test_what_was_written_is_there_after_a_restart(folder: Path) -> None:
    first = prepare(folder, durable=False)
    async with running(first):
        await ask(first.url, "CREATE TABLE kept AS SELECT 7 AS number")

    again = prepare(folder, durable=False)
    async with running(again):
        assert 7 == await ask(again.url, "SELECT number FROM kept")

    assert first.url == again.url


async def test_nobody_comes_in_without_the_password(folder: Path) -> None:
    server = prepare(folder, durable=False)
    async with running(server):
        methods = await ask(server.admin_url, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(server.url.replace(urlsplit(server.url).password or "", "guess"), "SELECT 1")

    assert ["scram-sha-256"] == methods


async def test_the_application_is_no_superuser_and_alone_in_its_database(folder: Path) -> None:
    server = prepare(folder, durable=False)
    async with running(server):
        assert "off" == await ask(server.url, "SELECT current_setting('is_superuser')")
        assert await ask(server.url, "SELECT has_database_privilege('towhee', 'CONNECT')")
        assert not await ask(server.url, "SELECT has_database_privilege('public', 'towhee', 'CONNECT')")


async def test_secrets_and_sockets_are_closed_to_others(folder: Path) -> None:
    above = folder.parent.stat().st_mode
    server = prepare(folder, durable=False)
    async with running(server):
        modes = modes_in(folder)

    assert {
        "data": 0o700,
        "log": stat.S_IMODE((folder / "log").stat().st_mode),
        "postgres.password": 0o600,
        "socket": 0o700,
        "towhee.password": 0o600,
    } == modes
    assert above == folder.parent.stat().st_mode


async def test_no_port_is_opened_and_the_server_is_a_direct_child(open_folder: Path) -> None:
    server = prepare(open_folder / "postgres", durable=False)
    async with running(server) as pid:
        process = psutil.Process(pid)
        assert os.getpid() == process.ppid()
        assert "postgres" in process.cmdline()[0]
        assert [] == [each for each in process.net_connections("inet") if each.status == "LISTEN"]


async def test_under_root_the_server_is_nobody_with_at_most_one_capability(folder: Path) -> None:
    server = prepare(folder, durable=False)
    async with running(server) as pid:
        status = status_of(pid)

    expected = pwd.getpwnam("nobody").pw_uid if AS_ROOT else os.geteuid()
    assert {str(expected)} == set(status["Uid"].split())
    assert int(status["CapEff"], 16).bit_count() <= 1


async def test_a_path_too_long_for_a_socket_means_loopback_with_the_password(folder: Path) -> None:
    server = prepare(folder / ("long" * 25), durable=False)
    async with running(server) as pid:
        assert 1 == await ask(server.url, "SELECT 1")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(server.url.replace(urlsplit(server.url).password or "", "guess"), "SELECT 1")
        listening = [each for each in psutil.Process(pid).net_connections("inet") if each.status == "LISTEN"]

    assert {"127.0.0.1"} == {each.laddr.ip for each in listening}


async def test_a_killed_server_starts_again_with_what_was_committed(folder: Path) -> None:
    server = prepare(folder)
    async with running(server) as pid:
        await ask(server.url, "CREATE TABLE kept AS SELECT 7 AS number")
        os.kill(pid, signal.SIGKILL)
    assert (folder / "data" / "postmaster.pid").exists()

    again = prepare(folder)
    async with running(again):
        assert 7 == await ask(again.url, "SELECT number FROM kept")


async def test_a_stale_process_id_that_somebody_else_has_now_does_no_harm(folder: Path) -> None:
    """In a container ids repeat: PostgreSQL alone would refuse to start for ever."""
    prepare(folder, durable=False)
    pid_file = folder / "data" / "postmaster.pid"
    identity = (folder / "data").stat()
    user, group = (identity.st_uid, identity.st_gid) if AS_ROOT else (None, None)
    bystander = await asyncio.create_subprocess_exec("sleep", "60", user=user, group=group)
    try:
        pid_file.write_text(f"{bystander.pid}\n{folder / 'data'}\n1\n5432\n\n\n")
        os.chown(pid_file, identity.st_uid, identity.st_gid)

        server = prepare(folder, durable=False)
        async with running(server):
            assert 1 == await ask(server.url, "SELECT 1")
    finally:
        bystander.kill()
        await bystander.wait()


async def test_a_folder_in_use_is_refused(folder: Path) -> None:
    server = prepare(folder, durable=False)
    async with running(server):
        with pytest.raises(DataFolderInUse, match=str(folder)):
            prepare(folder, wait_s=0)


async def test_a_server_that_is_still_leaving_is_waited_for(folder: Path) -> None:
    server = prepare(folder, durable=False)
    async with running(server) as pid:
        waiting = asyncio.create_task(asyncio.to_thread(prepare, folder, durable=False))
        os.kill(pid, signal.SIGINT)

        assert server.url == (await asyncio.wait_for(waiting, timeout=10)).url


async def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    (folder / "data.partial").mkdir(parents=True)
    (folder / "data.partial" / "PG_VERSION").write_text("18")

    server = prepare(folder, durable=False)
    async with running(server):
        assert 1 == await ask(server.url, "SELECT 1")


async def test_stopping_does_not_wait_for_clients(folder: Path) -> None:
    server = prepare(folder, durable=False)
    async with running(server) as pid:
        idle = await asyncpg.connect(server.url)

    assert not is_running(pid)
    idle.terminate()


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = prepare(folder, durable=False)
    (folder / "data" / "PG_VERSION").write_text("9.6")

    with pytest.raises(PostgresFailed, match="version"):
        async with running(server):
            pass


async def test_the_server_ends_when_its_parent_is_killed(folder: Path) -> None:
    program = f"""
import asyncio
from pathlib import Path
from deploy.local.postgres import prepare, running

async def main():
    async with running(prepare(Path({str(folder)!r}), durable=False)) as pid:
        print(pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), timeout=30))
    assert is_running(pid)

    parent.kill()
    await parent.wait()

    await until(lambda: not is_running(pid))


def test_a_program_in_reach_of_everybody_keeps_nothing_of_root(open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")

    found = find_identity(reach=[open_folder], run=Path("/bin/sh"))

    assert (Identity(uid=nobody.pw_uid, gid=nobody.pw_gid) if AS_ROOT else None) == found


def test_a_closed_folder_without_the_right_to_pass_a_capability_on_is_refused(
    monkeypatch: pytest.MonkeyPatch, open_folder: Path
) -> None:
    """As in a container that was started without any capability."""
    open_folder.chmod(0o700)
    monkeypatch.setattr(privileges.os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "_held_capabilities", lambda: 0)

    with pytest.raises(CannotReach, match=str(open_folder)):
        find_identity(reach=[open_folder], run=Path("/bin/sh"))


def test_the_url_is_not_shown_by_accident(folder: Path) -> None:
    server: LocalPostgres = prepare(folder, durable=False)

    assert (urlsplit(server.url).password or "") not in repr(server)
