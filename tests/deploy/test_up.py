"""`towhee-api up` on real PostgreSQL and NATS, with a server and a worker that start at once."""

import http.client
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from deploy.local.readiness import ask
from tests.support.script import ROOT, Script
from tests.support.stack import RunningStack, eventually, running_stack

CHILDREN = ["nats-server", "postgres", "towhee-api serve", "towhee-api work embed", "towhee-api work train"]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that an ordinary user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="up-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


class SmallStacks:
    """Starts stacks with small parts."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.data_dir = place / "data"
        path = place / "towhee-api"
        shutil.copy(Path(__file__).with_name("small_towhee_api.py"), path)
        self.script = Script(path)
        self.env = {"CHECKOUT": str(ROOT), "JOURNAL": str(place / "journal")}

    @property
    def journal(self) -> list[str]:
        return (self._place / "journal").read_text().splitlines()

    def migrate(self) -> subprocess.CompletedProcess[str]:
        """Ask the database of the stack that runs whether it is complete."""
        return self.script.run("migrate", "--data-dir", str(self.data_dir), env=self.env)

    @contextmanager
    def up(self, *before: str, options: Sequence[str] = (), **env: str) -> Iterator[RunningStack]:
        with running_stack(
            self.script,
            self.data_dir,
            options=("--port", "0", *options),
            env=self.env | env,
            before=before,
        ) as stack:
            yield stack


@pytest.fixture
def small(place: Path) -> SmallStacks:
    return SmallStacks(place)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[SmallStacks, RunningStack]]:
    """One that runs, for tests that leave it running."""
    with open_folder() as folder:
        small = SmallStacks(folder)
        with small.up() as stack:
            assert stack.url
            yield small, stack


def gone(processes: list[psutil.Process], *, within_s: float = 10.0) -> bool:
    """Whether every one of them has ended, zombies included."""
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return not alive


def mentioning(folder: Path) -> list[psutil.Process]:
    """Every process of this machine that works in the folder or names it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [process.cwd(), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(folder) in word for word in words):
            found.append(process)
    return found


def test_it_says_what_it_does_and_once_that_it_is_ready_then_stops_in_order(small: SmallStacks) -> None:
    with small.up() as stack:
        assert ask(stack.port)[0]
        assert eventually(lambda: [1] * 5 == [len(stack.find(name)) for name in CHILDREN])
        assert eventually(lambda: 2 == small.journal.count("work started"))
        processes = stack.processes()

        assert 0 == stack.stop()

    assert gone(processes)
    said = [line.split("  ", maxsplit=2)[-1].strip() for line in stack.output.splitlines()]
    assert [
        f"keeping everything in {small.data_dir}, logs in its folder logs; Ctrl-C stops it",
        "starting nats",
        "starting worker-1, which loads its models",
        "starting postgres",
    ] == said[:4]
    assert ["starting trainer-1", f"ready {stack.url}"] == said[-7:-5]
    assert [f"ready {stack.url}"] == [line for line in said if line.startswith("ready")]
    assert ["stopped server", "stopped worker-1, trainer-1", "stopped nats", "stopped postgres"] == said[-4:]
    assert ["serve ended", "work ended", "work ended"] == small.journal[-3:]


def test_nothing_listens_beyond_loopback_and_no_worker_holds_a_key_to_the_database(
    shared: tuple[SmallStacks, RunningStack],
) -> None:
    _, stack = shared
    listening = {
        connection.laddr.ip
        for process in [psutil.Process(stack.pid), *stack.processes()]
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    environs = {
        name: psutil.Process(eventually(lambda name=name: stack.find(name))[0]).environ()
        for name in CHILDREN[2:]
    }

    assert {"127.0.0.1"} == listening
    assert {name: "serve" in name for name in environs} == {
        name: "DATABASE_URL" in environ for name, environ in environs.items()
    }


def test_each_worker_has_a_folder_of_its_own_for_what_it_can_fetch_again(
    shared: tuple[SmallStacks, RunningStack],
) -> None:
    small, stack = shared
    worker, trainer = [
        psutil.Process(eventually(lambda kind=kind: stack.find(f"towhee-api work {kind}"))[0]).environ()
        for kind in ("embed", "train")
    ]

    assert str(small.data_dir / "cache" / "worker-1") == worker["TOWHEE_API_WORKER_MODELS_DIR"]
    assert str(small.data_dir / "cache" / "trainer-1") == trainer["TOWHEE_API_TRAIN_CACHE_DIR"]


def test_a_second_one_on_the_same_folder_is_refused_and_does_no_harm(
    shared: tuple[SmallStacks, RunningStack],
) -> None:
    small, stack = shared

    done = small.script.run("up", "--data-dir", str(small.data_dir), "--port", "0", env=small.env)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert f"in use by another towhee-api up (process {stack.pid})" in done.stderr
    assert ask(stack.port)[0]


def test_each_part_that_is_killed_is_started_again(shared: tuple[SmallStacks, RunningStack]) -> None:
    small, stack = shared
    eventually(lambda: all(stack.find(name) for name in CHILDREN))
    killed = {name: stack.kill(name) for name in CHILDREN}

    for name, pids in killed.items():
        assert eventually(lambda name=name, pids=pids: set(stack.find(name)) - set(pids)), name
    assert eventually(lambda: ask(stack.port)[0])
    assert eventually(lambda: small.migrate().returncode == 0), "PostgreSQL answers again"
    assert 1 == stack.output.count("ready http")


def test_a_killed_supervisor_takes_everything_with_it_and_can_be_started_again(small: SmallStacks) -> None:
    with small.up() as stack:
        assert stack.url
        processes = stack.processes()
        assert len(processes) > len(CHILDREN), "PostgreSQL has children of its own"

        stack.signal(signal.SIGKILL)

        assert -signal.SIGKILL == stack.wait()
        assert gone(processes)
        assert [] == mentioning(small.data_dir)
    with small.up() as stack:
        assert stack.url
        assert 0 == stack.stop()


def test_a_supervisor_killed_while_it_starts_leaves_nothing_either(small: SmallStacks) -> None:
    with small.up() as stack:
        processes = eventually(lambda: stack.find("towhee-api work embed") and stack.processes())

        stack.signal(signal.SIGKILL)

        stack.wait()
        assert gone(processes)
        eventually(lambda: not mentioning(small.data_dir))


def test_a_request_in_hand_is_answered_before_anything_stops(small: SmallStacks) -> None:
    answers: list[int] = []

    def ask(address: str) -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("GET", "/slow")
        answers.append(connection.getresponse().status)

    with small.up() as stack:
        asking = threading.Thread(target=ask, args=[urlsplit(stack.url).netloc])
        asking.start()
        eventually(lambda: "slow request began" in small.journal)

        assert 0 == stack.stop()
        asking.join()

    assert [200] == answers


def test_asking_twice_stops_at_once(small: SmallStacks) -> None:
    with small.up(STUBBORN="1") as stack:
        assert stack.url
        processes = stack.processes()
        stack.signal(signal.SIGINT)
        eventually(lambda: "stopped server" in stack.output)

        stack.signal(signal.SIGINT)

        assert 0 == stack.wait(10)
        assert gone(processes)


def test_a_child_that_refuses_its_settings_ends_it_with_the_same_code(small: SmallStacks) -> None:
    with small.up(REFUSE="1") as stack:
        assert 2 == stack.wait()

    last = stack.output.splitlines()[-1]
    assert last.startswith("towhee-api: server refuses its settings: ended with code 2")
    assert last.endswith("TOWHEE_API_X must be a number")
    assert [] == mentioning(small.data_dir)


def test_it_runs_as_many_train_workers_as_it_is_told_none_among_them(small: SmallStacks) -> None:
    with small.up(options=["--trainers", "2"]) as stack:
        assert stack.url
        assert eventually(lambda: 2 == len(stack.find("towhee-api work train")))
    with small.up(TOWHEE_API_TRAINERS="0") as stack:
        assert stack.url
        assert 0 == stack.stop()
    assert "trainer" not in stack.output


def test_a_train_worker_that_does_not_come_up_is_said_and_the_rest_goes_on(small: SmallStacks) -> None:
    with small.up(REFUSE_TRAINING="1") as stack:
        assert stack.url
        assert eventually(lambda: 2 <= stack.output.count("trainer-1 ended with code 2"))
        assert ask(stack.port)[0]
    assert "TOWHEE_API_TRAIN_X must be a number; starting it again in" in stack.output


def test_an_ordinary_user_can_run_it_too(small: SmallStacks, place: Path) -> None:
    user = os.geteuid() or 65534
    become = []
    if os.geteuid() == 0:
        os.chown(place, user, user)
        # The capability is only there to reach an interpreter and a checkout below somebody's home.
        reach = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *reach]
    with small.up(*become) as stack:
        assert stack.url
        assert {user} == {process.uids().effective for process in stack.processes()}
        processes = stack.processes()

        stack.signal(signal.SIGKILL)

        stack.wait()
        assert gone(processes)


def test_services_named_in_the_environment_are_used_and_not_started(
    small: SmallStacks, nats_url: str
) -> None:
    with small.up(NATS_URL=nats_url) as stack:
        assert stack.url
        assert [] == stack.find("nats-server")
        server = psutil.Process(stack.find("towhee-api serve")[0])
        assert nats_url == server.environ()["NATS_URL"]
        streams = small.script.run("bus", "apply", "--dry-run", env=small.env | {"NATS_URL": nats_url})
        assert (0, "nothing to do\n") == (streams.returncode, streams.stdout)


def test_it_goes_on_without_a_reader_and_stops_when_its_terminal_is_gone(
    small: SmallStacks, place: Path
) -> None:
    # The tests themselves may run under nohup, which the stack would respect.
    heard = ["env", "--default-signal=HUP"]
    argv = [*heard, *small.script.argv, "up", "--data-dir", str(small.data_dir), "--port", "0"]
    env = {"PATH": os.environ["PATH"], **small.env}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        eventually(lambda: (place / "journal").exists() and "serve started" in small.journal)

        process.send_signal(signal.SIGHUP)

        assert 0 == process.wait(timeout=30)
