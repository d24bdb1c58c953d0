"""The report keeps one result a row and seed, and tells what is missed, missing or old."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from workers.train.evidence import autoencoder
from workers.train.evidence.report import write_report
from workers.train.evidence.resumes import Kill, add_kill, forget_old, resume_section
from workers.train.evidence.rows import (
    Goal,
    Measured,
    Row,
    commit_of,
    digest_of,
    missing_seeds,
    results_of,
    run_row,
    sources_digest,
)


def row(level: float, **more: Any) -> Row:
    def run(config: Mapping[str, Any], seed: int) -> Measured:
        return Measured({"accuracy": config["level"] + seed / 10}, 1.5, 7, {"accuracy": {"majority": 0.2}})

    return Row("toy row", "toys", "0" * 64, "plain", {"level": level}, run, ("README.md",), (0, 1), **more)


def test_what_has_a_result_is_not_run_again_unless_told_otherwise(tmp_path: Path) -> None:
    assert [0, 1] == list(missing_seeds(row(0.5), refresh=False, folder=tmp_path))
    run_row(row(0.5), 0, tmp_path)

    assert [1] == list(missing_seeds(row(0.5), refresh=False, folder=tmp_path))
    assert [0, 1] == list(missing_seeds(row(0.6), refresh=False, folder=tmp_path))
    assert commit_of(row(0.5)) == results_of(row(0.5), tmp_path)[0].commit

    kept = next(tmp_path.iterdir())
    kept.write_text(kept.read_text().replace(sources_digest(row(0.5)), "0" * 64))
    assert [0, 1] == list(missing_seeds(row(0.5), refresh=True, folder=tmp_path))


def test_the_report_shows_met_missed_and_missing(tmp_path: Path) -> None:
    met = row(0.5, goals={"accuracy": Goal(0.5, at_least=True)}, published={"accuracy": "0.9 (somebody)"})
    missed = row(0.5, goals={"accuracy": Goal(0.1, at_least=False)})
    run_row(met, 0, tmp_path)
    run_row(met, 1, tmp_path)

    half_met, not_run = met._replace(seeds=(0, 1, 2)), met._replace(config={"level": 9})
    assert (1, 4) == write_report([met, missed, half_met, not_run], tmp_path / "R.md", tmp_path)

    text = (tmp_path / "R.md").read_text()
    assert "| accuracy | 0.55 ± 0.071 | >= 0.5 | yes | majority 0.2 | 0.9 (somebody) | 2 | 7 | 0, 1 |" in text
    assert "**missed**" in text
    assert "| so far | majority 0.2 | 0.9 (somebody) | 2 | 7 | 0, 1 (1 missing) |" in text
    assert "| not run | | accuracy >= 0.5 | no |" in text.replace("|  |", "| |")
    assert "Goals met: 1 of 4." in text


def test_a_number_that_is_not_finite_is_kept_and_meets_no_goal(tmp_path: Path) -> None:
    for bound in (Goal(200, at_least=False), Goal(200, at_least=True)):
        never = row(math.inf, goals={"accuracy": bound})._replace(seeds=(0,))
        run_row(never, 0, tmp_path)

        assert (0, 1) == write_report([never], tmp_path / "R.md", tmp_path)
        assert "| accuracy | no number |" in (tmp_path / "R.md").read_text()


def test_rows_are_told_apart_by_name_and_cover_every_kind_on_two_sets() -> None:
    rows = list(autoencoder.rows())

    assert len(rows) == len({row.name for row in rows})
    for kind in ("plain", "denoising", "vae", "beta_vae", "vq_vae"):
        assert 2 <= len({row.data for row in rows if row.config["options"]["kind"] == kind})


def test_only_what_a_source_does_makes_a_row_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.train.evidence.rows.ROOT", tmp_path)
    source = tmp_path / "source.py"

    def digest(text: str) -> str:
        source.write_text(text)
        return sources_digest(row(0.5)._replace(sources=("source.py",)))

    monkeypatch.setattr("workers.train.evidence.rows.SHARED", ())
    one = digest('"""Does."""\ndef f():\n    """Gives."""\n    return 1\n')

    assert one == digest("# Says more.\ndef f():\n    return (1)\n")
    assert one != digest("def f():\n    return 2\n")


def kill(difference: float | None, sources_sha256: str) -> Kill:
    return Kill(
        trainer="toy",
        variant="one_two",
        seed=0,
        saved_at=2,
        killed_at=3,
        num_batches=9,
        inside_epoch=True,
        inside_step=False,
        difference=difference,
        sources=["README.md"],
        sources_sha256=sources_sha256,
        commit="abc1234",
    )


def test_kills_are_counted_by_variant_and_old_ones_are_marked_then_forgotten(tmp_path: Path) -> None:
    now = digest_of(["README.md"])
    for one in (kill(0.0, now), kill(1e-9, now), kill(0.0, "0" * 64)):
        add_kill(one, tmp_path / "resumes")

    text = resume_section(tmp_path / "results")
    assert "| toy | one two | 3 | 3 | 0 | 1e-09 | abc1234, abc1234* |" in text
    assert "Kills: toy 3. Exact: 2 of 3." in text

    forget_old("toy", tmp_path / "resumes")
    add_kill(kill(None, now), tmp_path / "resumes")
    assert "| 3 | 3 | 0 | of another shape | abc1234 |" in resume_section(tmp_path / "results")
