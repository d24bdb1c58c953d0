"""Hostile operations cost little. Cost is counted in calls of Python functions, not in time."""

import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import pytest
from graphql import get_introspection_query

from server.graphql.config import GraphQLConfig, QueryLimits
from server.graphql.context import Context
from server.graphql.execution import RequestRefused
from server.graphql.loaders import Loaders
from server.graphql.schema import build_schema
from server.records import Client
from tests.server.graphql.test_limits import doubled_fragments
from tests.support.graphql import no_services

T = TypeVar("T")

#: What reading and refusing a document within the limits on its text may cost: some 15 ms.
MAX_CALLS = 60_000
SCHEMA = build_schema()


class Calls:
    """How many Python functions were called."""

    count = 0

    def see(self, _frame: FrameType, event: str, _argument: object) -> None:
        """Count a call."""
        self.count += event == "call"


@contextmanager
def counted() -> Iterator[Calls]:
    """Count what is called inside."""
    calls = Calls()
    sys.setprofile(calls.see)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def context() -> Context:
    """Nobody's surroundings, in which no service may be touched."""
    services = no_services()
    return Context(
        services=services,
        principal=None,
        client=Client(),
        loaders=Loaders(services, None),
        nodes_left=QueryLimits().nodes,
    )


def many(number: int, part: str) -> str:
    """Repeat a part with its number in it."""
    return " ".join(part.replace("#", str(index)) for index in range(number))


HOSTILE = {
    "fragments that double": doubled_fragments(20),
    "fragments that double beside a large field": doubled_fragments(25) + " query B { viewer { id } }",
    "60 aliases": "{ " + many(60, "a#: viewer { id }") + " }",
    "60 aliases in a fragment": "{ ...F } fragment F on Query { " + many(60, "a#: viewer { id }") + " }",
    "aliases spread over fragments": "{ "
    + many(6, "...F#")
    + " } "
    + many(6, "fragment F# on Query { " + many(10, "a#x: viewer { id }") + " }"),
    "10,000 directives": "{ viewer { id " + "@include(if: true) " * 10_000 + "} }",
    "900 directives": "{ viewer { id " + "@skip(if: true) " * 280 + "} }",
    "unknown directives": "{ viewer { id " + "@a " * 900 + "} }",
    "1,000 fragments": "{ viewer { id } } " + many(1000, "fragment F# on Query { viewer { id } }"),
    "2,000 aliases": "{ " + many(2000, "a#: viewer { id }") + " }",
    "2,000 times one field": "{ " + "viewer { id } " * 2000 + "}",
    "300 times one field": "{ " + "__typename " * 300 + "}",
    "1 MB of comments": "# comment\n" * 100_000 + "{ viewer { id } }",
    "32 kB of comments": "#\n" * 15_000 + "{ viewer { id } }",
    "1 MB in a string": '{ node(id: "' + "a" * 1_000_000 + '") { id } }',
    "deep lists": "{ nodes(ids: " + "[" * 15_000 + "]" * 15_000 + ") { id } }",
    "deep objects": "{ a(b: " + "{a: " * 200 + "1" + "}" * 200 + ") }",
    "deep selections": "{ viewer " * 200 + "}" * 200,
    "quotes without end": '"' * 31_000,
    "200 operations": many(200, "query Q# { viewer { id } }"),
    "60 variables": "query (" + many(60, "$v#: Int") + ") { viewer { id } }",
    "20 mutations": "mutation { " + many(20, "a#: logOut { __typename }") + " }",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_oversized_document_is_refused_for_a_bounded_price(name: str) -> None:
    with counted() as calls:
        result = await SCHEMA.execute(HOSTILE[name], context_value=context())

    assert isinstance(result, RequestRefused)
    assert ["QUERY_LIMIT"] == [error.extensions["code"] for error in result.errors or ()]
    assert calls.count < MAX_CALLS


INVALID = {
    "a block string without end": '"""\\' * 7_000,
    "introspection of introspection": "{ __schema { types "
    + "{ fields { type " * 3
    + "{ name }"
    + "} }" * 3
    + " } }",
    "fragments in a ring": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
    "a fragment of its own": "{ ...A } fragment A on Query { viewer { id } ...A }",
    "as many unknown fields as there may be": "{ " + many(1490, "nothing#") + " }",
    "fields that conflict": "{ " + "a: viewer { id } a: __typename " * 20 + "}",
    "unknown fragments": "{ " + many(1490, "...F#") + " }",
}


@pytest.mark.parametrize("name", INVALID)
async def test_an_invalid_document_is_refused_for_a_bounded_price(name: str) -> None:
    with counted() as calls:
        result = await SCHEMA.execute(INVALID[name], context_value=context())

    assert isinstance(result, RequestRefused)
    assert {"INVALID_INPUT"} == {error.extensions["code"] for error in result.errors or ()}
    # Of 1,490 unknown fields each is looked at.
    assert calls.count < 3 * MAX_CALLS


@pytest.mark.parametrize(
    "document",
    [
        "{ " + "__typename " * 280 + "}",
        "{ " + "viewer { email id createdAt __typename } " * 125 + "}",
        "{ viewer { " + "__typename " * 280 + "} }",
        "{ "
        + many(40, "...F#")
        + " } "
        + many(40, "fragment F# on Query { viewer { id email __typename } }"),
    ],
)
async def test_the_largest_document_there_may_be_has_a_bounded_price(document: str) -> None:
    """The dearest rule compares every pair of fields of one name."""
    with counted() as calls:
        result = await SCHEMA.execute(document, context_value=context())

    assert not isinstance(result, RequestRefused), result.errors
    assert calls.count < 8 * MAX_CALLS


async def test_the_introspection_of_common_tools_is_answered() -> None:
    result = await SCHEMA.execute(get_introspection_query(), context_value=context())

    assert result.errors is None


async def run_counted(awaited: Awaitable[T]) -> tuple[T, int]:
    """Return a result and what it cost."""
    with counted() as calls:
        result = await awaited
    return result, calls.count


async def test_a_known_document_is_neither_parsed_nor_validated_again() -> None:
    schema = build_schema()
    document = "{ viewer { id email createdAt } }"

    _, first = await run_counted(schema.execute(document, context_value=context()))
    _, second = await run_counted(schema.execute(document, context_value=context()))

    assert second * 5 < first


async def test_what_is_remembered_is_bounded_by_tokens() -> None:
    schema = build_schema(GraphQLConfig(cached_tokens=1_000))
    documents = schema._documents

    for number in range(500):
        await schema.execute(f"query Q{number} {{ viewer {{ id }} }}", context_value=context())

    assert 900 < documents._tokens <= 1_000
    assert documents._tokens == sum(known.tokens for known in documents._known.values())
    assert "query Q499 { viewer { id } }" in documents._known
    assert "query Q0 { viewer { id } }" not in documents._known


async def test_a_refused_document_is_not_remembered() -> None:
    schema = build_schema()

    for document in ("{ nothing }", "{", HOSTILE["60 aliases"]):
        await schema.execute(document, context_value=context())

    assert 0 == schema._documents._tokens
