"""Subjects are spelled in ``bus/subjects.py`` and nowhere else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import subjects

ROOT = Path(__file__).parents[2]
ROOMS = ("bus", "server", "workers", "deploy")
#: Tags of messages share an area with subjects, and end in a version.
TAG = re.compile(r"\.v\d+$")


def _areas() -> set[str]:
    spelled = [value for value in vars(subjects).values() if isinstance(value, str) and "." in value]
    calls = (
        subjects.interactive("x"),
        subjects.embed_job("x", "x"),
        subjects.embed_jobs("x"),
        subjects.job_event("x"),
        subjects.job_nudged("x"),
        subjects.job_cancel("x"),
        subjects.dead_letter("x"),
        subjects.inbox("x"),
    )
    # The module's own names and docstring hold dots and blanks.
    return {text.split(".")[0] for text in (*spelled, *calls) if re.fullmatch(r"[a-z_.*>]+", text)} - {"bus"}


def _looks_like_a_subject(text: str, areas: set[str]) -> bool:
    area, dot, rest = text.partition(".")
    return area in areas and bool(dot) and not re.search(r"\s", rest) and not TAG.search(text)


def _spelled(tree: ast.AST, areas: set[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
        if (
            isinstance(first, ast.Constant)
            and isinstance(first.value, str)
            and _looks_like_a_subject(first.value, areas)
        ):
            yield first.lineno, first.value


def test_no_other_file_spells_a_subject() -> None:
    areas = _areas()
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if path != ROOT / "bus" / "subjects.py"
        for line, text in _spelled(ast.parse(path.read_text(encoding="utf-8")), areas)
    ]

    assert found == []


def test_every_area_is_known() -> None:
    assert {"access", "cancel", "dead", "embed", "event", "job", "nudge", "registry", "reply"} == _areas()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('publish("job.embed.default.1")', ["job.embed.default.1"]),
        ('publish(f"nudge.job.{job_id}")', ["nudge.job."]),
        ('publish("embed." + lane)', ["embed."]),
        ('"access.revoked.v1"', []),
        ('"The job. It is done."', []),
        ('"job"', []),
        ('f""', []),
    ],
)
def test_the_rule_sees_what_it_should(source: str, expected: list[str]) -> None:
    assert expected == [text for _, text in dict.fromkeys(_spelled(ast.parse(source), _areas()))]
