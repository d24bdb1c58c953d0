"""The report: every row and every metric, met or missed, beside its baselines and published numbers."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from workers.train.evidence.resumes import resume_section
from workers.train.evidence.rows import RESULTS, Result, Row, results_of, sources_digest

_HEAD = """# Training report

Written by `make training-report` out of the files in `workers/train/evidence/results/`, one a row and seed;
its section on resuming out of `resumes/` there, which `make training-resume` adds to.
Times are CPU-seconds of training in one thread, evaluation left out; a CPU-second is not a fixed amount of
work, so the steps stand beside it. "ours" is the mean over the seeds with the sample standard deviation;
baselines are on the same data. A `*` at a commit: the row's sources have changed since; a `+`: they had
changes that were not committed.

"""
_COLUMNS = (
    "data", "variant", "metric", "ours", "goal", "met", "baselines", "published", "CPU-s", "steps",
    "seeds", "commit",
)  # fmt: skip


def write_report(rows: Iterable[Row], path: Path, folder: Path = RESULTS) -> tuple[int, int]:
    """Write the report; returns how many goals are met, by all their seeds, and how many there are."""
    lines, met, goals = [], 0, 0
    for row in rows:
        newest = {result.seed: result for result in results_of(row, folder)}
        results = [newest[seed] for seed in row.seeds if seed in newest]
        lines += _lines(row, results)
        for metric, goal in row.goals.items():
            goals += 1
            met += len(results) == len(row.seeds) and goal.is_met(_mean(results, metric))
    foot = f"\nGoals met: {met} of {goals}.\n"
    head = [_cells(_COLUMNS), _cells(["---"] * len(_COLUMNS))]
    path.write_text(
        _HEAD + "\n".join([*head, *lines]) + "\n" + foot + resume_section(folder), encoding="utf-8"
    )
    return met, goals


def _lines(row: Row, results: Sequence[Result]) -> list[str]:
    head = [row.data, row.variant]
    if not results:
        verdict = "no" if row.goals else ""
        missing = f"{len(row.seeds)} missing"
        return [_cells([*head, "not run", "", _goals(row), verdict, "", "", "", "", missing, ""])]
    now = sources_digest(row)
    commits = sorted({result.commit + ("" if result.sources_sha256 == now else "*") for result in results})
    seeds = ", ".join(str(result.seed) for result in results)
    num_missing = len(row.seeds) - len(results)
    tail = [
        f"{statistics.fmean(result.cpu_seconds for result in results):.0f}",
        f"{statistics.fmean(result.steps for result in results):.0f}",
        seeds + (f" ({num_missing} missing)" if num_missing else ""),
        ", ".join(commits),
    ]
    return [_cells([*head, *_measured(row, results, metric), *tail]) for metric in results[0].metrics]


def _measured(row: Row, results: Sequence[Result], metric: str) -> list[str]:
    goal = row.goals.get(metric)
    met = "yes" if len(results) == len(row.seeds) else "so far"
    verdict = "" if goal is None else met if goal.is_met(_mean(results, metric)) else "**missed**"
    baselines = [
        f"{name} {_mean_baseline(results, metric, name):.4g}" for name in results[0].baselines.get(metric, {})
    ]
    published = row.published.get(metric, "")
    return [metric, _spread(results, metric), str(goal or ""), verdict, ", ".join(baselines), published]


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _goals(row: Row) -> str:
    return ", ".join(f"{metric} {goal}" for metric, goal in row.goals.items())


def _mean(results: Sequence[Result], metric: str) -> float:
    return statistics.fmean(result.metric(metric) for result in results)


def _mean_baseline(results: Sequence[Result], metric: str, name: str) -> float:
    return statistics.fmean(result.baselines[metric][name] for result in results)


def _spread(results: Sequence[Result], metric: str) -> str:
    values = [result.metric(metric) for result in results]
    if not all(map(math.isfinite, values)):
        return "no number"
    shown = f"{statistics.fmean(values):.4g}"
    return f"{shown} ± {statistics.stdev(values):.2g}" if len(values) > 1 else shown
