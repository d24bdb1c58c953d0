"""The whole of it, real: start, ready, well, stopped."""

from pathlib import Path

import psutil

from tests.support.script import Script
from tests.support.stack import eventually, running_stack


def test_everything_real_starts_is_well_and_stops_without_a_trace_outside_its_folder(
    towhee_api: Script, tmp_path: Path
) -> None:
    home, data_dir = tmp_path / "home", tmp_path / "a folder, by ünicode"
    home.mkdir()
    with running_stack(towhee_api, data_dir, env={"HOME": str(home)}) as stack:
        assert stack.url
        processes = stack.processes()

        # The train worker comes last: that it is not there yet is worth a note.
        eventually(lambda: towhee_api.run("doctor", "--data-dir", str(data_dir)).stdout.count("ok  ") == 8)
        doctor = towhee_api.run("doctor", "--data-dir", str(data_dir))
        assert (0, ["ok"] * 8) == (doctor.returncode, [line[:2] for line in doctor.stdout.splitlines()])

        assert 0 == stack.stop()

    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert [] == list(home.iterdir())
    assert {"cache", "lock", "logs", "nats", "objects", "postgres", "secrets"} == {
        entry.name for entry in data_dir.iterdir()
    }
    assert (data_dir / "nats" / "jetstream").is_dir()
