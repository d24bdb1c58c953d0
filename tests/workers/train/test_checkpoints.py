"""A checkpoint is complete or not there, and nothing in it is ever run."""

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from workers.train.base.checkpoint import (
    CheckpointDamaged,
    CheckpointMissing,
    CheckpointWriter,
    clear_unfinished,
    find_checkpoint,
    list_checkpoints,
    prune,
    read_checkpoint,
    take_snapshot,
    write_checkpoint,
)
from workers.train.base.encoding import NotStorable, decode, encode

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.integers(), inner)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_state_survives_json(value: Any) -> None:
    tensors: dict[str, Tensor] = {}

    text = json.dumps(encode(value, tensors, "at"))

    assert value == decode(json.loads(text), tensors)


def test_tensors_of_every_kind_survive(tmp_path: Path) -> None:
    state = {
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "bits": [torch.tensor([True, False]), (torch.arange(3, dtype=torch.uint8), math.inf)],
        3: {"scalar": torch.tensor(2.0, dtype=torch.float64), "empty": torch.empty(0, 4)},
    }
    write_checkpoint(take_snapshot({}, {"all": state}, steps=(1, 1), card=""), tmp_path / "one")

    found = read_checkpoint(tmp_path / "one").state["all"]

    assert torch.equal(state["half"], found["half"])
    assert torch.equal(state["bits"][0], found["bits"][0])
    assert isinstance(found["bits"][1], tuple)
    assert math.inf == found["bits"][1][1]
    assert (torch.float64, (0, 4)) == (found[3]["scalar"].dtype, tuple(found[3]["empty"].shape))


def test_what_cannot_be_stored_is_named_by_its_place() -> None:
    with pytest.raises(NotStorable, match=r"state\.callbacks\.1 is a function"):
        encode({"callbacks": [1, lambda: None]}, {}, "state")


def write(path: Path, step: int) -> None:
    write_checkpoint(
        take_snapshot({"w": torch.full((2,), float(step))}, {}, steps=(step, step), card="card"), path
    )


def test_a_folder_gives_its_most_trained_checkpoint(tmp_path: Path) -> None:
    for step in (9, 10, 2):
        write(tmp_path / f"step_{step}", step)

    assert tmp_path / "step_10" == find_checkpoint(tmp_path)
    assert 10.0 == float(read_checkpoint(tmp_path).model["w"][0])
    with pytest.raises(CheckpointMissing):
        find_checkpoint(tmp_path / "nothing here")


def test_what_was_half_written_is_not_a_checkpoint_and_is_cleared(tmp_path: Path) -> None:
    write(tmp_path / "step_1", 1)
    half = tmp_path / ".writing-step_2-1-1"
    half.mkdir()
    (half / "checkpoint.json").write_text((tmp_path / "step_1" / "checkpoint.json").read_text())

    assert [tmp_path / "step_1"] == list_checkpoints(tmp_path)
    clear_unfinished(tmp_path)
    assert not half.exists()


def test_the_old_one_is_found_when_a_replacement_broke_off_between_its_two_renames(tmp_path: Path) -> None:
    write(tmp_path / "best", 1)
    (tmp_path / "best").rename(tmp_path / ".replaced-best")

    assert tmp_path / "best" == find_checkpoint(tmp_path / "best")
    write(tmp_path / "best", 2)
    assert 2.0 == float(read_checkpoint(tmp_path / "best").model["w"][0])
    assert ["best"] == [path.name for path in tmp_path.iterdir()]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "step_1", 1)
    weights = tmp_path / "step_1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")

    with pytest.raises(CheckpointDamaged, match=r"model\.safetensors is not the file that was written"):
        read_checkpoint(tmp_path)


class Planted:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self._trace,)


def test_a_planted_pickle_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    write(tmp_path / "run" / "step_1", 1)
    planted = pickle.dumps(Planted(trace))
    for name in ("model.safetensors", "training.safetensors", "model.pth", "state.pt"):
        (tmp_path / "run" / "step_1" / name).write_bytes(planted)
    head = tmp_path / "run" / "step_1" / "checkpoint.json"
    import hashlib  # noqa: PLC0415

    parts = json.loads(head.read_text())
    parts["files"] = dict.fromkeys(parts["files"], hashlib.sha256(planted).hexdigest())
    head.write_text(json.dumps(parts))

    with pytest.raises(CheckpointDamaged):
        read_checkpoint(tmp_path / "run")

    assert not trace.exists()
    pickle.loads(planted)  # noqa: S301  it would have worked
    assert trace.exists()


def test_pruning_keeps_the_newest_and_spares_the_best_and_the_final_one(tmp_path: Path) -> None:
    for name, step in (("step_1", 1), ("epoch_1", 2), ("step_3", 3), ("best", 1), ("final_epoch", 3)):
        write(tmp_path / name, step)

    prune(tmp_path, keep=2)

    assert ["best", "epoch_1", "final_epoch", "step_3"] == sorted(path.name for path in tmp_path.iterdir())


def test_the_writer_reports_what_is_complete_and_passes_on_what_fails(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    writer = CheckpointWriter(lambda path, step, _: told.append((path.name, step)))
    snapshot = take_snapshot({"w": torch.zeros(4)}, {}, steps=(5, 5), card="")

    writer.submit(snapshot, tmp_path / "step_5", None)
    writer.wait()
    assert [("step_5", 5)] == told

    (tmp_path / "a file").write_text("")
    writer.submit(snapshot, tmp_path / "a file" / "step_6", None)
    with pytest.raises(OSError, match="a file"):
        writer.close()


def test_training_goes_on_while_a_snapshot_is_written(tmp_path: Path) -> None:
    weights = torch.zeros(3)
    snapshot = take_snapshot({"w": weights}, {"w": weights}, steps=(1, 1), card="")

    weights.fill_(9)
    write_checkpoint(snapshot, tmp_path / "one")

    assert [0.0, 0.0, 0.0] == read_checkpoint(tmp_path / "one").model["w"].tolist()
