"""What nats-server and nats-py do that a worker loop can trip over, and what holds for us instead.

The list was made by trying nats-server 2.15 with nats-py 2.16. ``HELD_BY`` names for each behaviour that
concerns us the tests that fail when it bites; those that no other file holds are below.
"""

import ast
from pathlib import Path

import pytest

from bus import client, topology
from bus.client import NatsBus
from bus.delivery import MESSAGE_ID
from bus.jetstream import read_publish_ack
from bus.topology import JOBS, Limits, Topology
from tests.bus.contract_bus import fetch_one, job, numbers_of, subject_of

ROOT = Path(__file__).parents[2]

#: Behaviour by number: what happens, and by which tests it is held.
HELD_BY: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "a request has half a second unless told otherwise",
        ("test_no_request_goes_without_a_deadline", "test_an_answer_that_takes_too_long_is_none"),
    ),
    2: ("futures of publish_async never resolve after a crash", ("test_publish_async_is_used_nowhere",)),
    3: (
        "publish_async into a full stream never completes",
        (
            "test_publish_async_is_used_nowhere",
            "test_a_full_stream_says_so_and_takes_again_after_an_ack",
            "test_a_full_stream_is_busy_at_once_and_takes_again_when_there_is_room",
        ),
    ),
    4: (
        "a publish that timed out may be stored all the same",
        (
            "test_a_publish_outlasts_a_restart_and_is_stored_once",
            "test_a_stream_without_a_leader_is_asked_again_under_the_same_message_id",
        ),
    ),
    5: (
        "the first acknowledgement has no field duplicate",
        ("test_an_acknowledgement_without_the_field_is_no_duplicate", "test_a_message_id_is_stored_once"),
    ),
    6: ("publish writes into the caller's headers", ("test_the_headers_of_a_caller_stay_as_they_are",)),
    7: (
        "a deleted consumer looks like one without work",
        (
            "test_a_consumer_deleted_under_a_fetch_is_named",
            "test_a_missing_consumer_is_named_and_found_when_it_is_there",
            "test_a_stream_that_a_restart_has_emptied_out_is_named_until_it_is_applied_again",
        ),
    ),
    8: (
        "a cancelled fetch strands the next job",
        (
            "test_a_cancelled_fetch_strands_nothing",
            "test_a_fetch_that_is_cancelled_when_its_work_arrives_hands_it_back",
            "test_work_that_arrives_while_a_puller_closes_is_handed_back",
        ),
    ),
    9: (
        "missed heartbeats are not noticed early",
        ("test_a_server_that_falls_silent_under_a_fetch_is_noticed_long_before_the_pull_would_end",),
    ),
    10: ("a fetch sleeps through a restart", ("test_a_waiting_fetch_outlasts_a_restart",)),
    11: (
        "a connection is given up after a while, and a first one at once",
        (
            "test_reconnecting_has_no_limit",
            "test_a_connection_that_nats_py_has_given_up_is_opened_again",
            "test_connecting_waits_for_a_server_that_starts",
        ),
    ),
    12: (
        "a slow consumer loses messages silently",
        ("test_a_follower_that_cannot_keep_up_loses_messages_and_that_is_counted",),
    ),
    13: ("drain waits for running handlers", ("test_closing_waits_for_a_handler_that_runs",)),
    14: (
        "max_ack_pending counts a consumer, not a worker",
        ("test_one_workers_unfinished_work_does_not_keep_another_from_its_own",),
    ),
    15: (
        "the ack wait is how long a dead worker goes unnoticed",
        (
            "test_a_dead_worker_goes_unnoticed_for_twelve_seconds_at_most",
            "test_what_is_not_settled_comes_back_after_the_ack_wait",
        ),
    ),
    16: (
        "delays and extensions of a lease work",
        (
            "test_a_nak_with_a_delay_brings_it_back_after_the_delay",
            "test_in_progress_asks_for_another_ack_wait",
        ),
    ),
    17: (
        "what was delivered too often stays in the work queue, hidden",
        ("test_only_a_consumer_whose_dead_letters_are_moved_has_a_limit_of_deliveries",),
    ),
    18: (
        "a stale worker's acknowledgement counts",
        (
            "test_a_late_ack_of_an_earlier_delivery_does_no_harm",
            "test_a_worker_that_was_overtaken_is_not_believed",
        ),
    ),
}
#: Fences in the bus, schedules and priorities of pulls: the fence is the attempt in the database, pauses
#: are naks, and a worker's lanes have a weight in its own window.
DOES_NOT_CONCERN_US = {19, 20, 21}


def _tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_behaviour_is_held_by_tests_that_exist() -> None:
    assert set(range(1, 22)) == set(HELD_BY) | DOES_NOT_CONCERN_US
    named = {test for _, tests in HELD_BY.values() for test in tests}
    assert set() == named - _tests()


def test_publish_async_is_used_nowhere() -> None:
    """Behaviours 2 and 3."""
    used = [
        path.name
        for room in ("bus", "server", "workers", "deploy")
        for path in (ROOT / room).rglob("*.py")
        if "publish_async" in path.read_text()
    ]
    assert [] == used


async def test_no_request_goes_without_a_deadline(nats_bus: NatsBus) -> None:
    """Behaviour 1: it has to be said, so nobody falls back on a default."""
    with pytest.raises(TypeError, match="timeout_s"):
        await nats_bus._connection.request("nobody.there", b"")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"stream":"JOBS","seq":1}', False),
        (b'{"stream":"JOBS","seq":1,"duplicate":true}', True),
    ],
)
def test_an_acknowledgement_without_the_field_is_no_duplicate(raw: bytes, expected: bool) -> None:
    """Behaviour 5."""
    assert expected is read_publish_ack(raw).duplicate


async def test_the_headers_of_a_caller_stay_as_they_are(nats_bus: NatsBus) -> None:
    """Behaviour 6, where headers are handed to nats-py."""
    headers = {MESSAGE_ID: "one"}

    await nats_bus._connection.request(subject_of(1), b"x", headers=headers, timeout_s=5.0)
    await nats_bus._connection.publish(subject_of(1), b"x", headers=headers)

    assert {MESSAGE_ID: "one"} == headers


async def test_reconnecting_has_no_limit(nats_bus: NatsBus) -> None:
    """Behaviour 11."""
    assert -1 == nats_bus._connection._client.options["max_reconnect_attempts"]


async def test_one_workers_unfinished_work_does_not_keep_another_from_its_own(nats_bus: NatsBus) -> None:
    """Behaviour 14."""
    for number in range(3):
        await nats_bus.publish(subject_of(number), job(number))
    pullers = [nats_bus.puller(topology.embed_bulk("default")) for _ in range(3)]

    held = [await fetch_one(puller) for puller in pullers]

    assert [0, 1, 2] == numbers_of(held)


def test_a_dead_worker_goes_unnoticed_for_twelve_seconds_at_most() -> None:
    """Behaviour 15: a crash is taken over within 20 s, and this is the larger part of it."""
    assert {12.0} == {spec.ack_wait_s for spec in Topology.for_pools(["default"]).consumers}
    assert client.ATTEMPT_S < Limits().ack_wait_s


def test_only_a_consumer_whose_dead_letters_are_moved_has_a_limit_of_deliveries() -> None:
    """Behaviour 17: the mover follows the advisories of JOBS; elsewhere a limit would hide messages."""
    limited = {spec.stream for spec in Topology.for_pools(["default"]).consumers if spec.max_deliver != -1}

    assert {JOBS} == limited
