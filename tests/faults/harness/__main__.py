"""`make faults ROUNDS=n SEED=s` and `make faults-table`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from tempfile import mkdtemp

from tests.faults.harness import results
from tests.faults.harness.kinds import KINDS
from tests.faults.harness.rounds import Arenas, kind_of
from tests.faults.harness.trainings.arena import training_kind_of
from tests.faults.harness.trainings.kinds import TRAINING_KINDS

_ROOT = Path(__file__).parents[3]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("--results", type=Path, default=_ROOT / "results" / "faults.jsonl")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run rounds and append a line for each")
    run.add_argument("--rounds", type=int, required=True)
    run.add_argument(
        "--seed", type=int, required=True, help="of the first round; a seed alone replays its round"
    )
    run.add_argument("--kind", choices=[*KINDS, *TRAINING_KINDS], help="one kind of fault only")
    run.add_argument("--trainings", action="store_true", help="disturb trainings, with kinds of their own")
    run.add_argument("--data-dir", type=Path, help="where the stacks live and leave their logs")
    table = commands.add_parser("table", help="write the table of a commit's rounds into CONTRIBUTING.md")
    table.add_argument(
        "--commit", action="append", help="add up the rounds of these; by default the checkout's"
    )
    arguments = parser.parse_args()
    commit = results.find_commit(_ROOT)
    if arguments.command == "table":
        counted = results.as_table(results.read(arguments.results), commits=arguments.commit or [commit])
        results.put_into(_ROOT / "CONTRIBUTING.md", counted)
        return 0
    return asyncio.run(_run(arguments, commit))


async def _run(arguments: argparse.Namespace, commit: str) -> int:
    folder = arguments.data_dir or Path(mkdtemp(prefix="faults-"))
    arenas = Arenas(folder)
    running = asyncio.current_task()
    if running is not None:
        # What is frozen at this moment would otherwise outlive us.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    num_bad = 0
    try:
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            name = arguments.kind or (training_kind_of if arguments.trainings else kind_of)(seed)
            line = await (await arenas.get(name)).run(seed, commit=commit, name=name)
            results.append(arguments.results, line)
            _say(line)
            if not line.is_ok:
                num_bad += 1
                _print(f"  logs: {await arenas.discard(name)}")
    finally:
        await arenas.close()
    _print(f"{arguments.rounds - num_bad} of {arguments.rounds} rounds without a problem")
    return min(num_bad, 1)


def _say(line: results.Line) -> None:
    verdict = "ok" if line.is_ok else "BAD"
    takeover = "" if line.takeover_s is None else f", taken over after {line.takeover_s:.1f} s"
    _print(
        f"{verdict:3} {line.seed:5} {line.kind} ({line.what}): {line.took_s:.0f} s, {line.jobs} jobs, "
        f"{line.cancelled} cancelled, "
        f"{line.open_jobs} of them open, {line.items} items, calls {line.calls}, refusals {line.refusals}, "
        f"outage {line.outage_s:.1f} s{takeover}"
    )
    for problem in line.problems:
        _print(f"      {problem}")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
