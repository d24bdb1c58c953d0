"""Nothing is installed, downloaded or left behind when Towhee is used."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from workers.towhee_door import (
    HomeNotPrivate,
    NetworkRefused,
    PipelineFailed,
    PipelineNotBuilt,
    RunTimeInstallRefused,
    TowheeDoor,
    refusing_installs,
)

ROOT = Path(__file__).parents[2]

#: Imports every module of the project, opens the door and builds every pipeline.
EVERYTHING = """
import importlib, pkgutil, sys
def import_all(package):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
# Trainers are subclasses of Towhee's: importing one goes through the door.
for package in ("bus", "server", "deploy", "workers.embed", "workers.nets"):
    import_all(package)
import workers.process
assert "towhee" not in sys.modules, "towhee was imported before the door was opened"
from workers.embed.pipelines.loading import Loader
from workers.embed.pipelines.table import PIPELINES
from workers.towhee_door import TowheeDoor
Loader(TowheeDoor.open(), max_pixels=1).load(PIPELINES)
assert "towhee.trainer" not in sys.modules
assert "transformers" not in sys.modules
import_all("workers.train")
"""


def test_no_module_of_the_project_calls_pip(tmp_path: Path) -> None:
    """A `pip` that writes down each call stands first on PATH, and another for `python -m pip`."""
    record = tmp_path / "calls"
    command = tmp_path / "bin" / "pip"
    module = tmp_path / "modules" / "pip" / "__main__.py"
    for file in (command, module):
        file.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\necho "$@" >> {record}\n')
    command.chmod(0o755)
    module.with_name("__init__.py").write_text("")
    module.write_text(f"import sys\nopen({str(record)!r}, 'a').write(str(sys.argv))\n")
    environ = {
        **os.environ,
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{module.parents[1]}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
    }
    for call in (["pip", "recorded"], [sys.executable, "-m", "pip", "recorded"]):
        subprocess.run(call, env=environ, check=True, timeout=60)
    assert 2 == record.read_text().count("recorded")
    record.unlink()

    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING],
        env=environ,
        cwd=tmp_path,
        check=False,
        timeout=120,
        stderr=subprocess.PIPE,
    )

    assert (0, "") == (done.returncode, done.stderr.decode()[-2000:] if done.returncode else "")
    assert not record.exists()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: os.system("pip install towhee-nothing"),  # noqa: S605  how Towhee does it
        lambda: subprocess.run([sys.executable, "-m", "pip", "--version"], check=False),
        lambda: subprocess.Popen("pip --version", shell=True),  # noqa: S602  how Towhee does it
        lambda: os.posix_spawn(sys.executable, [sys.executable, "-m", "pip"], {}),
        lambda: __import__("ensurepip"),
    ],
    ids=["system", "run", "shell", "spawn", "import"],
)
def test_an_installation_is_refused_behind_the_door(attempt: object) -> None:
    sys.modules.pop("ensurepip", None)
    assert callable(attempt)
    with refusing_installs(), pytest.raises(RunTimeInstallRefused):
        attempt()


def test_a_connection_is_refused_behind_the_door() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with refusing_installs(), pytest.raises(NetworkRefused):
            socket.create_connection(server.getsockname(), timeout=5)
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_other_threads_may_go_on_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, refusing_installs():
        address = server.getsockname()
        results: list[bool] = []

        def connect() -> None:
            socket.create_connection(address, timeout=5).close()
            results.append(True)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join(10)
    assert [True] == results


def test_towhees_own_install_helper_is_refused(door: TowheeDoor) -> None:
    helper = sys.modules["towhee.utils.dependency_control"]
    with pytest.raises(RunTimeInstallRefused):
        helper.prompt_install("towhee-nothing")


def test_operators_are_chained_and_see_a_list_as_one_value(door: TowheeDoor) -> None:
    seen: list[object] = []

    def double(batch: list[int]) -> list[int]:
        seen.append(batch)
        return [2 * number for number in batch]

    door.register("double", double)

    assert [4, 8, 12] == door.chain("quadruple", ["double", "double"])([1, 2, 3])
    assert [[1, 2, 3], [2, 4, 6]] == seen


def test_a_named_pipeline_of_towhee_runs_around_our_operator(door: TowheeDoor) -> None:
    """It is Towhee's own: our operator runs first, then the normalisation that the pipeline adds."""
    door.register("lengths", lambda batch: np.array([[3.0 * len(text), 4.0 * len(text)] for text in batch]))
    door.register(
        "np-normalize", lambda rows: rows / np.linalg.norm(rows, axis=-1, keepdims=True), namespace="towhee"
    )

    pipeline = door.named("text_image_embedding", operator="lengths", config={"modality": "text"})

    assert np.allclose([[0.6, 0.8], [0.6, 0.8]], pipeline(["a", "bcd"]))


@pytest.mark.parametrize("name", ["no_such_pipeline", "sentence_embedding"])
def test_a_pipeline_that_needs_the_hub_is_not_built(door: TowheeDoor, name: str) -> None:
    """`sentence_embedding` asks for two operators of the hub as soon as its file is read."""
    door.register("some", lambda batch: batch)
    with pytest.raises(PipelineNotBuilt):
        door.named(name, operator="some", config={})


def test_an_unknown_operator_is_not_fetched(door: TowheeDoor) -> None:
    with pytest.raises(PipelineNotBuilt):
        door.chain("broken", ["never-registered"])


def test_a_failed_build_leaves_nothing_for_the_next(door: TowheeDoor) -> None:
    """Towhee leaves the name of a pipeline that failed in the context it was built in."""
    test_a_pipeline_that_needs_the_hub_is_not_built(door, "sentence_embedding")
    assert sys.modules["towhee.runtime.auto_pipes"].get_pipe_name() is None


def test_a_failing_operator_fails_the_call_and_not_the_pipeline(door: TowheeDoor) -> None:
    def fail_on_zero(batch: list[int]) -> list[float]:
        return [1 / number for number in batch]

    door.register("invert", fail_on_zero)
    pipeline = door.chain("invert", ["invert"])

    with pytest.raises(PipelineFailed, match="division by zero"):
        pipeline([1, 0])
    assert [0.5] == pipeline([2])


def test_an_operator_that_returns_nothing_fails_the_call(door: TowheeDoor) -> None:
    door.register("nothing", lambda _: None)
    with pytest.raises(PipelineFailed):
        door.chain("nothing", ["nothing"])([1])


def test_towhee_has_no_home_unless_it_is_given_one(door: TowheeDoor) -> None:
    TowheeDoor.open()
    with pytest.raises(NotADirectoryError):
        Path(os.environ["TOWHEE_HOME"]).mkdir(parents=True)


def test_a_home_is_private(door: TowheeDoor, tmp_path: Path) -> None:
    TowheeDoor.open(tmp_path / "home")
    assert str(tmp_path / "home") == os.environ["TOWHEE_HOME"]
    assert 0o700 == (tmp_path / "home").stat().st_mode & 0o777


def test_a_home_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    with pytest.raises(HomeNotPrivate):
        TowheeDoor.open(tmp_path / "home")


def test_a_home_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "home").symlink_to(tmp_path / "real")
    with pytest.raises(HomeNotPrivate):
        TowheeDoor.open(tmp_path / "home")


def test_a_closed_pipeline_has_no_thread_left(door: TowheeDoor) -> None:
    door.register("same", lambda batch: batch)
    pipeline = door.chain("same", ["same"])
    pipeline([1])
    (thread,) = pipeline._pipeline._thread_pool._threads
    pipeline.close()
    thread.join(10)
    assert not thread.is_alive()
