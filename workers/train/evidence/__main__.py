"""``make training-report``: run what has no result yet, then write REPORT.md out of all results."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from workers.train.evidence import autoencoder, fine_tune, gan, rnn, semi_supervised, semi_supervised_gan
from workers.train.evidence.report import write_report
from workers.train.evidence.rows import Row, missing_seeds, run_row

#: A trainer's module adds its ``rows`` here, one line each.
TABLES: tuple[Callable[[], Iterator[Row]], ...] = (
    autoencoder.rows,
    fine_tune.rows,
    gan.rows,
    rnn.rows,
    semi_supervised.rows,
    semi_supervised_gan.rows,
)
REPORT = Path(__file__).parents[1] / "REPORT.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and write; 0 when every row has its results and every goal is met."""
    parser = argparse.ArgumentParser(prog="make training-report", description=__doc__)
    parser.add_argument("--rows", default="", help="only rows whose name holds this")
    parser.add_argument(
        "--budget-s", type=float, default=float("inf"), help="begin no run after so many seconds"
    )
    parser.add_argument("--refresh", action="store_true", help="run again what its sources have left behind")
    parser.add_argument("--report-only", action="store_true", help="run nothing, write REPORT.md")
    chosen = parser.parse_args(arguments)
    rows = [row for table in TABLES for row in table()]
    began = time.monotonic()
    left = 0
    for row in rows:
        if chosen.report_only or chosen.rows not in row.name:
            continue
        for seed in missing_seeds(row, refresh=chosen.refresh):
            if time.monotonic() - began > chosen.budget_s:
                left += 1
                continue
            result = run_row(row, seed)
            shown = ", ".join(f"{name} {result.metric(name):.4g}" for name in result.metrics)
            sys.stdout.write(f"{row.name}, seed {seed}: {shown} ({result.cpu_seconds:.0f} CPU-s)\n")
            sys.stdout.flush()
    met, goals = write_report(rows, REPORT)
    sys.stdout.write(f"{met} of {goals} goals met, {left} runs left; see {REPORT.name}\n")
    return 0 if met == goals and not left else 1


if __name__ == "__main__":
    sys.exit(main())
