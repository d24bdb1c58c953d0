"""`towhee-api train`: one command from a file to a deployed model, and nothing of what happens is missed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.client import train as train_module
from deploy.client.api import Api
from deploy.client.events import Event, follow, read_events
from deploy.client.progress import duration
from deploy.client.train import parameters_of
from deploy.errors import CommandFailed, WrongUse
from tests.deploy.small_training_server import (
    DATASET,
    EVENTS,
    JOB,
    KEY,
    MODEL,
    Plan,
    encoded,
    lines_with,
    small_training_server,
)
from tests.support.script import Script

EVENTS_PATH = f"/v1/training/jobs/{JOB}/events"


@pytest.fixture
def plan() -> Plan:
    return Plan()


@pytest.fixture
def server(plan: Plan) -> Iterator[str]:
    with small_training_server(plan) as url:
        yield url


class Trainer:
    """Runs the command as a person would."""

    def __init__(self, script: Script, server: str, folder: Path) -> None:
        self._script = script
        self.env = {"TOWHEE_API_SERVER": server, "TOWHEE_API_KEY": KEY}
        self.file = folder / "cats.csv"
        self.file.write_bytes(b"text,label\r\nmeow,cat\r\n" * 1000)

    def argv(self, *arguments: str) -> list[str]:
        return [*self._script.argv, "train", *arguments]

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self._script.run("train", *arguments, env=self.env | env)


@pytest.fixture
def trainer(towhee_api: Script, server: str, tmp_path: Path) -> Trainer:
    return Trainer(towhee_api, server, tmp_path)


def test_one_command_uploads_trains_shows_and_deploys(trainer: Trainer, plan: Plan, server: str) -> None:
    plan.dataset = {
        "status": "READY",
        "issues": [{"row": 7, "message": "The text is empty."}],
        "issue_count": 3,
    }
    options = ["--set", "learning_rate=1e-3", "--set", "conditional=true", "--set", "loss=hinge"]

    done = trainer.run(
        str(trainer.file),
        *("--trainer", "gan", "--watch", "--seed", "3", "--max-steps", "40", "--deploy", "mine"),
        *options,
    )

    assert 0 == done.returncode, done.stderr
    assert [("cats.csv", trainer.file.read_bytes())] == plan.uploaded
    [dataset], [job] = plan.bodies("/v1/datasets"), plan.bodies("/v1/training/jobs")
    assert ("cats", "file-1") == (dataset["name"], dataset["file_id"])
    parameters = {"learning_rate": 0.001, "conditional": True, "loss": "hinge"}
    assert {"gan": parameters} == job["trainer"]
    assert ("cats", DATASET, 3, 40) == (job["name"], job["dataset_id"], job["seed"], job["max_steps"])
    assert [{"name": "mine"}] == plan.bodies(f"/v1/training/models/{MODEL}/deploy")
    assert [
        f"uploading {trainer.file}",
        "  row 7: The text is empty.",
        "  and 2 more",
        "data set cats, version 2: 1,200 rows, 2 classes",
        f"training {JOB}",
        f"samples at step 10: {server}/v1/training/jobs/{JOB}/samples/4",
        "warning at step 20: All samples look\u2028alike.",
        "sample at step 30: to be or not",
        f"model {MODEL}",
        "deployed as model/mine, version 3",
    ] == done.stdout.removesuffix("\n").split("\n")
    [last] = lines_with("40/40 steps", done.stderr)[-1:]
    assert "100%" in last
    assert "loss_g=0.03125, 1:15 min left" in last


def test_without_watching_it_says_how_to(trainer: Trainer, plan: Plan) -> None:
    done = trainer.run("--sample", "digits", "--trainer", "semi-supervised")

    assert (0, "") == (done.returncode, done.stderr)
    assert f"towhee-api train --follow {JOB} follows it" == done.stdout.splitlines()[-1]
    assert "digits" == plan.bodies("/v1/datasets")[0]["sample"]
    assert {"semi_supervised": {}} == plan.bodies("/v1/training/jobs")[0]["trainer"]
    assert [] == plan.last_ids


def test_a_training_that_was_started_before_is_followed_or_cancelled(trainer: Trainer, plan: Plan) -> None:
    followed = trainer.run("--follow", JOB)
    plan.end = {**plan.end, "state": "CANCELLING"}
    cancelled = trainer.run("--cancel", JOB)

    assert (0, f"model {MODEL}") == (followed.returncode, followed.stdout.splitlines()[-1])
    assert (0, f"training {JOB} is CANCELLING\n") == (cancelled.returncode, cancelled.stdout)
    assert [{}] == plan.bodies(f"/v1/training/jobs/{JOB}/cancel")


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (
            {"state": "FAILED", "model_id": None, "error": {"code": "INTERNAL", "message": "Out of memory."}},
            f"towhee-api: training {JOB} is FAILED: Out of memory.",
        ),
        ({"state": "CANCELLED", "model_id": None, "error": None}, f"towhee-api: training {JOB} is CANCELLED"),
    ],
)
def test_a_training_without_a_model_fails_the_command(
    trainer: Trainer, plan: Plan, end: dict[str, Any], line: str
) -> None:
    plan.end = end
    done = trainer.run("--follow", JOB)
    assert (1, line) == (done.returncode, done.stderr.splitlines()[-1])


def test_data_that_can_not_be_trained_on_is_said_with_its_issues(trainer: Trainer, plan: Plan) -> None:
    issues = [{"row": None, "message": "There is one class only."}]
    plan.dataset = {"status": "INVALID", "issues": issues, "issue_count": 1}

    done = trainer.run(str(trainer.file), "--trainer", "rnn")

    said = "towhee-api: the data set can't be trained on: There is one class only.\n"
    assert (1, said) == (done.returncode, done.stderr)
    assert [] == plan.bodies("/v1/training/jobs")


def test_every_parameter_that_is_wrong_is_named_at_once(trainer: Trainer, plan: Plan) -> None:
    problems = [
        {"path": ["trainer", "gan", "width"], "message": "width must be at least 4"},
        {"path": ["seed"], "message": "Give one that is at least 0."},
    ]
    plan.refusal = {"code": "INVALID_INPUT", "message": "wrong", "path": ["seed"], "problems": problems}

    done = trainer.run("--sample", "digits", "--trainer", "gan")

    said = "towhee-api: width must be at least 4; seed: Give one that is at least 0.\n"
    assert (2, said) == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give one of FILE, --sample, --follow, --cancel (see towhee-api train --help)"),
        (["a.csv", "--sample", "digits"], "give one of FILE, --sample, --follow, --cancel"),
        (["a.csv"], "--trainer says which trainer"),
        (["a.csv", "--trainer", "perceptron"], "argument --trainer: invalid choice: 'perceptron'"),
        (["nowhere.csv", "--trainer", "gan"], "nowhere.csv can't be read: No such file or directory"),
        (["a.csv", "--trainer", "gan", "--set", "width"], "--set takes NAME=VALUE, not width"),
        (["a.csv", "--trainer", "gan", "--server", "here"], "--server must be a text, like https://host"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "line",
)
def test_wrong_use_is_refused_in_one_line(trainer: Trainer, arguments: list[str], line: str) -> None:
    done = trainer.run(*arguments)
    assert (2, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
    assert done.stderr.startswith(f"towhee-api: {line}")


def test_no_key_a_wrong_key_and_a_key_in_a_file(trainer: Trainer, tmp_path: Path, server: str) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    start = ["--sample", "digits", "--trainer", "gan"]

    none = trainer.run(*start, TOWHEE_API_KEY="")
    wrong = trainer.run(*start, TOWHEE_API_KEY="twh_other")
    from_file = trainer.run(*start, "--key-file", str(file), TOWHEE_API_KEY="")

    assert [2, 2, 0] == [none.returncode, wrong.returncode, from_file.returncode]
    assert "towhee-api: no API key: give --key, --key-file or TOWHEE_API_KEY" in none.stderr
    assert f"towhee-api: {server} refuses the API key: The key is not known.\n" == wrong.stderr


def test_a_server_that_is_busy_or_restarted_is_asked_again(trainer: Trainer, plan: Plan) -> None:
    plan.failures = [503, 429]
    done = trainer.run("--sample", "digits", "--trainer", "gan")
    assert 0 == done.returncode, done.stderr
    assert 1 == len(plan.bodies("/v1/training/jobs"))


def test_ctrl_c_leaves_the_training_and_says_how_to_go_on(trainer: Trainer, plan: Plan) -> None:
    plan.events = [*EVENTS[:4], *EVENTS]
    plan.cuts = [4, 0]
    with subprocess.Popen(
        trainer.argv("--follow", JOB),
        env=trainer.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert plan.has_asked_events.wait(20)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)

    assert 1 == process.returncode
    follow_it, stop_it = f"towhee-api train --follow {JOB}", f"towhee-api train --cancel {JOB}"
    line = f"towhee-api: the training goes on: {follow_it} follows it, {stop_it} stops it"
    assert line == said.splitlines()[-1]
    assert [] == plan.asked, "nothing was cancelled"


def test_what_is_not_installed_is_said_with_how_to_get_it(
    towhee_api: Script, tmp_path: Path, server: str
) -> None:
    """As on a server, where the extra is not."""
    hidden = "import sys; sys.modules['httpx'] = None; sys.path.insert(0, sys.argv.pop(1))"
    code = f"{hidden}; from deploy.cli import main; sys.exit(main())"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, root, "train", "--sample", "digits", "--trainer", "gan"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = "towhee-api: towhee-api train needs httpx: pip install 'towhee-hosted-api[cli]'\n"
    assert (1, said) == (done.returncode, done.stderr)


# Events, each once.


def followed(server: str) -> list[Event]:
    with Api(server, KEY, pause=lambda _: None) as api:
        return list(follow(api, EVENTS_PATH, pause=lambda _: None))


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 4), max_size=12), is_torn=st.booleans())
def test_nothing_is_missed_or_repeated_however_often_the_connection_breaks(
    cuts: list[int], is_torn: bool
) -> None:
    plan = Plan()
    plan.cuts, plan.is_torn = [*cuts, 2], is_torn
    with small_training_server(plan) as server:
        events = followed(server)

    assert [(str(number), name) for number, (name, _) in enumerate(EVENTS, 1)] == [
        (event.id, event.name) for event in events
    ]
    assert [data for _, data in EVENTS] == [
        {name: value for name, value in event.data.items() if name != "attempt"} for event in events
    ]


def test_each_connection_goes_on_after_the_last_event_that_was_whole(plan: Plan, server: str) -> None:
    plan.cuts, plan.is_torn = [3, 4, 1000], True
    followed(server)
    assert [None, "3", "7", str(len(EVENTS))] == plan.last_ids


def test_a_server_that_is_away_for_minutes_ends_it_with_a_line(plan: Plan, server: str) -> None:
    plan.cuts = [2, 0]
    waited: list[float] = []
    with Api(server, KEY) as api, pytest.raises(CommandFailed, match="ends the stream"):
        list(follow(api, EVENTS_PATH, pause=waited.append))
    assert 300 <= sum(waited) < 320
    assert waited == sorted(waited)
    assert ["2"] == list(dict.fromkeys(plan.last_ids))[1:]


def test_nobody_there_is_said_with_what_to_check() -> None:
    with Api("http://127.0.0.1:1", KEY, pause=lambda _: None) as api, pytest.raises(CommandFailed) as failed:
        api.get("/v1/datasets/1")
    assert "http://127.0.0.1:1 does not answer" in str(failed.value)
    assert str(failed.value).endswith("check --server, and that it runs")


@given(size=st.integers(1, 50))
def test_events_are_read_whatever_the_pieces_they_come_in(size: int) -> None:
    raw = b"".join(b":\n\n" + encoded(number, *event) for number, event in enumerate(EVENTS))
    pieces = (raw[start : start + size] for start in range(0, len(raw), size))
    assert [name for name, _ in EVENTS] == [event.name for event in read_events(pieces)]


def test_events_of_another_release_are_said() -> None:
    with pytest.raises(CommandFailed, match="can't be read"):
        list(read_events([b"event: x\ndata: {}\n\n"]))


def test_settings_are_numbers_truths_or_texts() -> None:
    given = ["a=1", "b=1e-3", "c=true", "d=null", "e=hinge", "f=a=b", 'g="1"']
    expected = {"a": 1, "b": 0.001, "c": True, "d": None, "e": "hinge", "f": "a=b", "g": "1"}
    assert expected == parameters_of(given)
    with pytest.raises(WrongUse):
        parameters_of(["=1"])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (75, "1:15 min"), (3600, "1:00 h"), (100_000, "27:46 h")],
)
def test_a_duration_is_said_as_a_person_says_it(seconds: float, said: str) -> None:
    assert said == duration(seconds)


def test_who_waits_long_for_a_verdict_hears_why(
    plan: Plan, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_module, "_STILL_WAITING_S", 0.0)
    monkeypatch.setattr(train_module, "_LOOK_EVERY_S", 0.0)
    plan.looks_left = 3
    with Api(server, KEY) as api:
        dataset = train_module._wait_for_verdict(api, {"id": DATASET, "status": "VALIDATING"})
    assert "READY" == dataset["status"]
    assert 1 == capsys.readouterr().out.count("towhee-api doctor")
