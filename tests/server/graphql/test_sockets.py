"""graphql-transport-ws: the protocol's states, its close codes, and peers that misbehave."""

import asyncio
import json
from typing import Any

import pytest
import websockets

from server.graphql.config import GraphQLConfig
from tests.support.graphql import PROTOCOL, GraphQLClient, closed_with, hear, say

VIEWER = {"query": "{ viewer { id } }"}
NOBODY = {"data": {"viewer": None}}


@pytest.fixture
def graphql_config() -> GraphQLConfig:
    """Intervals short enough to wait for."""
    return GraphQLConfig(
        operations_per_socket=3,
        max_message_bytes=100_000,
        init_timeout_s=0.3,
        ping_interval_s=0.2,
        pong_timeout_s=0.2,
        allowed_origins=frozenset({"https://friend.example"}),
    )


async def test_a_query_is_answered_and_complete(shell: GraphQLClient) -> None:
    async with shell.socket() as socket:
        await say(socket, type="subscribe", id="1", payload=VIEWER)

        assert {"type": "next", "id": "1", "payload": NOBODY} == await hear(socket)
        assert {"type": "complete", "id": "1"} == await hear(socket)

        await say(socket, type="subscribe", id="1", payload=VIEWER)
        assert "next" == (await hear(socket))["type"]


async def test_a_ping_is_answered_before_and_after_the_beginning(shell: GraphQLClient) -> None:
    async with shell.raw_socket() as socket:
        await say(socket, type="ping", payload={"a": 1})
        assert {"type": "pong"} == await hear(socket)
        await say(socket, type="connection_init")
        assert {"type": "connection_ack"} == await hear(socket)
        await say(socket, type="ping")
        assert {"type": "pong"} == await hear(socket)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"query": "{ viewer { id }"}, "Syntax Error"),
        ({"query": ""}, "no query"),
        ({"query": "{ nothing }"}, "nothing"),
        ({"query": "query A { viewer { id } }", "operationName": "B"}, "operationName"),
        ({"query": "query A { viewer { id } } query B { viewer { id } }"}, "operationName"),
        ({"query": "query($a: Int!) { pipelines(first: $a) { totalCount } }"}, "$a"),
        ({"query": "{ " + "__typename " * 401 + "}"}, "fields"),
        ({"query": "a" * 50_000}, "characters"),
    ],
)
async def test_an_operation_that_can_not_run_is_answered_with_an_error_of_its_own(
    shell: GraphQLClient, payload: dict[str, Any], said: str
) -> None:
    async with shell.socket() as socket:
        await say(socket, type="subscribe", id="bad", payload=payload)
        await say(socket, type="subscribe", id="good", payload=VIEWER)

        refused = await hear(socket)
        answers = [await hear(socket), await hear(socket)]

    assert ("error", "bad") == (refused["type"], refused["id"])
    assert said in refused["payload"][0]["message"]
    assert refused["payload"][0]["extensions"]["code"] in ("INVALID_INPUT", "QUERY_LIMIT")
    assert [("next", "good"), ("complete", "good")] == [(answer["type"], answer["id"]) for answer in answers]


MALFORMED: list[Any] = [
    1,
    "x",
    None,
    [],
    [{"type": "ping"}],
    {},
    {"type": 5},
    {"type": "start"},
    {"type": "ping", "payload": 1},
    {"type": "connection_init", "payload": "x"},
    {"type": "connection_init", "payload": [1]},
    {"type": "subscribe"},
    {"type": "subscribe", "id": 5, "payload": VIEWER},
    {"type": "subscribe", "id": {}, "payload": VIEWER},
    {"type": "subscribe", "id": "", "payload": VIEWER},
    {"type": "subscribe", "id": "a" * 101, "payload": VIEWER},
    {"type": "subscribe", "id": "1", "payload": "x"},
    {"type": "subscribe", "id": "1", "payload": {}},
    {"type": "subscribe", "id": "1", "payload": {"query": 5}},
    {"type": "subscribe", "id": "1", "payload": {**VIEWER, "variables": []}},
    {"type": "subscribe", "id": "1", "payload": {**VIEWER, "operationName": 5}},
    {"type": "complete", "id": 5},
    {"type": "complete"},
]


async def test_a_malformed_message_closes_the_socket(shell: GraphQLClient) -> None:
    texts = [json.dumps(message) for message in MALFORMED]
    for text in [*texts, "", "{", "NaN", "[" * 90_000, '"\\ud800"', b"{}"]:
        async with shell.raw_socket() as socket:
            await socket.send(text)
            code, reason = await closed_with(socket)
        assert 4400 == code, text[:50]
        assert reason


async def test_half_a_surrogate_pair_in_a_variable_is_left_to_its_field(shell: GraphQLClient) -> None:
    payload = {
        "query": "mutation($e: VectorEncoding) { embed(input: { encoding: $e }) { __typename } }",
        "variables": {"e": "\ud800", "\ud801": 1},
    }

    async with shell.socket() as socket:
        await say(socket, type="subscribe", id="1", payload=payload)
        refused = await hear(socket)

    assert "error" == refused["type"]
    assert ["e"] == refused["payload"][0]["extensions"]["path"]


async def test_a_message_over_the_limit_closes_the_socket(shell: GraphQLClient) -> None:
    async with shell.socket() as socket:
        await say(socket, type="ping", payload={"a": "a" * 5_000_000})

        assert 1009 == (await closed_with(socket))[0]


async def test_an_operation_before_the_beginning_closes_the_socket(shell: GraphQLClient) -> None:
    async with shell.raw_socket() as socket:
        await say(socket, type="subscribe", id="1", payload=VIEWER)

        assert (4401, "Unauthorized") == await closed_with(socket)


async def test_a_second_beginning_closes_the_socket(shell: GraphQLClient) -> None:
    async with shell.socket() as socket:
        await say(socket, type="connection_init")

        assert (4429, "Too many initialisation requests") == await closed_with(socket)


async def test_silence_before_the_beginning_closes_the_socket(shell: GraphQLClient) -> None:
    async with shell.raw_socket() as socket:
        assert (4408, "Connection initialisation timeout") == await closed_with(socket)


async def test_an_authorization_that_is_no_bearer_token_closes_the_socket(shell: GraphQLClient) -> None:
    for authorization in (5, "Basic abc", "", {"a": 1}):
        async with shell.raw_socket() as socket:
            await say(socket, type="connection_init", payload={"authorization": authorization})

            assert (4403, "Forbidden") == await closed_with(socket)


async def test_a_peer_that_answers_no_ping_is_given_up(shell: GraphQLClient) -> None:
    async with shell.socket() as socket:
        assert (4408, "Pong timeout") == await closed_with(socket)


async def test_a_peer_that_answers_pings_is_kept(shell: GraphQLClient) -> None:
    async with shell.socket() as socket:
        for _ in range(4):
            async with asyncio.timeout(5):
                assert {"type": "ping"} == json.loads(await socket.recv())
            await say(socket, type="pong")
        await say(socket, type="subscribe", id="1", payload=VIEWER)

        assert "next" == (await hear(socket))["type"]


async def test_the_legacy_protocol_and_unknown_ones_are_not_spoken(shell: GraphQLClient) -> None:
    url = shell.url.replace("http://", "ws://") + "/graphql"

    for protocols in (["graphql-ws"], ["chat"], None):
        async with websockets.connect(url, subprotocols=protocols) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol is None
            assert 4406 == (await closed_with(socket))[0]


async def test_pages_of_other_origins_open_no_sockets(shell: GraphQLClient) -> None:
    own = shell.url
    for origin in (
        "https://evil.example",
        "null",
        own.replace("http:", "https:") + ".evil.example",
        own + "1",
    ):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with shell.raw_socket(origin=origin):
                pass
        assert 403 == refused.value.response.status_code

    for origin in (own, "https://friend.example"):
        async with shell.socket(origin=origin) as socket:
            assert PROTOCOL == socket.subprotocol


async def test_a_peer_that_leaves_in_the_middle_leaves_nothing_behind(shell: GraphQLClient) -> None:
    for _ in range(5):
        async with shell.socket() as socket:
            for number in range(3):
                await say(socket, type="subscribe", id=str(number), payload=VIEWER)
            socket.transport.abort()

    assert NOBODY == await shell.send("{ viewer { id } }")
    assert [] == [task for task in asyncio.all_tasks() if task.get_name() == "socket operation"]
