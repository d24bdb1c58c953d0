"""From a shell: one command trains, watches and deploys, the next embeds with what came out."""

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.journeys.training.files import texts_csv
from tests.support.api import ApiClient
from tests.support.script import Script
from tests.support.stack import RunningStack

WITHIN_S = 240.0


@pytest.fixture
async def env(stack: RunningStack) -> dict[str, str]:
    """Whom to ask, and as whom: somebody who has just made a key that may train."""
    client = await ApiClient.sign_up(stack.url, scopes=("EMBED", "READ", "TRAIN"))
    await client.close()
    return {"TOWHEE_API_SERVER": stack.url, "TOWHEE_API_KEY": client.secret}


def test_two_commands_lead_from_a_file_to_vectors_of_ones_own_model(
    towhee_api: Script, env: dict[str, str], tmp_path: Path
) -> None:
    data = tmp_path / "notes.csv"
    data.write_bytes(texts_csv("bbc_news", 200))
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for file, text in zip(files, ("Shares fell in London.", "They won the match."), strict=True):
        file.write_text(text)
    options = ["--trainer", "autoencoder", "--set", "latent_dim=6", "--max-steps", "30", "--seed", "1"]

    trained = towhee_api.run(
        "train", str(data), *options, "--watch", "--deploy", "from-a-shell", env=env, timeout_s=WITHIN_S
    )
    assert 0 == trained.returncode, trained.stderr
    output = tmp_path / "vectors.npy"
    embed = ["embed", *map(str, files), "--pipeline", "model/from-a-shell", "--output", str(output)]
    embedded = towhee_api.run(*embed, env=env)

    said = trained.stdout.splitlines()
    assert "data set notes, version 1: 200 rows, 5 classes" in said
    assert "deployed as model/from-a-shell, version 1" == said[-1]
    assert "30/30 steps" in trained.stderr
    assert 0 == embedded.returncode, embedded.stderr
    vectors = np.load(output)
    assert (2, 6) == vectors.shape
    assert np.allclose(1, np.linalg.norm(vectors, axis=1), atol=1e-5)


def test_what_is_wrong_is_said_with_every_field_and_a_left_training_can_be_stopped(
    towhee_api: Script, env: dict[str, str]
) -> None:
    start = ["train", "--sample", "digits", "--trainer", "gan"]
    wrong = towhee_api.run(*start, "--set", "width=1", "--set", "bogus=1", env=env, timeout_s=WITHIN_S)
    started = towhee_api.run(*start, "--max-steps", "1000000", env=env, timeout_s=WITHIN_S)
    job_id = started.stdout.split()[-3]
    try:
        last = _interrupted([*towhee_api.argv, "train", "--follow", job_id], env)
    finally:
        # Others wait for their turn.
        cancelled = towhee_api.run("train", "--cancel", job_id, env=env)
    followed = towhee_api.run("train", "--follow", job_id, env=env, timeout_s=WITHIN_S)

    assert 2 == wrong.returncode
    assert "width must be" in wrong.stderr
    assert "bogus is no parameter" in wrong.stderr
    assert (0, True) == (started.returncode, last.startswith("towhee-api: the training goes on"))
    assert 0 == cancelled.returncode, cancelled.stderr
    assert (1, f"towhee-api: training {job_id} is CANCELLED") == (
        followed.returncode,
        followed.stderr.splitlines()[-1],
    )


def _interrupted(command: list[str], env: dict[str, str]) -> str:
    """Press Ctrl-C as soon as a command shows something, and return its last line."""
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as watching:
        assert watching.stderr is not None
        watching.stderr.read(1)
        watching.send_signal(signal.SIGINT)
        try:
            return watching.communicate(timeout=WITHIN_S)[1].decode().splitlines()[-1]
        except subprocess.TimeoutExpired:
            watching.kill()
            raise
