"""What a window of reports makes of one job: pure, with the job's row locked around it."""

from collections import Counter
from uuid import UUID

import msgspec

from bus.messages import ItemsEmbedded, JobAttemptFailed, JobAttemptLetGo
from server.job_payloads import ChunkEmbedded, StateChanged, chunk_key
from server.job_rows import NewEvent, known_code, storable
from server.records import JobState

Report = ItemsEmbedded | JobAttemptFailed | JobAttemptLetGo

#: A job in these takes reports; while it is cancelled its worker may have something in hand yet.
_OPEN = (JobState.RUNNING, JobState.CANCELLING)


class JobTally(msgspec.Struct, kw_only=True):
    """A job's row as it was locked, changed by each report that counts."""

    id: UUID
    user_id: UUID
    attempt: int
    state: JobState
    last_seq: int
    item_count: int
    chunk_size: int
    dimension: int
    completed_count: int
    failed_count: int
    error_code: str | None = None
    error_message: str | None = None
    #: Attempts of which a living worker said that it has stopped.
    let_go: set[int] = msgspec.field(default_factory=set)
    #: How many reports were ``counted``, a ``duplicate``, ``stale`` (of another attempt) or ``late``.
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    #: Items of this window that are new, and what they cost.
    num_counted: int = 0
    tokens: int = 0
    compute_s: float = 0.0
    #: Rows the history gains, in order.
    events: list[NewEvent] = msgspec.field(default_factory=list)

    def apply(self, report: Report, done: set[str]) -> None:
        """Take one report in; ``done`` holds the item keys that are already counted, and grows."""
        if isinstance(report, JobAttemptLetGo):
            # Of an older attempt too: the next claim may have been quicker than this.
            self.let_go.add(report.attempt)
        if report.attempt != self.attempt:
            outcome = "stale"
        elif self.state not in _OPEN:
            outcome = "late"
        elif isinstance(report, JobAttemptLetGo):
            outcome = "counted"
            self._stop()
        elif isinstance(report, JobAttemptFailed):
            outcome = "counted"
            self._fail(report.code, report.message)
        elif chunk_key(report.chunk) in done:
            outcome = "duplicate"
        else:
            outcome = "counted"
            done.add(chunk_key(report.chunk))
            self._count(report)
        self.outcomes[outcome] += 1

    def _count(self, report: ItemsEmbedded) -> None:
        if not self._fits(report):
            # Dropping it would leave the job waiting for ever for what will not come.
            self._fail("INTERNAL", f"The worker reported a chunk {report.chunk} that is none of this job.")
            return
        self.events.append(NewEvent(payload=ChunkEmbedded.of(report), item_key=chunk_key(report.chunk)))
        self.failed_count += len(report.failures)
        self.completed_count += report.count - len(report.failures)
        self.num_counted += report.count
        self.tokens += report.tokens
        self.compute_s += report.compute_s
        if self.completed_count + self.failed_count == self.item_count:
            # Whoever cancels and is told so never sees the job succeed.
            self._enter(JobState.CANCELLED if self.state == JobState.CANCELLING else JobState.SUCCEEDED)

    def _fits(self, report: ItemsEmbedded) -> bool:
        first = report.chunk * self.chunk_size
        expected = (first, min(self.chunk_size, self.item_count - first), self.dimension)
        failed = {failure.index for failure in report.failures}
        return (
            0 <= first < self.item_count
            and expected == (report.first_index, report.count, report.dimension)
            and len(failed) == len(report.failures)
            and all(first <= index < first + report.count for index in failed)
        )

    def _stop(self) -> None:
        if self.state == JobState.CANCELLING:
            self._enter(JobState.CANCELLED, "The worker has stopped.")

    def _fail(self, code: str, message: str) -> None:
        if self.state == JobState.CANCELLING:
            self._stop()
            return
        self.error_code = known_code(code).value
        self.error_message = storable(message)
        self._enter(JobState.FAILED, self.error_message)

    def _enter(self, state: JobState, reason: str | None = None) -> None:
        self.state = state
        self.events.append(NewEvent(payload=StateChanged(state=state, reason=reason)))
