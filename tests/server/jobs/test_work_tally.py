"""What reports make of a job in a lane, without a database."""

import math
from collections.abc import Sequence
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages.work import Report
from server.ids import model_id_of, new_id
from server.job_payloads import CheckpointKept, ModelMade, ProgressMade, StateChanged
from server.lane_rows import DATASET, GENERATION, TRAINING
from server.records import JobState
from server.work_tally import WorkTally
from tests.support.training_jobs import DatasetRow, Reports, unusable_report, validated

ATTEMPT = 2
JOB = UUID("01900000-0000-7000-8000-000000000001")
REPORTS = Reports(JOB, ATTEMPT)
DATASET_ROW = DatasetRow(uuid4(), JOB)
#: Of a training that goes well.
SEQUENCE: list[Report] = [
    REPORTS.progress(1),
    REPORTS.checkpoint(2),
    REPORTS.picture(3),
    REPORTS.warning(4),
    REPORTS.progress(5),
    REPORTS.checkpoint(6),
    REPORTS.model(7),
]


def _tally(kind: str = TRAINING, state: JobState = JobState.RUNNING) -> WorkTally:
    return WorkTally(
        id=JOB,
        user_id=uuid4(),
        kind=kind,
        attempt=ATTEMPT,
        state=state,
        last_seq=3,
        last_number=0,
        dataset_id=DATASET_ROW.id if kind == DATASET else None,
    )


def _apply(tally: WorkTally, reports: Sequence[Report]) -> WorkTally:
    for report in reports:
        tally.apply(report)
    return tally


def _kept(tally: WorkTally) -> tuple[object, ...]:
    payloads = [event.payload for event in tally.events]
    return payloads, tally.state, tally.last_number, tally.progress, tally.checkpoint, tally.model


@st.composite
def _deliveries(draw: st.DrawFn) -> list[Report]:
    """All reports at least once, in any order, some again, and some of other attempts between them."""
    again = draw(st.lists(st.sampled_from(SEQUENCE), max_size=10))
    strange = [
        msgspec.structs.replace(report, attempt=draw(st.sampled_from([1, 3])))
        for report in draw(st.lists(st.sampled_from(SEQUENCE), max_size=5))
    ]
    return draw(st.permutations([*SEQUENCE, *again, *strange]))


@given(_deliveries(), st.data())
def test_however_reports_are_cut_repeated_and_turned_the_history_is_the_same(
    deliveries: list[Report], data: st.DataObject
) -> None:
    tally = _tally()
    waiting = deliveries
    while waiting:
        cut = data.draw(st.integers(1, len(waiting)))
        window, waiting = waiting[:cut], waiting[cut:]
        # What is early comes again behind all the rest.
        waiting = waiting + [report for report in window if tally.apply(report) == "early"]

    assert _kept(_apply(_tally(), SEQUENCE)) == _kept(tally)
    assert len(SEQUENCE) == tally.outcomes["counted"]


def test_a_training_that_goes_well_leaves_a_model_and_the_newest_of_all_else() -> None:
    tally = _apply(_tally(), SEQUENCE)

    assert (JobState.SUCCEEDED, 7) == (tally.state, tally.last_number)
    assert tally.progress is not None
    assert tally.checkpoint is not None
    assert (5, 6) == (tally.progress.step, tally.checkpoint.step)
    assert [ModelMade(model_id=model_id_of(JOB, ATTEMPT)), StateChanged(state=JobState.SUCCEEDED)] == [
        event.payload for event in tally.events[-2:]
    ]


def test_a_gap_holds_back_what_comes_after_it_and_nothing_is_counted_twice() -> None:
    tally = _tally()

    outcomes = [
        tally.apply(report)
        for report in (
            SEQUENCE[1],
            SEQUENCE[0],
            SEQUENCE[0],
            SEQUENCE[2],
            msgspec.structs.replace(SEQUENCE[1], attempt=1),
            SEQUENCE[1],
        )
    ]

    assert ["early", "counted", "duplicate", "early", "stale", "counted"] == outcomes
    assert 2 == len(tally.events)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED])
def test_what_comes_after_the_end_is_late(state: JobState) -> None:
    tally = _tally(state=state)

    assert ["late", "late"] == [tally.apply(REPORTS.progress(number)) for number in (1, 5)]
    assert [] == tally.events


@pytest.mark.parametrize("last", [REPORTS.model(3), REPORTS.stopped(3), REPORTS.failed(3)])
def test_a_job_that_is_being_cancelled_ends_cancelled_whatever_its_worker_has_done(last: Report) -> None:
    tally = _apply(_tally(state=JobState.CANCELLING), [REPORTS.progress(1), REPORTS.checkpoint(2), last])

    assert (JobState.CANCELLED, None, None) == (tally.state, tally.model, tally.error_code)
    kinds = [type(event.payload) for event in tally.events]
    # With a checkpoint to go on from.
    assert [ProgressMade, CheckpointKept, StateChanged] == kinds
    assert tally.checkpoint is not None


def test_a_failure_is_told_with_its_row_and_what_to_do() -> None:
    failed = REPORTS.failed(1, message="It is\0no number.", row=17, advice="Remove the row.")
    tally = _apply(_tally(), [failed])

    assert ("INVALID_INPUT", "Row 17: It is\N{REPLACEMENT CHARACTER}no number. Remove the row.") == (
        tally.error_code,
        tally.error_message,
    )
    assert StateChanged(state=JobState.FAILED, reason=tally.error_message) == tally.events[-1].payload
    assert "INTERNAL" == _apply(_tally(), [REPORTS.failed(1, code="OUT_OF_LUCK")]).error_code


def test_numbers_that_are_none_are_left_out() -> None:
    report = REPORTS.progress(1, loss=math.nan, fid=math.inf, accuracy=0.5)
    tally = _apply(_tally(), [msgspec.structs.replace(report, eta_s=-math.inf, step=2**40, epoch=-1)])

    assert tally.progress is not None
    assert {"accuracy": 0.5} == tally.progress.metrics
    assert (None, 2**31 - 1, 0) == (tally.progress.eta_s, tally.progress.step, tally.progress.epoch)


@pytest.mark.parametrize(
    ("kind", "report"),
    [
        (DATASET, REPORTS.progress(1)),
        (GENERATION, REPORTS.model(1)),
        (TRAINING, REPORTS.made(1)),
        (TRAINING, msgspec.structs.replace(REPORTS.model(1), model_id=str(new_id()))),
        (TRAINING, msgspec.structs.replace(REPORTS.picture(1), object_key=f"jobs/{uuid4()}/samples/1.png")),
        (
            TRAINING,
            msgspec.structs.replace(
                REPORTS.checkpoint(1), checkpoint=Reports(new_id()).checkpoint(1).checkpoint
            ),
        ),
        (GENERATION, msgspec.structs.replace(REPORTS.made(1), stored=Reports(new_id()).made(1).stored)),
        (DATASET, validated(DatasetRow(uuid4(), JOB), attempt=ATTEMPT)),
    ],
)
def test_a_report_that_is_none_of_the_job_fails_it_and_shows_its_owner_nothing(
    kind: str, report: Report
) -> None:
    tally = _apply(_tally(kind), [report])

    assert (JobState.FAILED, "INTERNAL") == (tally.state, tally.error_code)
    assert [StateChanged] == [type(event.payload) for event in tally.events]
    assert (None, None) == (tally.model, tally.samples)


def test_a_validation_succeeds_whatever_it_has_found() -> None:
    for report in (validated(DATASET_ROW), unusable_report(DATASET_ROW, "Too few rows.")):
        report = msgspec.structs.replace(report, attempt=ATTEMPT)  # noqa: PLW2901 - of this attempt
        tally = _apply(_tally(DATASET), [report])
        assert (JobState.SUCCEEDED, report) == (tally.state, tally.dataset)


@pytest.mark.parametrize(
    ("state", "report", "issue"),
    [
        (JobState.RUNNING, REPORTS.failed(1, row=4), (4, "The loss is no number.")),
        (JobState.RUNNING, REPORTS.stopped(1), (None, "The look at its rows was cancelled.")),
        (JobState.CANCELLING, REPORTS.failed(1), (None, "The look at its rows was cancelled.")),
    ],
)
def test_a_validation_that_comes_to_nothing_leaves_a_data_set_that_can_not_be_used(
    state: JobState, report: Report, issue: tuple[int | None, str]
) -> None:
    tally = _apply(_tally(DATASET, state), [report])

    assert tally.dataset is not None
    assert (None, [issue]) == (
        tally.dataset.dataset,
        [(one.row, one.message) for one in tally.dataset.issues],
    )


def test_the_models_of_later_attempts_have_greater_ids_and_no_two_the_same() -> None:
    job_id = new_id()

    ids = [model_id_of(job_id, attempt) for attempt in range(1, 200)]

    assert sorted(set(ids)) == ids
    assert {7} == {one.version for one in ids}
    assert ids == [model_id_of(job_id, attempt) for attempt in range(1, 200)]
