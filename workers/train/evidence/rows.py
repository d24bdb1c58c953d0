"""Rows of the training report: what is run, and the file that keeps what came out."""

import ast
import hashlib
import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[3]
#: What every row's outcome depends on, beside its own files. How a run is saved and shown is not part of it.
SHARED = (
    *(
        f"workers/train/base/{name}.py"
        for name in (
            "batches", "building", "core", "ema", "evaluation", "feeding", "metrics", "networks", "pauses",
            "schedules", "setup", "tally", "trainer",
        )
    ),
    "workers/train/data/loaders.py",
    "workers/train/rng.py",
)  # fmt: skip


class Goal(NamedTuple):
    """A bound that a metric has to meet."""

    bound: float
    at_least: bool

    def is_met(self, value: float) -> bool:
        """Whether the value is on the right side."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


class Measured(NamedTuple):
    """What one run gave. ``baselines`` are by metric, then by name; ``cpu_seconds`` are of training only."""

    metrics: Mapping[str, float]
    cpu_seconds: float
    steps: int
    baselines: Mapping[str, Mapping[str, float]] = {}


class Row(NamedTuple):
    """One line of the report.

    ``config`` is everything that ``run`` is told; ``sources`` are the files that decide what comes out;
    ``published`` is, by metric, a number of somebody else's with its source.
    """

    name: str
    data: str
    data_sha256: str
    variant: str
    config: Mapping[str, Any]
    run: Callable[[Mapping[str, Any], int], Measured]
    sources: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    goals: Mapping[str, Goal] = {}
    published: Mapping[str, str] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one row, as its file holds it; JSON writes null for a number that is not finite."""

    row: str
    seed: int
    config_sha256: str
    data_sha256: str
    commit: str
    sources_sha256: str = ""
    metrics: dict[str, float | None]
    baselines: dict[str, dict[str, float]]
    cpu_seconds: float
    steps: int
    finished_at: float

    def metric(self, name: str) -> float:
        """A metric, NaN where there is no number: it meets no goal."""
        value = self.metrics[name]
        return math.nan if value is None else value


def config_digest(row: Row) -> str:
    """The digest of what a row is told."""
    return hashlib.sha256(json.dumps(row.config, sort_keys=True, default=str).encode()).hexdigest()


def commit_of(row: Row) -> str:
    """The last commit that changed one of the row's sources, with ``+`` when they are changed since."""
    return last_commit([*SHARED, *row.sources])


def last_commit(sources: Iterable[str]) -> str:
    """The last commit that changed one of these files, with ``+`` when they are changed since."""
    sources = list(sources)
    commit = _git("log", "-1", "--format=%h", "--", *sources)
    return commit + ("+" if _git("status", "--porcelain", "--", *sources) else "")


def sources_digest(row: Row) -> str:
    """The digest of what the row's sources do, as they are now."""
    return digest_of({*SHARED, *row.sources})


def digest_of(sources: Iterable[str]) -> str:
    """The digest of what files, and the Python files in folders, do.

    Unlike a commit it survives a rebase or a revert, and comments, docstrings and layout don't count.
    """
    found = hashlib.sha256()
    for source in sorted(sources):
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + _meaning_of(file))
    return found.hexdigest()


def _meaning_of(file: Path) -> bytes:
    """A Python file without what has no effect (and as its syntax tree, which differs between Pythons)."""
    if file.suffix != ".py":
        return file.read_bytes()
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree).encode()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def results_of(row: Row, folder: Path = RESULTS) -> list[Result]:
    """Every kept result of the row as it is configured now, the newest last."""
    digest = config_digest(row)
    kept = (
        msgspec.json.decode(path.read_bytes(), type=Result) for path in folder.glob(f"{_slug(row)}-*.json")
    )
    same = [
        result for result in kept if (result.config_sha256, result.data_sha256) == (digest, row.data_sha256)
    ]
    return sorted(same, key=lambda result: result.finished_at)


def missing_seeds(row: Row, *, refresh: bool, folder: Path = RESULTS) -> Iterator[int]:
    """Seeds without a result; with ``refresh`` also those whose sources have changed since."""
    now = sources_digest(row) if refresh else ""
    for seed in row.seeds:
        found = [result for result in results_of(row, folder) if result.seed == seed]
        if not found or (refresh and all(result.sources_sha256 != now for result in found)):
            yield seed


def run_row(row: Row, seed: int, folder: Path = RESULTS) -> Result:
    """Run once, in one thread, and keep the result in a file of its own."""
    torch.set_num_threads(1)
    commit, sources = commit_of(row), sources_digest(row)
    measured = row.run(row.config, seed)
    result = Result(
        row=row.name,
        seed=seed,
        config_sha256=config_digest(row),
        data_sha256=row.data_sha256,
        commit=commit,
        sources_sha256=sources,
        metrics={name: float(value) for name, value in measured.metrics.items()},
        baselines={name: dict(values) for name, values in measured.baselines.items()},
        cpu_seconds=measured.cpu_seconds,
        steps=measured.steps,
        finished_at=time.time(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{result.config_sha256}{row.data_sha256}{sources}".encode()).hexdigest()[:10]
    path = folder / f"{_slug(row)}-{seed}-{key}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    return result


def _slug(row: Row) -> str:
    return re.sub(r"[^a-z0-9]+", "_", row.name.lower())
