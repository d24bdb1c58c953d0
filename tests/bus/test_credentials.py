"""A credentials file, as clusters hand them out, opens the connection."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus import subjects
from bus.client import NatsBus
from bus.errors import NotPermitted
from bus.messages import JobNudged
from deploy.local.child import start_child
from deploy.local.nats import find_free_port, find_server
from tests.bus.contract_bus import Inbox
from tests.support.bus import QUIET
from tests.support.nats_identities import make_identities


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """A nats-server that knows no passwords, only an operator; and the file of one of its users."""
    port = find_free_port()
    config, credentials = make_identities(port).write(tmp_path)
    child = await start_child(
        [str(find_server()), "--config", str(config)], env=dict(os.environ), cwd=tmp_path, options=QUIET
    )
    yield f"nats://127.0.0.1:{port}", credentials
    await child.stop(5.0)


async def test_the_right_file_opens_the_connection(guarded: tuple[str, Path]) -> None:
    url, credentials = guarded
    bus = await NatsBus.connect(url, name="test", credentials=credentials)
    inbox = Inbox()
    await bus.follow(subjects.job_nudged("1"), inbox)

    await bus.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))

    await inbox.until(1)
    await bus.close()


async def test_the_file_of_another_operator_does_not(guarded: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = guarded
    other = tmp_path / "other"
    other.mkdir()
    _, credentials = make_identities(1).write(other)

    with pytest.raises(NotPermitted):
        await NatsBus.connect(url, name="test", credentials=credentials)


@pytest.mark.parametrize("content", [None, b"", b"not a credentials file\n", b"\xff\xfe"])
async def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    credentials = tmp_path / "broken.creds"
    if content is not None:
        credentials.write_bytes(content)

    with pytest.raises(NotPermitted, match=r"broken\.creds"):
        await NatsBus.connect("nats://127.0.0.1:1", name="test", credentials=credentials)
