"""What a window of reports makes of one job in a lane: pure, with the job's row locked around it.

Reports count strictly in the order of their numbers, so that what is written is what would have been written
had each come alone, however the bus has cut, repeated or turned them.
"""

import math
from collections import Counter
from typing import Literal
from uuid import UUID

import msgspec

from bus.messages import (
    Checkpoint,
    CheckpointSaved,
    DatasetValidated,
    ModelExported,
    SamplesGenerated,
    SamplesMade,
    TrainingProgressed,
    TrainingWarned,
    WorkFailed,
    WorkStopped,
)
from bus.messages.work import Report
from server.dataset_facts import LOOK_CANCELLED, unusable, unusable_after
from server.ids import model_id_of
from server.job_payloads import (
    CheckpointKept,
    ModelMade,
    Payload,
    ProgressMade,
    SamplesShown,
    StateChanged,
    WarningGiven,
)
from server.job_rows import NewEvent, known_code, storable
from server.lane_rows import DATASET, GENERATION, TRAINING
from server.records import JobState

#: ``early`` ones come again when those before them are counted; all others are done with.
Outcome = Literal["counted", "duplicate", "early", "stale", "late"]

#: A job in these takes reports; while it is cancelled its worker may have something in hand yet.
_OPEN = (JobState.RUNNING, JobState.CANCELLING)
_ENDS = (WorkStopped, WorkFailed)
#: What the worker of each kind of job may report beside its end.
_OF_KIND: dict[str, tuple[type[Report], ...]] = {
    TRAINING: (
        TrainingProgressed,
        SamplesGenerated,
        CheckpointSaved,
        TrainingWarned,
        ModelExported,
        *_ENDS,
    ),
    DATASET: (DatasetValidated, *_ENDS),
    GENERATION: (SamplesMade, *_ENDS),
}
#: What an integer column holds.
_GREATEST = 2**31 - 1


class WorkTally(msgspec.Struct, kw_only=True):
    """A job's row as it was locked, changed by each report that counts."""

    id: UUID
    user_id: UUID
    kind: str
    attempt: int
    state: JobState
    last_seq: int
    #: Of the newest report of this attempt that is counted.
    last_number: int
    #: The data set that this job looks at, if it does and that is still there.
    dataset_id: UUID | None = None
    error_code: str | None = None
    error_message: str | None = None
    #: CPU or device seconds of the reports that counted.
    compute_s: float = 0.0
    #: How many reports had each outcome.
    outcomes: Counter[Outcome] = msgspec.field(default_factory=Counter)
    #: Rows the history gains, in order.
    events: list[NewEvent] = msgspec.field(default_factory=list)
    #: The newest of each.
    progress: ProgressMade | None = None
    checkpoint: Checkpoint | None = None
    #: What the job has made; of a data set also why there is nothing.
    model: ModelExported | None = None
    dataset: DatasetValidated | None = None
    samples: SamplesMade | None = None

    def apply(self, report: Report) -> Outcome:
        """Take one report in, and say what became of it."""
        outcome = self._judge(report)
        if outcome == "counted":
            self.last_number = report.number
            self.compute_s += _sensible(report.compute_s)
            self._count(report)
        self.outcomes[outcome] += 1
        return outcome

    def _judge(self, report: Report) -> Outcome:
        if report.attempt != self.attempt:
            return "stale"
        if report.number <= self.last_number:
            return "duplicate"
        if self.state not in _OPEN:
            return "late"
        return "counted" if report.number == self.last_number + 1 else "early"

    def _count(self, report: Report) -> None:
        if not isinstance(report, _OF_KIND.get(self.kind, ())) or not self._is_of_this_job(report):
            # Dropping it would leave a gap that every later report waits behind.
            name = type(report).__name__
            self._fail("INTERNAL", f"The worker sent a report that is none of this job: {name}.")
            return
        match report:
            case TrainingProgressed():
                self.progress = _progress(report)
                self._add(self.progress)
            case CheckpointSaved():
                self.checkpoint = report.checkpoint
                self._add(CheckpointKept(step=report.checkpoint.step))
            case SamplesGenerated() | TrainingWarned():
                self._add(_shown(report))
            case ModelExported() | DatasetValidated() | SamplesMade():
                self._succeed(report)
            case WorkStopped():
                self._stop("The worker has stopped.")
            case WorkFailed():
                self._give_up(report)

    def _succeed(self, report: ModelExported | DatasetValidated | SamplesMade) -> None:
        if self.state == JobState.CANCELLING:
            # Whoever cancels and is told so never sees the job succeed.
            self._stop(None)
            return
        match report:
            case ModelExported():
                self.model = report
                self._add(ModelMade(model_id=UUID(report.model_id)))
            case DatasetValidated():
                self.dataset = report
            case SamplesMade():
                self.samples = report
        self._enter(JobState.SUCCEEDED)

    def _is_of_this_job(self, report: Report) -> bool:
        """Whether what it names lies where this job's things do: it is read for the job's owner."""
        match report:
            case SamplesGenerated():
                return report.object_key.startswith(f"jobs/{self.id}/")
            case CheckpointSaved():
                return report.checkpoint.stored.prefix.startswith(f"jobs/{self.id}/")
            case ModelExported():
                model_id = str(model_id_of(self.id, self.attempt))
                return (report.model_id, report.stored.prefix) == (model_id, f"models/{model_id}")
            case DatasetValidated():
                if report.dataset is None or self.dataset_id is None:
                    return True
                place = (report.dataset.dataset_id, report.dataset.stored.prefix)
                return place == (str(self.dataset_id), f"datasets/{self.dataset_id}")
            case SamplesMade():
                return report.stored.prefix == f"generated/{self.id}"
            case _:
                return True

    def _stop(self, reason: str | None) -> None:
        self._enter(JobState.CANCELLED, reason)
        self._leave_dataset(LOOK_CANCELLED)

    def _give_up(self, report: WorkFailed) -> None:
        if self.state == JobState.CANCELLING:
            self._stop("The worker has stopped.")
            return
        where = "" if report.row is None else f"Row {report.row}: "
        self._fail(report.code, " ".join(filter(None, (f"{where}{report.message}", report.advice))))
        if self.kind == DATASET:
            self.dataset = unusable_after(report)

    def _fail(self, code: str, message: str) -> None:
        if self.state == JobState.CANCELLING:
            self._stop("The worker has stopped.")
            return
        self.error_code = known_code(code).value
        self.error_message = storable(message)
        self._enter(JobState.FAILED, self.error_message)
        self._leave_dataset(message)

    def _leave_dataset(self, reason: str) -> None:
        if self.kind == DATASET:
            self.dataset = unusable(str(self.id), self.attempt, reason)

    def _enter(self, state: JobState, reason: str | None = None) -> None:
        self.state = state
        self._add(StateChanged(state=state, reason=reason))

    def _add(self, payload: Payload) -> None:
        self.events.append(NewEvent(payload=payload))


def _progress(report: TrainingProgressed) -> ProgressMade:
    eta_s = report.eta_s
    return ProgressMade(
        step=_fitting(report.step),
        total_steps=_fitting(report.total_steps),
        epoch=_fitting(report.epoch),
        # What can't be drawn, and is no JSON.
        metrics={name: value for name, value in report.metrics.items() if math.isfinite(value)},
        eta_s=None if eta_s is None or not math.isfinite(eta_s) else max(0.0, eta_s),
        device=storable(report.device),
    )


def _shown(report: SamplesGenerated | TrainingWarned) -> SamplesShown | WarningGiven:
    if isinstance(report, TrainingWarned):
        return WarningGiven(step=_fitting(report.step), code=report.code, message=report.message)
    return SamplesShown(
        step=_fitting(report.step),
        name=report.name,
        media_type=report.media_type,
        object_key=report.object_key,
        byte_size=report.byte_size,
    )


def _sensible(seconds: float) -> float:
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _fitting(number: int) -> int:
    return max(0, min(number, _GREATEST))
