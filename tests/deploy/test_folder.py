"""One data folder keeps everything, for one stack at a time."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.errors import WrongUse
from deploy.local.folder import DataFolder

HOLD = (
    "import sys, pathlib; from deploy.local.folder import DataFolder\n"
    "with DataFolder(pathlib.Path(sys.argv[1])).held(): print('held', flush=True); sys.stdin.read()"
)


def hold_elsewhere(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert b"held\n" == process.stdout.readline()
    return process


def test_a_second_stack_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    with hold_elsewhere(tmp_path) as holder:
        with pytest.raises(WrongUse) as caught, DataFolder(tmp_path).held():
            pass
        holder.communicate()

    expected = (
        f"the data folder {tmp_path} is in use by another towhee-api up (process {holder.pid}): "
        "stop that one, or choose another folder with --data-dir"
    )
    assert expected == str(caught.value)


def test_a_killed_holder_leaves_the_folder_free(tmp_path: Path) -> None:
    with hold_elsewhere(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    with DataFolder(tmp_path).held():
        assert str(os.getpid()) == (tmp_path / "lock").read_text()


def test_the_folder_is_made_with_its_parents_and_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "ü"

    with DataFolder(folder).held():
        assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
        assert 0o700 == stat.S_IMODE((folder / "secrets").stat().st_mode)


def test_the_mode_of_a_folder_that_was_there_stays_as_it_was(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    with DataFolder(tmp_path).held():
        assert 0o755 == stat.S_IMODE(tmp_path.stat().st_mode)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    with pytest.raises(WrongUse, match=r"can't be written to \(File exists\): choose another"):
        DataFolder(file).held().__enter__()


def test_a_relative_folder_is_the_same_wherever_its_user_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = DataFolder(Path(".data"))
    monkeypatch.chdir("/")

    assert tmp_path / ".data" / "objects" == folder.objects


def test_addresses_are_kept_from_others_and_forgotten_at_the_end(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    addresses = {"NATS_URL": "nats://me:secret@127.0.0.1:1"}

    with folder.held():
        folder.write_endpoints(addresses)
        folder.write_endpoints(addresses)

        assert addresses == folder.read_endpoints()
        assert 0o600 == stat.S_IMODE((tmp_path / "secrets" / "endpoints.json").stat().st_mode)

    with pytest.raises(WrongUse, match="no stack of yours is up in"):
        folder.read_endpoints()


def test_addresses_a_killed_stack_left_behind_are_not_used(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with folder.held():
        folder.write_endpoints({"NATS_URL": "nats://gone"})
        left_behind = (tmp_path / "secrets" / "endpoints.json").read_text()
    (tmp_path / "secrets" / "endpoints.json").write_text(left_behind)

    with pytest.raises(WrongUse, match="no stack of yours is up in"):
        folder.read_endpoints()
