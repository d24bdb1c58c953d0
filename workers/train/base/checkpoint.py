"""Checkpoints: a folder that is either complete or not there, written beside the training thread.

A folder holds ``model.safetensors`` (weights under their own names), ``training.safetensors`` and
``checkpoint.json`` (everything else) and ``README.md`` (the model card). Nothing in it is ever unpickled.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.train.base.encoding import decode, detached, encode

MODEL_FILE = "model.safetensors"
TRAINING_FILE = "training.safetensors"
STATE_FILE = "checkpoint.json"
CARD_FILE = "README.md"
FORMAT_VERSION = 1
_WRITING = ".writing-"
_REPLACED = ".replaced-"
#: Folders that pruning may take, by the start of their names.
_PRUNABLE = ("epoch_", "step_")


class CheckpointError(Exception):
    """The root of what can go wrong with a checkpoint."""


class CheckpointMissing(CheckpointError):
    """There is no complete checkpoint at that place."""


class CheckpointDamaged(CheckpointError):
    """A file of the checkpoint is not the one that was written."""


class Snapshot(NamedTuple):
    """A moment of training, copied out of its reach."""

    micro_step: int
    step: int
    model: dict[str, Tensor]
    training: dict[str, Tensor]
    state: Any
    card: str


class Loaded(NamedTuple):
    """What a checkpoint holds: the weights by name, and the state as it was given to `take_snapshot`."""

    path: Path
    model: dict[str, Tensor]
    state: dict[str, Any]


def take_snapshot(
    model: Mapping[str, Tensor], state: Mapping[str, Any], *, steps: tuple[int, int], card: str
) -> Snapshot:
    """Copy everything; training may go on as soon as this returns. ``steps`` is (micro step, step)."""
    training: dict[str, Tensor] = {}
    encoded = encode(dict(state), training, "state")
    return Snapshot(steps[0], steps[1], detached(model), detached(training), encoded, card)


def write_checkpoint(snapshot: Snapshot, path: Path) -> int:
    """Write all files under another name, flush them to the disk, then take the name; returns the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.parent / f"{_WRITING}{path.name}-{os.getpid()}-{threading.get_ident()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    save_file(snapshot.model, work / MODEL_FILE)
    save_file(snapshot.training, work / TRAINING_FILE)
    (work / CARD_FILE).write_text(snapshot.card, encoding="utf-8")
    files = {name: _digest(work / name) for name in (MODEL_FILE, TRAINING_FILE)}
    head = {
        "format_version": FORMAT_VERSION,
        "micro_step": snapshot.micro_step,
        "step": snapshot.step,
        "files": files,
        "state": snapshot.state,
    }
    # Python's json writes NaN and infinity, which a loss curve may well hold.
    (work / STATE_FILE).write_text(json.dumps(head), encoding="utf-8")
    num_bytes = 0
    for file in work.iterdir():
        _flush(file)
        num_bytes += file.stat().st_size
    _flush(work)
    _take_name(work, path)
    return num_bytes


def read_checkpoint(path: Path) -> Loaded:
    """The checkpoint at ``path``, or the newest one inside that folder.

    Raises:
        CheckpointMissing: there is none.
        CheckpointDamaged: a file was changed or can't be read.
    """
    path = find_checkpoint(path)
    try:
        head = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        if head["format_version"] != FORMAT_VERSION:
            raise CheckpointDamaged(f"{path} has format {head['format_version']}, this is {FORMAT_VERSION}")
        for name, sha256 in head["files"].items():
            if _digest(path / name) != sha256:
                raise CheckpointDamaged(f"{path / name} is not the file that was written")
        model, training = load_file(path / MODEL_FILE), load_file(path / TRAINING_FILE)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointDamaged(f"{path} can't be read: {error}") from error
    return Loaded(path, model, decode(head["state"], training))


def find_checkpoint(path: Path) -> Path:
    """``path`` itself when it is a checkpoint, else the one inside it that is furthest in training.

    Raises:
        CheckpointMissing: neither.
    """
    _recover(path)
    if (path / STATE_FILE).is_file():
        return path
    inside = list_checkpoints(path)
    if not inside:
        raise CheckpointMissing(f"there is no checkpoint at {path}")
    return inside[-1]


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, from the least to the most trained."""
    if not folder.is_dir():
        return []
    for left in folder.glob(f"{_REPLACED}*"):
        _recover(folder / left.name.removeprefix(_REPLACED))
    found = [at for at in folder.iterdir() if not at.name.startswith(".") and (at / STATE_FILE).is_file()]
    return sorted(found, key=lambda at: (_micro_step(at), at.name))


def prune(folder: Path, keep: int | None) -> list[Path]:
    """Remove the oldest ``epoch_*`` and ``step_*`` checkpoints beyond ``keep``; returns what was removed."""
    if keep is None:
        return []
    prunable = [at for at in list_checkpoints(folder) if at.name.startswith(_PRUNABLE)]
    gone = prunable[: max(0, len(prunable) - keep)]
    for path in gone:
        # Under another name first: a checkpoint that is only half gone must not look like one.
        hidden = path.with_name(f"{_WRITING}{path.name}-gone")
        path.rename(hidden)
        shutil.rmtree(hidden)
    return gone


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for left in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(left, ignore_errors=True)


class CheckpointWriter:
    """One thread that writes snapshots, one after the other; at most one waits.

    ``saved(path, step, byte_size)`` is called from that thread when a checkpoint is complete.
    """

    def __init__(self, saved: Callable[[Path, int, int], None]) -> None:
        self._saved = saved
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def submit(self, snapshot: Snapshot, path: Path, keep: int | None) -> None:
        """Write in the background; waits while an earlier snapshot is still being written.

        Raises:
            OSError: the earlier one could not be written.
        """
        self.wait()
        self._pending = self._pool.submit(self._write, snapshot, path, keep)

    def wait(self) -> None:
        """Until everything is on disk.

        Raises:
            OSError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Finish what was begun and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def _write(self, snapshot: Snapshot, path: Path, keep: int | None) -> None:
        num_bytes = write_checkpoint(snapshot, path)
        prune(path.parent, keep)
        self._saved(path, snapshot.step, num_bytes)


def _take_name(work: Path, path: Path) -> None:
    replaced = path.with_name(_REPLACED + path.name)
    if path.exists():
        # Two renames: between them the old one is found again by _recover.
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    work.rename(path)
    _flush(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _recover(path: Path) -> None:
    replaced = path.with_name(_REPLACED + path.name)
    if not path.exists() and (replaced / STATE_FILE).is_file():
        replaced.rename(path)


def _micro_step(path: Path) -> int:
    return int(json.loads((path / STATE_FILE).read_text(encoding="utf-8"))["micro_step"])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
