"""Children end when we do, and are what we asked for."""

import asyncio
import os
import pwd
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from deploy.local.child import ChildOptions, start_child
from deploy.local.launch import CANNOT_EXECUTE
from tests.support.processes import command_line, is_running, until

SLEEP = ["sleep", "600"]
PIPED = ChildOptions(output=asyncio.subprocess.PIPE)
ROOT = Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    return dict(os.environ)


async def test_a_child_runs_under_its_own_command_line(tmp_path: Path) -> None:
    child = await start_child(SLEEP, env=_environment(), cwd=tmp_path)
    try:
        await until(lambda: command_line(child.pid) == SLEEP)

        assert child.returncode is None
    finally:
        await child.stop(5.0)


async def test_a_child_gets_the_environment_and_the_folder_it_was_given(tmp_path: Path) -> None:
    child = await start_child(
        ["sh", "-c", "echo $FLAVOUR; pwd -P"], env={"FLAVOUR": "mint"}, cwd=tmp_path, options=PIPED
    )
    assert child.output is not None

    assert f"mint\n{tmp_path}\n".encode() == await child.output.read()
    assert await child.wait() == 0


async def test_stop_ends_a_child_politely(tmp_path: Path) -> None:
    child = await start_child(SLEEP, env=_environment(), cwd=tmp_path)
    await until(lambda: command_line(child.pid) == SLEEP)

    assert -signal.SIGTERM == await child.stop(5.0)


async def test_stop_kills_a_child_that_will_not_go_and_whatever_it_started(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $!; wait; wait"
    child = await start_child(["sh", "-c", script], env=_environment(), cwd=tmp_path, options=PIPED)
    assert child.output is not None
    grandchild = int(await child.output.readline())

    code = await child.stop(0.05)

    assert code == -signal.SIGKILL
    await until(lambda: not is_running(grandchild))


async def test_stop_kills_what_a_child_left_behind_when_it_ended_by_itself(tmp_path: Path) -> None:
    child = await start_child(
        ["sh", "-c", "sleep 600 & echo $!"], env=_environment(), cwd=tmp_path, options=PIPED
    )
    assert child.output is not None
    grandchild = int(await child.output.readline())
    await child.wait()

    await child.stop(5.0)

    await until(lambda: not is_running(grandchild))


async def test_stopping_twice_is_harmless(tmp_path: Path) -> None:
    child = await start_child(["true"], env=_environment(), cwd=tmp_path)
    await child.stop(5.0)

    assert child.returncode == await child.stop(5.0)


PARENT = """
    import asyncio, os, sys
    from pathlib import Path
    from deploy.local.child import start_child

    async def main():
        user = sys.argv[1] or None
        child = await start_child(["sleep", "600"], env=dict(os.environ), cwd=Path("/"), user=user)
        print(child.pid, flush=True)
        await child.wait()

    asyncio.run(main())
"""


@pytest.mark.parametrize("user", ["", "nobody"] if os.geteuid() == 0 else [""])
async def test_a_child_dies_when_its_parent_is_killed(user: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(PARENT),
        user,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    try:
        await until(lambda: command_line(pid) == SLEEP)
    finally:
        parent.kill()
        await parent.wait()

    await until(lambda: not is_running(pid))


async def test_a_child_whose_parent_died_before_it_could_ask_does_not_start(tmp_path: Path) -> None:
    """The launcher compares its parent with the one it was told."""
    launcher = ROOT / "deploy" / "local" / "launch.py"
    marker = tmp_path / "started"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(launcher), "1", "9", "", "touch", str(marker)
    )

    assert await process.wait() == 0
    assert not marker.exists()


async def test_a_command_that_cannot_run_says_so(tmp_path: Path) -> None:
    child = await start_child(["/no/such/command"], env=_environment(), cwd=tmp_path, options=PIPED)
    assert child.output is not None

    assert b"/no/such/command: " in await child.output.read()
    assert await child.wait() == CANNOT_EXECUTE


async def test_a_child_becomes_the_user_it_should_be_if_we_may(tmp_path: Path) -> None:
    child = await start_child(["id", "-u"], env=_environment(), cwd=Path("/"), user="nobody", options=PIPED)
    assert child.output is not None
    output = (await child.output.read()).decode()

    if os.geteuid() == 0:
        assert str(pwd.getpwnam("nobody").pw_uid) == output.strip()
    else:
        assert "not permitted" in output
        assert await child.wait() == CANNOT_EXECUTE


async def test_children_are_not_started_from_another_thread(tmp_path: Path) -> None:
    """They would die with that thread."""

    def start() -> None:
        asyncio.run(start_child(SLEEP, env=_environment(), cwd=tmp_path))

    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(start)
