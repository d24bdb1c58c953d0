"""A bug is answered with an id and nothing else of it."""

import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError, located_error

from server.errors import Busy, ErrorCode, InvalidInput
from server.graphql.config import GraphQLConfig
from server.graphql.errors import public_errors
from server.graphql.execution import ApiSchema
from server.graphql.scalars import Long, scalar_map
from server.graphql.types.errors import InvalidInput as InvalidInputType
from server.graphql.types.errors import refusal_handlers

SECRET = "the password of the database"


@strawberry.type
class Done:
    """A payload."""

    ok: bool


@strawberry.type
class Query:
    """Fields that fail in every way."""

    @strawberry.field
    def bug(self) -> str | None:
        """Fail."""
        raise RuntimeError(SECRET)

    @strawberry.field
    async def wrong_type(self) -> int | None:
        """Answer what is no number."""
        return SECRET  # type: ignore[return-value]

    @strawberry.field
    async def missing(self) -> str:
        """Answer nothing where something is promised."""
        return None  # type: ignore[return-value]

    @strawberry.field
    async def refuse(self) -> str | None:
        """Refuse as a service would."""
        raise Busy("All places are taken.", path=("file_ids", "3"), retry_after_s=2.5)

    @strawberry.field
    async def long(self, value: Long) -> Long:
        """Return a number."""
        return value


@strawberry.type
class Mutation:
    """Mutations that fail."""

    @strawberry.mutation
    async def bug(self) -> Done | InvalidInputType:
        """Fail."""
        raise RuntimeError(SECRET)

    @strawberry.mutation
    async def refuse(self) -> Done | InvalidInputType:
        """Refuse with what the union names."""
        raise InvalidInput("Not this.", path=("file_ids", "3"))

    @strawberry.mutation
    async def refuse_otherwise(self) -> Done | InvalidInputType:
        """Refuse with what the union does not name."""
        raise Busy("All places are taken.")


@strawberry.type
class Subscription:
    """A stream that fails in its middle."""

    @strawberry.subscription
    async def numbers(self) -> AsyncGenerator[int, None]:
        """Count to one, then fail."""
        yield 1
        raise RuntimeError(SECRET)


@pytest.fixture(scope="module")
def schema() -> ApiSchema:
    """A schema of faults."""
    return ApiSchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=strawberry.schema.config.StrawberryConfig(scalar_map=scalar_map()),
        exception_handlers=refusal_handlers(),
    ).configure(GraphQLConfig())


@pytest.mark.parametrize(
    "query", ["{ bug }", "{ wrongType }", "{ missing }", "mutation { bug { __typename } }"]
)
async def test_a_bugs_text_never_leaves(
    schema: ApiSchema, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        result = await schema.execute(query)

    [error] = result.errors or []
    incident = error.extensions["id"]
    assert {"code": "INTERNAL", "id": incident} == error.extensions
    assert SECRET not in str(error.formatted)
    assert "missing" not in error.message
    assert incident in caplog.text


async def test_a_bug_in_a_stream_ends_it_with_an_error(schema: ApiSchema) -> None:
    results = [result async for result in await schema.stream("subscription { numbers }")]

    assert [{"numbers": 1}, None] == [result.data for result in results]
    [error] = results[1].errors or []
    assert "INTERNAL" == error.extensions["code"]
    assert SECRET not in str(error.formatted)


async def test_a_services_refusal_says_all_it_knows(schema: ApiSchema) -> None:
    result = await schema.execute("{ refuse }")

    [error] = result.errors or []
    assert "All places are taken." == error.message
    assert ["refuse"] == error.path
    assert {"code": "BUSY", "path": ["fileIds", "3"], "retryAfterSeconds": 2.5} == error.extensions


async def test_a_mutations_refusal_is_data_where_its_union_names_it(schema: ApiSchema) -> None:
    selection = "{ __typename ... on InvalidInput { code message path } }"
    named = await schema.execute(f"mutation {{ refuse {selection} }}")
    other = await schema.execute(f"mutation {{ refuseOtherwise {selection} }}")

    expected = {"__typename": "InvalidInput", "code": "INVALID_INPUT", "message": "Not this."}
    assert {"refuse": {**expected, "path": ["input", "fileIds", "3"]}} == named.data
    assert ["BUSY"] == [error.extensions["code"] for error in other.errors or ()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**53, 2**53),
        (-(2**53), -(2**53)),
        (2**53 + 1, None),
        (1.5, None),
        (True, None),
        ("5", None),
        (None, None),
    ],
)
async def test_a_long_is_a_whole_number_that_json_keeps(schema: ApiSchema, value: Any, expected: Any) -> None:  # noqa: ANN401
    result = await schema.execute("query($v: Long!) { long(value: $v) }", variable_values={"v": value})

    assert expected == (result.data or {}).get("long")
    assert all("INVALID_INPUT" == error.extensions["code"] for error in result.errors or ())


@pytest.mark.parametrize(
    ("literal", "expected"), [("5", 5), ("-5", -5), ("1.5", None), ('"5"', None), ("{}", None)]
)
async def test_a_long_may_stand_in_the_query(schema: ApiSchema, literal: str, expected: int | None) -> None:
    result = await schema.execute(f"{{ long(value: {literal}) }}")

    assert expected == (result.data or {}).get("long")
    assert all("INVALID_INPUT" == error.extensions["code"] for error in result.errors or ())


def test_errors_beyond_the_limit_are_not_told() -> None:
    errors = [located_error(InvalidInput(f"{number}"), path=["a"]) for number in range(20)]

    assert [str(number) for number in range(10)] == [
        error.message for error in public_errors(errors, limit=10)
    ]


def test_every_error_of_ours_has_a_type_or_is_told_on_top_level() -> None:
    paired = {handler.exception_type.code for handler in refusal_handlers()}
    later = {ErrorCode.QUOTA_EXCEEDED, ErrorCode.DATASET_INVALID, ErrorCode.JOB_FINISHED}
    on_top_level = {ErrorCode.UNAUTHENTICATED, ErrorCode.QUERY_LIMIT, ErrorCode.INTERNAL}

    assert set(ErrorCode) == paired | later | on_top_level


def test_an_error_of_graphql_core_about_our_own_answer_is_a_bug() -> None:
    wrong = GraphQLError("Int cannot represent 'secret'", path=["a"], original_error=GraphQLError("secret"))

    assert ["INTERNAL"] == [error.extensions["code"] for error in public_errors([wrong], limit=10)]
