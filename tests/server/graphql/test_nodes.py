"""Nodes: whose they are, and that one query may ask for everything of all of them."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
)

from server.database import Database
from server.graphql import ids
from server.graphql.schema import build_schema, core_schema
from tests.server.graphql.test_accounts import create_key
from tests.support.graphql import GraphQLClient
from tests.support.trained import TrainWorker, make_everything

SCHEMA = core_schema(build_schema())
MAKE_JOB = """
mutation { createEmbeddingJob(input: { texts: ["a", "b"] }) {
  ... on EmbeddingJobPayload { job { id } } ... on Error { code message path } } }
"""


def spread(name: str) -> str:
    """Select every field of everything that implements an interface or belongs to a union."""
    abstract = SCHEMA.type_map[name]
    assert isinstance(abstract, GraphQLInterfaceType | GraphQLUnionType)
    members = SCHEMA.get_possible_types(abstract)
    return " ".join(f"... on {member.name} {{ {' '.join(_fields(member, (name,)))} }}" for member in members)


def _fields(parent: GraphQLObjectType, above: tuple[str, ...]) -> Iterator[str]:
    yield "__typename"
    for name, field in parent.fields.items():
        named = get_named_type(field.type)
        if is_leaf_type(named):
            yield name
        elif isinstance(named, GraphQLObjectType) and named.name not in above:
            inner = " ".join(_fields(named, (*above, named.name)))
            yield f"{name}{_arguments(field)} {{ {inner} }}"


def _arguments(field: GraphQLField) -> str:
    return "(first: 1)" if "first" in field.args else ""


async def id_of_everything(owner: GraphQLClient, trainer: TrainWorker) -> dict[str, str]:
    """Make one of every node and return their ids by type; the pipeline is a hosted one."""
    key_id, _ = await create_key(owner, "READ")
    uploaded = await owner.upload("note.txt", b"The quick brown fox.")
    job = (await owner.data(MAKE_JOB))["createEmbeddingJob"]["job"]
    viewer = (await owner.data("{ viewer { id sessions(first: 1) { edges { node { id } } } } }"))["viewer"]
    pipelines = (await owner.data("{ pipelines(first: 1) { edges { node { id } } } }"))["pipelines"]
    return {
        "User": viewer["id"],
        "Session": viewer["sessions"]["edges"][0]["node"]["id"],
        "ApiKey": key_id,
        "File": uploaded["file"]["id"],
        "EmbeddingJob": job["id"],
        **await make_everything(owner, trainer),
        "Pipeline": pipelines["edges"][0]["node"]["id"],
    }


async def test_one_query_may_spread_every_field_of_every_node(
    ada: GraphQLClient, trainer: TrainWorker
) -> None:
    of_type = await id_of_everything(ada, trainer)
    query = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ {spread('Node')} }} }}"

    nodes = (await ada.data(query, ids=list(of_type.values())))["nodes"]

    interface = SCHEMA.type_map["Node"]
    assert isinstance(interface, GraphQLInterfaceType)
    assert {member.name for member in SCHEMA.get_possible_types(interface)} == set(of_type)
    assert list(of_type) == [node["__typename"] for node in nodes]
    assert list(of_type.values()) == [node["id"] for node in nodes]
    for node in nodes:
        member = SCHEMA.type_map[node["__typename"]]
        assert isinstance(member, GraphQLObjectType)
        assert {"__typename", *member.fields} == set(node)


async def test_a_node_is_found_by_its_id(ada: GraphQLClient, trainer: TrainWorker) -> None:
    for typename, global_id in (await id_of_everything(ada, trainer)).items():
        data = await ada.data("query($id: ID!) { node(id: $id) { __typename id } }", id=global_id)
        assert {"node": {"__typename": typename, "id": global_id}} == data


async def test_somebody_elses_nodes_are_not_there(
    ada: GraphQLClient, bob: GraphQLClient, trainer: TrainWorker
) -> None:
    of_type = await id_of_everything(ada, trainer)
    shared = of_type.pop("Pipeline")
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"

    answer = await bob.send(query, ids=[*of_type.values(), shared])

    assert {"data": {"nodes": [None] * len(of_type) + [{"id": shared}]}} == answer
    for global_id in of_type.values():
        assert {"data": {"node": None}} == await bob.send(
            "query($id: ID!) { node(id: $id) { id } }", id=global_id
        )


async def test_what_is_not_there_is_null(ada: GraphQLClient) -> None:
    unknown = [ids.encode(name, uuid4()) for name in ("User", "File", "EmbeddingJob", "Planet")]

    data = await ada.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=unknown)

    assert {"nodes": [None] * 4} == data


async def test_a_malformed_id_is_named_and_costs_its_neighbours_nothing(ada: GraphQLClient) -> None:
    viewer = (await ada.data("{ viewer { id } }"))["viewer"]["id"]
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"

    answer = await ada.send(query, ids=["nonsense", viewer, 5, "\ud800"])

    assert {"nodes": [None, {"id": viewer}, None, None]} == answer["data"]
    extensions = [error["extensions"] for error in answer["errors"]]
    assert [{"code": "INVALID_INPUT", "path": ["ids", str(index)]} for index in (0, 2, 3)] == sorted(
        extensions, key=lambda it: it["path"]
    )


async def test_nodes_of_one_type_are_looked_up_together(
    ada: GraphQLClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [(await create_key(ada, "READ"))[0] for _ in range(8)]
    asked: list[str] = []
    fetch = database.fetch

    async def fetch_noted(sql: str, *arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401, what it wraps
        asked.append(sql)
        return await fetch(sql, *arguments)

    monkeypatch.setattr(database, "fetch", fetch_noted)
    data = await ada.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[*keys, *keys])

    assert [*keys, *keys] == [node["id"] for node in data["nodes"]]
    assert 1 == len([sql for sql in asked if "FROM api_keys WHERE id = ANY" in sql and "user_id" in sql])


async def test_at_most_a_hundred_ids_at_a_time(ada: GraphQLClient) -> None:
    many = [ids.encode("File", uuid4()) for _ in range(101)]

    refused = await ada.refusal("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=many)

    assert {"code": "INVALID_INPUT", "path": ["ids"]} == refused


async def test_an_answer_holds_a_bounded_number_of_nodes(ada: GraphQLClient) -> None:
    """A list inside a list multiplies: the second thousand of pages is refused before it is read."""
    viewer = (await ada.data("{ viewer { id } }"))["viewer"]["id"]
    page = " ".join(
        f"p{number}: apiKeys(first: 100) {{ totalCount edges {{ cursor }} }}" for number in range(20)
    )
    for _ in range(8):
        await create_key(ada, "READ")
    query = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on User {{ {page} }} }} }}"

    answer = await ada.send(query, ids=[viewer] * 100)

    assert {"QUERY_LIMIT"} == {error["extensions"]["code"] for error in answer["errors"]}
    assert len(answer["errors"]) <= 10


async def test_the_scopes_of_a_key_decide_what_it_reads(ada: GraphQLClient, trainer: TrainWorker) -> None:
    of_type = await id_of_everything(ada, trainer)
    readable = {
        "READ": set(of_type),
        "EMBED": {"User", "File", "Pipeline", "EmbeddingJob"},
        "TRAIN": {"User", "File", "Pipeline", "Dataset", "TrainingJob", "Model", "GenerationJob"},
        "ADMIN": set(of_type),
    }

    for scope, expected in readable.items():
        _, key = await create_key(ada, scope)
        answer = await key.send(
            "query($ids: [ID!]!) { nodes(ids: $ids) { __typename } }", ids=list(of_type.values())
        )
        assert expected == {node["__typename"] for node in answer["data"]["nodes"] if node}
        assert {"FORBIDDEN"} >= {error["extensions"]["code"] for error in answer.get("errors", ())}


async def test_lists_are_paged_both_ways(ada: GraphQLClient) -> None:
    for _ in range(5):
        await create_key(ada, "READ")
    query = """
    query($first: Int, $after: String, $last: Int, $before: String) {
      viewer { apiKeys(first: $first, after: $after, last: $last, before: $before) {
        totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        edges { cursor node { id } }
      } }
    }
    """

    async def page(**arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = (await ada.data(query, **arguments))["viewer"]["apiKeys"]
        return found

    everything = [edge["node"]["id"] for edge in (await page())["edges"]]
    first = await page(first=2)
    second = await page(first=2, after=first["pageInfo"]["endCursor"])
    back = await page(last=2, before=second["pageInfo"]["startCursor"])

    assert 5 == len(everything)
    assert everything[:2] == [edge["node"]["id"] for edge in first["edges"]]
    assert everything[2:4] == [edge["node"]["id"] for edge in second["edges"]]
    assert first["edges"] == back["edges"]
    assert (True, False) == (first["pageInfo"]["hasNextPage"], first["pageInfo"]["hasPreviousPage"])


async def test_the_arguments_of_a_page_are_checked(ada: GraphQLClient) -> None:
    wrong = [
        ({"first": 0}, ["first"]),
        ({"first": 101}, ["first"]),
        ({"first": -1}, ["first"]),
        ({"last": 0}, ["last"]),
        ({"first": 1, "after": "nonsense"}, ["after"]),
        ({"first": 1, "after": "a\0"}, ["after"]),
        ({"first": 1, "after": "\ud800"}, ["after"]),
        ({"last": 1, "before": ""}, ["before"]),
    ]
    query = """
    query($first: Int, $after: String, $last: Int, $before: String) {
      pipelines(first: $first, after: $after, last: $last, before: $before) { totalCount } }
    """

    for arguments, path in wrong:
        assert {"code": "INVALID_INPUT", "path": path} == await ada.refusal(query, **arguments), arguments
