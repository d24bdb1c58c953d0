"""The results file, one JSON line a round, and the table that adds the rounds of a commit up."""

import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import msgspec

_HEAD = (
    "| fault | rounds | lost | doubled | stuck | other | outage p50, s | longest, s | taken over after, s |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
_BEGIN, _END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One round. Durations in seconds."""

    seed: int
    kind: str
    commit: str
    #: Which member was disturbed, and how.
    what: str
    is_ok: bool
    problems: list[str]
    #: How long the fault itself lasted, restarts included.
    fault_s: float
    took_s: float
    #: The longest time in which no client got an answer to any interactive call.
    outage_s: float = 0.0
    #: Of workers that left with a job in hand: until it ran again elsewhere.
    takeover_s: float | None = None
    jobs: int = 0
    #: Of the jobs, those that their users cancelled before they had ended.
    cancelled: int = 0
    items: int = 0
    events: int = 0
    #: How often an interactive call ended how.
    calls: dict[str, int] = msgspec.field(default_factory=dict)
    #: Codes of everything that was refused.
    refusals: dict[str, int] = msgspec.field(default_factory=dict)
    #: How often a watcher had to open another socket.
    resumed: int = 0
    #: Jobs that were accepted and had not ended when the fault began.
    open_jobs: int = 0
    #: The most attempts a job took.
    attempts: int = 0


def append(path: Path, line: Line) -> None:
    """Add a round; the line is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def read(path: Path) -> list[Line]:
    """Every round there is."""
    decoder = msgspec.json.Decoder(Line)
    return [decoder.decode(raw) for raw in path.read_bytes().splitlines() if raw.strip()]


def find_commit(root: Path) -> str:
    """The commit of a checkout; ``+`` says that it was changed."""
    say = ["git", "-C", str(root), "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    return subprocess.run(say, capture_output=True, text=True, check=True).stdout.strip()


def as_table(lines: Iterable[Line], *, commits: Sequence[str]) -> str:
    """Write the rounds of these commits as Markdown."""
    by_kind: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.commit in commits:
            by_kind[line.kind].append(line)
    rounds = [line for kind in by_kind.values() for line in kind]
    counted = (
        f"{len(rounds)} rounds at {', '.join(commits)}: {sum(line.jobs for line in rounds)} jobs, "
        f"{sum(line.cancelled for line in rounds)} of them cancelled by their users, "
        f"{sum(line.items for line in rounds)} items, {sum(line.events for line in rounds)} events, "
        f"{sum(sum(line.calls.values()) for line in rounds)} interactive calls."
    )
    rows = [_row(kind, by_kind[kind]) for kind in sorted(by_kind)]
    return "\n".join([counted, "", _HEAD, *rows, ""])


def _row(kind: str, lines: list[Line]) -> str:
    counts = defaultdict(int)
    for line in lines:
        # A round counts once for each way in which it went wrong.
        for problem in {problem.partition(":")[0] for problem in line.problems}:
            counts[problem] += 1
    other = sum(count for problem, count in counts.items() if problem not in {"lost", "doubled", "stuck"})
    outages = [line.outage_s for line in lines]
    takeovers = [line.takeover_s for line in lines if line.takeover_s is not None]
    taken_over = f"{median(takeovers):.1f}, at most {max(takeovers):.1f}" if takeovers else ""
    return (
        f"| {kind} | {len(lines)} | {counts['lost']} | {counts['doubled']} | {counts['stuck']} | {other} "
        f"| {median(outages):.1f} | {max(outages):.1f} | {taken_over} |"
    )


def put_into(document: Path, table: str) -> None:
    """Replace what stands between the two marks of a document."""
    text = document.read_text(encoding="utf-8")
    head, found, rest = text.partition(_BEGIN)
    _, closed, tail = rest.partition(_END)
    if not (found and closed):
        raise ValueError(f"{document} has no place for the table")
    document.write_text(f"{head}{_BEGIN}{table}{_END}{tail}", encoding="utf-8")
