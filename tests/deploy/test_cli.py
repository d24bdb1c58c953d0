"""Every wrong use gets exit code 2 and one line that says what to do."""

import socket
from pathlib import Path

import pytest

from deploy.settings_table import all_settings
from tests.support.script import Script


def refused(script: Script, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run it and return the exit code and what it said on stderr, of which there must be one line."""
    done = script.run(*arguments, env=environ)
    assert "" == done.stdout
    assert 1 == done.stderr.count("\n"), done.stderr
    return done.returncode, done.stderr.removesuffix("\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "towhee-api: the following arguments are required: COMMAND (see towhee-api --help)"),
        (["up", "--wrokers", "2"], "towhee-api: unrecognized arguments: --wrokers 2 (see towhee-api --help)"),
        (["bus"], "towhee-api: the following arguments are required: COMMAND (see towhee-api bus --help)"),
        (["up", "--port", "http"], "towhee-api: --port must be a whole number, at least 1, at most 65535"),
        (["up", "--port", "65536"], "towhee-api: --port must be a whole number, at least 1, at most 65535"),
        (["up", "--port", "-1"], "towhee-api: --port must be a whole number, at least 1, at most 65535"),
        (["up", "--port", ""], "towhee-api: --port needs a value"),
        (["up", "--workers", "0"], "towhee-api: --workers must be a whole number, at least 1, at most 64"),
        (["up", "--trainers", "-1"], "towhee-api: --trainers must be a whole number, at least 0, at most 16"),
        (["up", "--data-dir", ""], "towhee-api: --data-dir needs a value"),
        (
            ["work", "learn"],
            (
                "towhee-api: argument KIND: invalid choice: 'learn' (choose from 'embed', 'train') "
                "(see towhee-api work --help)"
            ),
        ),
        (["work", "train"], "NATS_URL is not set: it must be a text, like nats://host:4222"),
        (["serve"], "towhee-api: NATS_URL is not set: it must be a text, like nats://host:4222"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "line",
)
def test_a_wrong_command_line_is_refused_in_one_line(
    towhee_api: Script, arguments: list[str], line: str
) -> None:
    assert (2, line) == refused(towhee_api, *arguments)


@pytest.mark.parametrize("arguments", [["migrate"], ["bus", "apply"], ["doctor"]], ids=" ".join)
def test_an_operators_command_with_nothing_to_work_on_says_how_to_get_it(
    towhee_api: Script, tmp_path: Path, arguments: list[str]
) -> None:
    done = towhee_api.run(*arguments, env={"TOWHEE_API_DATA_DIR": str(tmp_path)})

    assert (2, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert f"no stack of yours is up in {tmp_path}" in done.stderr
    assert "or set DATABASE_URL, NATS_URL, OBJECT_STORE_URL" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("TOWHEE_API_PORT", "0", "TOWHEE_API_PORT must be a whole number, at least 1, at most 65535"),
        ("TOWHEE_API_WORKERS", "many", "TOWHEE_API_WORKERS must be a whole number, at least 1, at most 64"),
        ("TOWHEE_API_TRAIN_DEVICE", "abacus", "TOWHEE_API_TRAIN_DEVICE must be one of auto, cpu, cuda"),
        ("TOWHEE_API_EMBED_TIMEOUT_S", "nan", "TOWHEE_API_EMBED_TIMEOUT_S must be a number, above 0"),
        ("TOWHEE_API_LOG_LEVEL", "LOUD", "TOWHEE_API_LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR"),
        (
            "DATABASE_URL",
            "mysql://x",
            "DATABASE_URL must be a text, like postgresql://user:password@host/name",
        ),
        (
            "TOWHEE_API_HOST",
            "192.0.2.1",
            "TOWHEE_API_HOST must be 127.0.0.1: `towhee-api up` listens on loopback",
        ),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_starts(
    towhee_api: Script, tmp_path: Path, variable: str, value: str, line: str
) -> None:
    code, said = refused(towhee_api, "up", "--data-dir", str(tmp_path / "data"), **{variable: value})

    assert (2, True) == (code, said.startswith(f"towhee-api: {line}"))
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_said_at_once(towhee_api: Script, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        code, said = refused(towhee_api, "up", "--data-dir", str(tmp_path), "--port", port)

    expected = (
        f"towhee-api: can't listen on 127.0.0.1:{port} (Address already in use): choose another port with "
        "--port or TOWHEE_API_PORT, or stop what uses it"
    )
    assert (2, expected) == (code, said)


def test_a_folder_that_can_not_be_written_to_is_refused(towhee_api: Script) -> None:
    # Not even root may create a folder there.
    code, said = refused(towhee_api, "up", "--data-dir", "/proc/towhee")

    assert (2, True) == (
        code,
        said.startswith("towhee-api: the data folder /proc/towhee can't be written to"),
    )


def test_the_help_shows_every_setting_with_its_default(towhee_api: Script) -> None:
    done = towhee_api.run("--help")

    assert (0, "") == (done.returncode, done.stderr)
    for setting in all_settings():
        default = f" [{setting.default}]" if setting.default else ""
        assert f"  {setting.variable}{default}\n" in done.stdout
        assert setting.description
