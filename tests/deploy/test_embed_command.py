"""`towhee-api embed`: files in, vectors out, nothing left behind."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.small_training_server import KEY, VECTOR, Plan, small_training_server
from tests.support.script import Script

Embed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def plan() -> Plan:
    return Plan()


@pytest.fixture
def embed(plan: Plan, towhee_api: Script, tmp_path: Path) -> Iterator[Embed]:
    with small_training_server(plan) as server:

        def run(contents: list[bytes], *options: str) -> subprocess.CompletedProcess[str]:
            files = [tmp_path / f"{number}.txt" for number in range(len(contents))]
            for file, content in zip(files, contents, strict=True):
                file.write_bytes(content)
            env = {"TOWHEE_API_KEY": KEY}
            return towhee_api.run("embed", *map(str, files), "--server", server, *options, env=env)

        yield run


def test_each_file_is_a_line_of_json(embed: Embed, plan: Plan, tmp_path: Path) -> None:
    done = embed([b"one", b"two"], "--pipeline", "model/mine")

    assert (0, "") == (done.returncode, done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [
        {"file": str(tmp_path / f"{number}.txt"), "pipeline": "tiny", "vector": [0.6, 0.8]}
        for number in (0, 1)
    ]
    assert expected == lines
    [asked] = plan.bodies("/v1/embeddings/files")
    assert ("model/mine", ["file-1", "file-2"]) == (asked["model"], asked["file_ids"])
    assert ["file-1", "file-2"] == plan.deleted


def test_vectors_are_written_as_one_matrix_in_the_order_of_the_files(
    embed: Embed, plan: Plan, tmp_path: Path
) -> None:
    """More files than one request takes; one is bad: its row is no number, and the command says so."""
    contents = [b"good"] * 70
    contents[40] = b"bad"

    done = embed(contents, "--output", str(tmp_path / "vectors.npy"))

    matrix = np.load(tmp_path / "vectors.npy")
    assert (70, 2) == matrix.shape
    assert np.isnan(matrix[40]).all()
    assert (np.delete(matrix, 40, axis=0) == VECTOR).all()
    said = f"towhee-api: 1 of 70 files have no vector; {tmp_path}/40.txt: It is bad.\n"
    assert (1, "", said) == (done.returncode, done.stdout, done.stderr)
    assert 70 == len(plan.deleted)


def test_a_file_without_a_vector_has_its_reason_on_its_line(embed: Embed, tmp_path: Path) -> None:
    done = embed([b"bad", b"good"], "--output", str(tmp_path / "out.jsonl"))

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert 1 == done.returncode
    assert [{"code": "INVALID_INPUT", "message": "It is bad."}, None] == [line.get("error") for line in lines]


def test_a_refusal_leaves_no_upload_behind(embed: Embed, plan: Plan) -> None:
    plan.refusal = {"code": "INVALID_INPUT", "message": "The second differs.", "param": "file_ids[1]"}

    done = embed([b"one", b"two"])

    assert (2, "towhee-api: file_ids[1]: The second differs.\n") == (done.returncode, done.stderr)
    assert ["file-1", "file-2"] == plan.deleted


def test_a_file_that_is_none_is_said_before_anything_is_sent(towhee_api: Script, tmp_path: Path) -> None:
    done = towhee_api.run("embed", str(tmp_path), env={"TOWHEE_API_KEY": KEY})
    assert (2, f"towhee-api: {tmp_path} is no file\n") == (done.returncode, done.stderr)
