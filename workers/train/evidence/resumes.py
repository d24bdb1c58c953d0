"""What came out when trainers were killed and resumed: one line a kill, and their table in the report."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from workers.train.evidence.rows import RESULTS, digest_of

#: The folder beside the results of rows; a file a trainer, so that two trainers never write to one file.
FOLDER = "resumes"
_COLUMNS = (
    "trainer",
    "variant",
    "kills",
    "saved inside an epoch",
    "inside a step",
    "greatest difference",
    "commit",
)

_HEAD = """
## Resuming

Each variant (a small net; `tests/workers/train/scenarios/`) was trained in a process of its own that saved
after a random batch and was ended with SIGKILL at that batch or a few later. A new process resumed it.
Compared with a run that was never broken off: all parameters, buffers, optimizers, schedules, averages,
generators, counters and places in the data at the end, and the loss of every batch after the save. "Inside a
step" is between the batches whose gradients add up to one update, and between the updates of several
networks. A `*` at a commit: the trainer's sources have changed since.

"""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """One kill. ``difference`` is the greatest anywhere; infinite, written as null, when shapes differ."""

    trainer: str
    variant: str
    seed: int
    saved_at: int
    killed_at: int
    num_batches: int
    inside_epoch: bool
    inside_step: bool
    difference: float | None
    sources: list[str]
    sources_sha256: str
    commit: str


def add_kill(kill: Kill, folder: Path = RESULTS.parent / FOLDER) -> None:
    """Keep one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{kill.trainer}.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(kill) + b"\n")


def forget_old(trainer: str, folder: Path = RESULTS.parent / FOLDER) -> None:
    """Drop the kills of a trainer whose sources have changed since."""
    path = folder / f"{trainer}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if _is_current(msgspec.json.decode(line, type=Kill))]
    if len(kept) < len(lines):
        path.write_bytes(b"".join(kept))


def _is_current(kill: Kill) -> bool:
    return kill.sources_sha256 == digest_of(kill.sources)


def kills_in(folder: Path) -> list[Kill]:
    """All that were kept."""
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines())
    return [msgspec.json.decode(line, type=Kill) for line in lines]


def resume_section(results: Path) -> str:
    """The section of the report; nothing when nothing was killed."""
    kills = sorted(kills_in(results.parent / FOLDER), key=lambda kill: (kill.trainer, kill.variant))
    if not kills:
        return ""
    lines = [_cells(_COLUMNS), _cells(["---"] * len(_COLUMNS)), *_lines(kills)]
    by_trainer = {trainer: len(list(part)) for trainer, part in groupby(kills, key=lambda kill: kill.trainer)}
    told = ", ".join(f"{trainer} {count}" for trainer, count in by_trainer.items())
    exact = sum(kill.difference == 0 for kill in kills)
    return f"{_HEAD}{chr(10).join(lines)}\n\nKills: {told}. Exact: {exact} of {len(kills)}.\n"


def _lines(kills: Iterable[Kill]) -> Iterator[str]:
    for (trainer, variant), part in groupby(kills, key=lambda kill: (kill.trainer, kill.variant)):
        found = list(part)
        differences = [kill.difference for kill in found]
        worst = (
            "of another shape" if None in differences else repr(max(filter(None, differences), default=0.0))
        )
        commits = sorted({kill.commit + ("" if _is_current(kill) else "*") for kill in found})
        cells = [
            trainer,
            variant.replace("_", " "),
            str(len(found)),
            str(sum(kill.inside_epoch for kill in found)),
            str(sum(kill.inside_step for kill in found)),
            worst,
            ", ".join(commits),
        ]
        yield _cells(cells)


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
