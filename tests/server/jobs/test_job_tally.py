"""What reports make of a job, without a database."""

from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import ItemError, ItemsEmbedded, JobAttemptFailed
from server.job_payloads import ChunkEmbedded, StateChanged
from server.job_tally import JobTally, Report
from server.records import JobState

ATTEMPT = 2
ITEM_COUNT = 7
CHUNK_SIZE = 3
LAST_CHUNK = 2


def _tally() -> JobTally:
    return JobTally(
        id=uuid4(),
        user_id=uuid4(),
        attempt=ATTEMPT,
        state=JobState.RUNNING,
        last_seq=3,
        item_count=ITEM_COUNT,
        chunk_size=CHUNK_SIZE,
        dimension=4,
        completed_count=0,
        failed_count=0,
    )


def _chunk(chunk: int, *, attempt: int = ATTEMPT, failed: tuple[int, ...] = ()) -> ItemsEmbedded:
    first = chunk * CHUNK_SIZE
    count = min(CHUNK_SIZE, ITEM_COUNT - first)
    return ItemsEmbedded(
        job_id="job",
        attempt=attempt,
        chunk=chunk,
        first_index=first,
        count=count,
        dimension=4,
        vectors_key=f"{attempt}/{chunk}",
        truncated=[False] * count,
        failures=[ItemError(index=index, code="INVALID_INPUT", message="It is bad.") for index in failed],
    )


def _apply(reports: list[Report]) -> JobTally:
    tally = _tally()
    done: set[str] = set()
    for report in reports:
        tally.apply(report, done)
    return tally


@given(
    st.lists(
        st.builds(_chunk, st.integers(0, LAST_CHUNK), attempt=st.sampled_from([1, ATTEMPT, ATTEMPT, 3])),
        max_size=30,
    )
)
def test_each_chunk_of_the_current_attempt_counts_once_in_any_order_and_number(
    reports: list[ItemsEmbedded],
) -> None:
    tally = _apply(list(reports))

    current = {report.chunk for report in reports if report.attempt == ATTEMPT}
    keys = [event.item_key for event in tally.events if event.item_key is not None]
    assert sorted(f"chunk:{chunk}" for chunk in current) == sorted(keys)
    assert sum(_chunk(chunk).count for chunk in current) == tally.completed_count
    assert (len(current) == LAST_CHUNK + 1) == (tally.state == JobState.SUCCEEDED)
    assert len(reports) == tally.outcomes.total()


def test_the_job_succeeds_with_its_last_item_counted_failed_or_not() -> None:
    tally = _apply([_chunk(2, failed=(6,)), _chunk(0), _chunk(1, failed=(3, 5))])

    assert (4, 3) == (tally.completed_count, tally.failed_count)
    assert StateChanged(state=JobState.SUCCEEDED) == tally.events[-1].payload
    assert isinstance(tally.events[0].payload, ChunkEmbedded)


def test_an_attempt_that_gives_up_fails_the_job_and_what_comes_later_is_late() -> None:
    gave_up = JobAttemptFailed(
        job_id="job", attempt=ATTEMPT, code="PIPELINE_UNAVAILABLE", message="No\0model."
    )
    tally = _apply([_chunk(0), gave_up, _chunk(1), gave_up])

    assert JobState.FAILED == tally.state
    assert ("PIPELINE_UNAVAILABLE", "No\N{REPLACEMENT CHARACTER}model.") == (
        tally.error_code,
        tally.error_message,
    )
    assert {"counted": 2, "late": 2} == tally.outcomes
    assert StateChanged(state=JobState.FAILED, reason=tally.error_message) == tally.events[-1].payload


def test_an_attempt_that_was_overtaken_cannot_fail_the_job() -> None:
    tally = _apply([JobAttemptFailed(job_id="job", attempt=1, code="INTERNAL", message="I was slow.")])

    assert JobState.RUNNING == tally.state
    assert {"stale": 1} == tally.outcomes


def test_a_code_that_this_release_does_not_know_becomes_internal() -> None:
    tally = _apply([JobAttemptFailed(job_id="job", attempt=ATTEMPT, code="OUT_OF_LUCK", message="?")])

    assert "INTERNAL" == tally.error_code


@pytest.mark.parametrize(
    "change",
    [
        {"chunk": 3, "first_index": 9},
        {"chunk": -1, "first_index": -3},
        {"first_index": 1},
        {"count": 2},
        {"dimension": 5},
        {"failures": [ItemError(index=3, code="INTERNAL", message="")]},
        {"failures": [ItemError(index=1, code="INTERNAL", message="")] * 2},
    ],
)
def test_a_chunk_that_is_none_of_the_job_fails_it_rather_than_corrupt_it(change: dict[str, object]) -> None:
    tally = _apply([msgspec.structs.replace(_chunk(0), **change)])

    assert (JobState.FAILED, "INTERNAL") == (tally.state, tally.error_code)
    assert (0, 0) == (tally.completed_count, tally.failed_count)
