"""GraphQL over HTTP: what is a request, and how it is answered."""

import json
from typing import Any

import pytest

from tests.support.graphql import GraphQLClient

GRAPHQL_JSON = "application/graphql-response+json"
NOBODY = {"data": {"viewer": None}}
#: No reader of JSON takes it in without a limit.
DEEP = "[" * 200_000


async def test_the_type_and_status_of_an_answer_are_those_the_client_knows(shell: GraphQLClient) -> None:
    good, bad = {"query": "{ viewer { id } }"}, {"query": "{ nothing }"}
    expected = [
        (GRAPHQL_JSON, good, 200, GRAPHQL_JSON),
        (GRAPHQL_JSON, bad, 400, GRAPHQL_JSON),
        ("application/json", good, 200, "application/json"),
        ("application/json", bad, 200, "application/json"),
        ("*/*", good, 200, "application/json"),
        ("*/*", bad, 400, "application/json"),
    ]

    for accept, body, status, media_type in expected:
        response = await shell.http.post("/graphql", json=body, headers={"accept": accept})
        assert (status, f"{media_type}; charset=utf-8") == (
            response.status_code,
            response.headers["content-type"],
        ), accept
        assert ("data" in response.json()) is (body is good)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_query_is_answered_however_it_comes(shell: GraphQLClient, method: str) -> None:
    query = "query A($skip: Boolean!) { viewer @skip(if: $skip) { id } __typename } query B { viewer { id } }"
    variables = {"skip": True}
    if method == "GET":
        parameters = {"query": query, "variables": json.dumps(variables), "operationName": "A"}
        response = await shell.http.get("/graphql", params=parameters)
    else:
        body = {"query": query, "variables": variables, "operationName": "A"}
        response = await shell.http.post("/graphql", json=body)

    assert {"data": {"__typename": "Query"}} == response.json()


async def test_nothing_is_changed_by_a_url(shell: GraphQLClient) -> None:
    response = await shell.http.get("/graphql", params={"query": "mutation { logOut { __typename } }"})

    assert 405 == response.status_code
    assert "INVALID_INPUT" == response.json()["errors"][0]["extensions"]["code"]


async def test_a_body_that_holds_no_operation_is_malformed(shell: GraphQLClient) -> None:
    bodies: list[tuple[bytes, list[str] | None]] = [
        (b"", None),
        (b"1", None),
        (b'"x"', None),
        (b"null", None),
        (b"[1]", None),
        (b"[null]", None),
        (b'[{"query": "{ viewer { id } }"}]', None),
        (b"{", None),
        (b"\xff\xfe\x00", None),
        (b'{"query": "\xff"}', None),
        (DEEP.encode(), None),
        (b'{"query": "{ viewer { id } }", "variables": ' + DEEP.encode() + b"}", None),
        (b"{}", ["query"]),
        (b'{"query": null}', ["query"]),
        (b'{"query": 5}', ["query"]),
        (b'{"query": "{ viewer { id } }", "variables": []}', ["variables"]),
        (b'{"query": "{ viewer { id } }", "variables": "{}"}', ["variables"]),
        (b'{"query": "{ viewer { id } }", "operationName": 5}', ["operationName"]),
        (b'{"query": "{ viewer { id } }", "extensions": []}', ["extensions"]),
    ]

    for body, path in bodies:
        response = await shell.http.post(
            "/graphql", content=body, headers={"content-type": "application/json"}
        )
        assert 400 == response.status_code, body[:50]
        [error] = response.json()["errors"]
        assert ("INVALID_INPUT", path) == (error["extensions"]["code"], error["extensions"].get("path"))
        assert "data" not in response.json()


async def test_the_parameters_of_a_url_are_checked_likewise(shell: GraphQLClient) -> None:
    for parameters in (
        {},
        {"query": "{ viewer { id } }", "variables": "1"},
        {"query": "a", "extensions": "{"},
    ):
        response = await shell.http.get("/graphql", params=parameters)
        assert 400 == response.status_code
        assert "INVALID_INPUT" == response.json()["errors"][0]["extensions"]["code"]


async def test_a_body_of_another_type_is_not_read(shell: GraphQLClient) -> None:
    """A plain form of another site's page can send these types; it can't send JSON."""
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "", "application/json-seq"):
        response = await shell.http.post(
            "/graphql", content=b'{"query": "{ viewer { id } }"}', headers={"content-type": content_type}
        )
        assert 415 == response.status_code


async def test_a_body_over_the_limit_is_not_read_to_its_end(shell: GraphQLClient) -> None:
    response = await shell.http.post(
        "/graphql", content=b" " * 1_000_001, headers={"content-type": "application/json"}
    )

    assert 413 == response.status_code
    assert "PAYLOAD_TOO_LARGE" == response.json()["errors"][0]["extensions"]["code"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"query": "{ viewer { id }"}, "Syntax Error"),
        ({"query": "{ viewer { nothing } }"}, "nothing"),
        ({"query": "query A { viewer { id } } query B { viewer { id } }"}, "operationName"),
        ({"query": "query A { viewer { id } }", "operationName": "B"}, "operationName"),
        ({"query": "fragment F on Query { viewer { id } }"}, "F"),
        ({"query": "subscription { embeddingJobEvents(jobId: 5) { __typename } }"}, "event-stream"),
        ({"query": "query($a: Int!) { pipelines(first: $a) { totalCount } }"}, "$a"),
        ({"query": '{ node(id: "\ud800") { id } }'}, "Syntax Error"),
    ],
)
async def test_an_operation_that_can_not_run_is_the_clients_fault(
    shell: GraphQLClient, body: dict[str, Any], said: str
) -> None:
    response = await shell.http.post(
        "/graphql", content=json.dumps(body), headers={"content-type": "application/json"}
    )

    assert 400 == response.status_code
    [error] = response.json()["errors"]
    assert "INVALID_INPUT" == error["extensions"]["code"]
    assert said in error["message"]


async def test_a_variable_of_the_wrong_type_is_named_by_its_path(shell: GraphQLClient) -> None:
    query = "mutation($input: EmbedInput!) { embed(input: $input) { __typename } }"
    wrong = [
        ({"texts": ["a", 5]}, ["input", "texts", "1"]),
        ({"encoding": "HEX"}, ["input", "encoding"]),
        ({"dimensions": "a"}, ["input", "dimensions"]),
        ({"dimensions": 2**40}, ["input", "dimensions"]),
    ]

    for value, path in wrong:
        extensions = await shell.refusal(query, input=value)
        assert {"code": "INVALID_INPUT", "path": path} == extensions


async def test_at_most_ten_errors_are_answered(shell: GraphQLClient) -> None:
    answer = await shell.send("{ " + " ".join(f"nothing{number}" for number in range(100)) + " }")

    assert len(answer["errors"]) <= 11


async def test_a_query_that_quotes_half_a_surrogate_pair_is_answered(shell: GraphQLClient) -> None:
    query = "mutation($e: VectorEncoding) { embed(input: { encoding: $e }) { __typename } }"

    answer = await shell.send(query, e="\ud800")

    assert "INVALID_INPUT" == answer["errors"][0]["extensions"]["code"]


async def test_the_page_is_for_browsers_only(shell: GraphQLClient) -> None:
    browser = await shell.http.get(
        "/graphql", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    )
    program = await shell.http.get("/graphql", headers={"accept": "*/*"})

    assert "text/html; charset=utf-8" == browser.headers["content-type"]
    assert "script-src 'self'" in browser.headers["content-security-policy"]
    assert 400 == program.status_code


async def test_parts_of_the_page_are_sent_compressed_and_nothing_else_is_sent(shell: GraphQLClient) -> None:
    path = "/graphql/page/graphiql.min.js"
    plain = await shell.http.get(path, headers={"accept-encoding": "identity"})
    packed = await shell.http.get(path, headers={"accept-encoding": "gzip"})
    known = await shell.http.get(path, headers={"if-none-match": packed.headers["etag"]})
    missing = [
        await shell.http.get(f"/graphql/page/{name}") for name in ("VENDORED.md", "x.js", "..%2fconfig.py")
    ]

    assert "gzip" == packed.headers["content-encoding"]
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content
    assert "text/javascript; charset=utf-8" == plain.headers["content-type"]
    assert 304 == known.status_code
    assert [404] * 3 == [response.status_code for response in missing]
