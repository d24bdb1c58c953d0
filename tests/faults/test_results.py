"""What is written down about rounds, and how it adds up."""

from pathlib import Path

import msgspec
import pytest

from tests.faults.harness.results import Line, append, as_table, put_into, read

WELL = Line(
    seed=1, kind="bus killed", commit="abc", what="nats", is_ok=True, problems=[], fault_s=1.0, took_s=9.0,
    outage_s=2.0, jobs=10, cancelled=1, items=100, events=300, calls={"answered": 5, "refused": 1},
)  # fmt: skip
BAD = msgspec.structs.replace(
    WELL,
    seed=2,
    is_ok=False,
    outage_s=8.0,
    problems=["lost: job 1", "lost: job 2", "gap: watcher 0 of job 1"],
)
TAKEN_OVER = msgspec.structs.replace(WELL, seed=3, kind="worker killed", takeover_s=11.25)
ELSEWHERE = msgspec.structs.replace(WELL, commit="def")


def test_rounds_of_several_runs_add_up_by_commit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    for line in (WELL, ELSEWHERE, BAD, TAKEN_OVER):
        append(path, line)

    lines = read(path)

    assert [WELL, ELSEWHERE, BAD, TAKEN_OVER] == lines
    table = as_table(lines, commits=["abc"])
    assert table.startswith(
        "3 rounds at abc: 30 jobs, 3 of them cancelled by their users, 300 items, "
        "900 events, 18 interactive calls.\n"
    )
    assert "| bus killed | 2 | 1 | 0 | 0 | 1 | 5.0 | 8.0 |  |\n" in table
    assert "| worker killed | 1 | 0 | 0 | 0 | 0 | 2.0 | 2.0 | 11.2, at most 11.2 |\n" in table
    assert "4 rounds at abc, def:" in as_table(lines, commits=["abc", "def"])


def test_the_table_replaces_the_one_before_it_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- faults: begin -->\nold\n<!-- faults: end -->\nafter\n")

    for table in ("longer than the old one\n", "new\n"):
        put_into(document, table)

    assert "before\n<!-- faults: begin -->\nnew\n<!-- faults: end -->\nafter\n" == document.read_text()


def test_a_document_without_a_place_for_the_table_stays_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("nothing here\n")

    with pytest.raises(ValueError, match="no place for the table"):
        put_into(document, "new\n")

    assert "nothing here\n" == document.read_text()
