"""Many who ask the same of an event are answered together, and each by itself where it differs."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import msgspec
import pytest
from graphql import OperationDefinitionNode, parse
from strawberry.types.execution import ExecutionResult

from server.graphql.execution import ApiSchema
from server.graphql.sharing import SharedExecutions, SharedResult, variables_below
from tests.server.graphql.test_accounts import REVOKE_KEY, create_key
from tests.server.graphql.test_training import FOLLOW
from tests.support.graphql import GraphQLClient, closed_with, hear, say
from tests.support.trained import TrainWorker, make_dataset, plain, start_training
from tests.support.training_jobs import Reports


class Happened(msgspec.Struct, frozen=True):
    """An event."""

    number: int

    def identity(self) -> int:
        """Return what no other event has."""
        return self.number


class Finder:
    """Finds answers, and counts how often it had to."""

    def __init__(self) -> None:
        self.count = 0
        self.began = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def find(self) -> ExecutionResult:
        """Find an answer."""
        self.count += 1
        self.began.set()
        await self.gate.wait()
        return SharedResult(data={"number": self.count}, errors=None)


async def test_those_who_ask_the_same_share_an_answer() -> None:
    shared, finder = SharedExecutions(), Finder()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(shared.joined("q"))
        answers = [await shared.answer("q", Happened(1), finder.find) for _ in range(3)]
        other = await shared.answer("q", Happened(2), finder.find)

    assert (answers[0], answers[0]) == (answers[1], answers[2])
    assert {"number": 2} == other.data


async def test_who_is_alone_or_asks_something_else_has_an_answer_of_its_own() -> None:
    shared, finder = SharedExecutions(), Finder()
    with shared.joined("a"), shared.joined("b"):
        for question in ("a", "a", "b"):
            await shared.answer(question, Happened(1), finder.find)

    assert 3 == finder.count


async def test_an_answer_is_shared_while_it_is_fresh_and_no_longer() -> None:
    shared, finder = SharedExecutions(fresh_s=-1.0), Finder()
    with shared.joined("q"), shared.joined("q"):
        for _ in range(2):
            await shared.answer("q", Happened(1), finder.find)

    assert 2 == finder.count


async def test_who_asks_first_may_leave_first() -> None:
    shared, finder = SharedExecutions(), Finder()
    finder.gate.clear()
    with shared.joined("q"), shared.joined("q"):
        first = asyncio.create_task(shared.answer("q", Happened(1), finder.find))
        second = asyncio.create_task(shared.answer("q", Happened(1), finder.find))
        await finder.began.wait()
        first.cancel()
        finder.gate.set()

        assert {"number": 1} == (await second).data
    assert first.cancelled()


async def test_what_is_remembered_is_bounded() -> None:
    shared, finder = SharedExecutions(max_results=5), Finder()
    with shared.joined("q"), shared.joined("q"):
        for number in range(50):
            await shared.answer("q", Happened(number), finder.find)

    assert 5 == len(shared._results)
    assert not shared._subscribers


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ("subscription($a: ID!, $b: String) { trainingEvents(jobId: $a, after: $b) { __typename } }", set()),
        ("subscription($a: ID!) { trainingEvents(jobId: $a) { ... @include(if: $c) { a } } }", {"c"}),
        (
            "subscription($a: ID!) { trainingEvents(jobId: $a) @skip(if: $d) { b(c: [{ e: $f }]) } }",
            {"d", "f"},
        ),
        ("subscription { ...S } fragment S on Subscription { trainingEvents(jobId: $a) { b } }", {"a"}),
        ("subscription { ... { trainingEvents(jobId: $a) { b } } }", {"a"}),
    ],
)
def test_variables_that_only_choose_the_events_are_no_part_of_the_question(
    document: str, names: set[str]
) -> None:
    parsed = parse(document)
    operation = parsed.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)

    assert names == variables_below(parsed, operation)


@pytest.fixture
def num_executions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the results that events have come to."""
    made: list[int] = []
    real: Callable[..., Any] = ApiSchema._result

    def counted(self: ApiSchema, result: Any) -> ExecutionResult:  # noqa: ANN401 - what it wraps
        made.append(1)
        return real(self, result)  # type: ignore[no-any-return]

    monkeypatch.setattr(ApiSchema, "_result", counted)
    return made


async def test_an_event_is_found_once_for_many_sockets_and_each_sees_all_of_them(
    ada: GraphQLClient, trainer: TrainWorker, num_executions: list[int]
) -> None:
    job_id = await start_training(ada, await make_dataset(ada, trainer))
    payload = {"query": FOLLOW, "variables": {"id": job_id}}

    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(ada.socket()) for _ in range(8)]
        for socket in sockets:
            await say(socket, type="subscribe", id="1", payload=payload)
            await hear(socket)
        num_executions.clear()
        await trainer.train(plain(job_id))
        seen = [await everything(socket) for socket in sockets]
        num_made = len(num_executions)
        late = await stack.enter_async_context(ada.socket())
        await say(late, type="subscribe", id="1", payload=payload)
        first, *rest = await everything(late)

    assert 8 == len(seen[0])
    assert [seen[0]] * 8 == seen
    # The queries that asked for the training's state on the way count, too.
    assert 8 <= num_made < 16
    assert seen[0] == rest
    assert "QUEUED" == first["state"]


async def everything(socket: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - websockets' own
    """Return the rest of a subscription's events."""
    events = []
    while (message := await hear(socket))["type"] != "complete":
        events.append(message["payload"]["data"]["trainingEvents"])
    return events


async def test_the_end_of_one_key_takes_nothing_from_the_others_who_ask_the_same(
    ada: GraphQLClient, trainer: TrainWorker
) -> None:
    job_id = await start_training(ada, await make_dataset(ada, trainer))
    payload = {"query": FOLLOW, "variables": {"id": job_id}}
    keys = [await create_key(ada, "TRAIN") for _ in range(3)]

    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(key.socket()) for _, key in keys]
        for socket in sockets:
            await say(socket, type="subscribe", id="1", payload=payload)
            await hear(socket)
        claimed = await trainer.lane.claim(plain(job_id))
        reports = Reports.of(claimed)
        await trainer.lane.publish(reports.progress(1))
        for socket in sockets:
            assert "RUNNING" == (await hear(socket))["payload"]["data"]["trainingEvents"]["state"]
            assert 1 == (await hear(socket))["payload"]["data"]["trainingEvents"]["step"]

        await ada.data(REVOKE_KEY, id=keys[0][0])
        assert 4403 == (await closed_with(sockets[0]))[0]
        await trainer.lane.publish(reports.progress(2))

        for socket in sockets[1:]:
            assert 2 == (await hear(socket))["payload"]["data"]["trainingEvents"]["step"]


async def test_one_who_reads_nothing_holds_up_nobody(ada: GraphQLClient, trainer: TrainWorker) -> None:
    job_id = await start_training(ada, await make_dataset(ada, trainer))
    payload = {"query": FOLLOW, "variables": {"id": job_id}}

    async with ada.socket(max_queue=1) as stuck, ada.socket() as reading:
        for socket in (stuck, reading):
            await say(socket, type="subscribe", id="1", payload=payload)
        claimed = await trainer.lane.claim(plain(job_id))
        reports = Reports.of(claimed)
        for number in range(1, 200):
            await trainer.lane.publish(reports.progress(number, **{f"metric_{at}": 0.5 for at in range(200)}))
        steps = []
        while len(steps) < 199:
            event = (await hear(reading))["payload"]["data"]["trainingEvents"]
            if event["__typename"] == "TrainingProgressed":
                steps.append(event["step"])

    assert list(range(1, 200)) == steps
