"""Data sets that people send: looked at row by row, and prepared for training."""

from workers.train.datasets.facts import FileSource, Findings, Issue, Limits, SampleSource
from workers.train.datasets.prepared import (
    Prepared,
    PreparedDamaged,
    PreparedError,
    TooLarge,
    WrongKind,
    open_prepared,
)
from workers.train.datasets.samples import installed_samples
from workers.train.datasets.validation import validate

__all__ = [
    "FileSource",
    "Findings",
    "Issue",
    "Limits",
    "Prepared",
    "PreparedDamaged",
    "PreparedError",
    "SampleSource",
    "TooLarge",
    "WrongKind",
    "installed_samples",
    "open_prepared",
    "validate",
]
