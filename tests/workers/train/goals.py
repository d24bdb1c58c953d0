"""Rows of the training report as tests: the same real data and the same goals, with fewer steps."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from workers.train.evidence.rows import Row


def missed_goals(rows: Callable[[], Iterator[Row]], name: str, **changes: Any) -> dict[str, float]:
    """Run the row of that name, seed 0, with changes to its config; the goals it missed, by metric.

    A change that is a dict goes into the entry of that name: ``options={"max_steps": 900}``.
    """
    found = next(row for row in rows() if row.name == name)
    if not found.goals:
        raise ValueError(f"{name} has no goal")
    metrics = found.run(merged(found.config, changes), 0).metrics
    return {
        metric: metrics[metric] for metric, goal in found.goals.items() if not goal.is_met(metrics[metric])
    }


def merged(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the changes in it, at any depth."""
    found = dict(config)
    for name, change in changes.items():
        within = found.get(name)
        nested = isinstance(change, Mapping) and isinstance(within, Mapping)
        found[name] = merged(within, change) if nested else change
    return found
