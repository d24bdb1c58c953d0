"""What is somebody else's is as if it had never been: on every route and field that takes an id or a name.

The routes come out of the OpenAPI document and the fields out of the schema: a new one that takes an id fails
here until it says what to ask it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLID,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    get_named_type,
    is_list_type,
    is_non_null_type,
)
from litestar import Litestar

from server.graphql import ids
from server.graphql.schema import build_schema, core_schema
from server.ids import new_id
from server.services import Services
from tests.server.graphql.test_accounts import create_key
from tests.server.graphql.test_nodes import MAKE_JOB
from tests.support.embedding import until
from tests.support.faces import User
from tests.support.graphql import LOG_IN, PASSWORD, hear, say
from tests.support.trained import DEPLOY, TrainWorker, make_everything, make_model, plain

SCHEMA = core_schema(build_schema())

#: What a stranger asks for: the global id of each kind of thing, and the name of a pipeline.
Things = Mapping[str, str]


class The(str):
    """Stands for a thing of this kind in a request."""

    __slots__ = ()


MINE = "mine"

# REST: the fields of bodies that hold an id or the name of a pipeline.
BODIES: dict[str, list[dict[str, Any]]] = {
    "POST /v1/embeddings": [{"input": "a", "model": The("name")}],
    "POST /v1/embeddings/files": [
        {"file_ids": [The("File")], "model": "auto"},
        {"file_ids": [The("mine File")], "model": The("name")},
    ],
    "POST /v1/jobs": [
        {"texts": ["a"], "pipeline": The("name")},
        {"file_ids": [The("File")]},
        {"dataset_id": The("Dataset")},
    ],
    "POST /v1/datasets": [{"name": "a", "file_id": The("File")}],
    "POST /v1/training/jobs": [
        {"name": "a", "trainer": {"gan": {}}, "dataset_id": The("Dataset")},
        {"name": "a", "trainer": {"gan": {"epochs": 0}}, "dataset_id": The("Dataset")},
        # What it is checked against must not show either.
        {"name": "a", "trainer": {"rnn": {}}, "dataset_id": The("Dataset")},
        {
            "name": "a",
            "trainer": {"gan": {}},
            "dataset_id": The("mine Dataset"),
            "parent_model_id": The("Model"),
        },
    ],
}
#: Bodies of routes that take the thing in their path.
WITH_PATH: dict[str, dict[str, Any]] = {
    "POST /v1/training/jobs/{job_id}/resume": {"max_steps": 5},
    "POST /v1/training/models/{model_id}/deploy": {"name": "pets"},
    "POST /v1/training/models/{model_id}/generate": {},
}
PATHS = {
    "/v1/sessions/{session_id}": "Session",
    "/v1/keys/{key_id}": "ApiKey",
    "/v1/files/{file_id}": "File",
    "/v1/models/{name}": "name",
    "/v1/jobs/{job_id}": "EmbeddingJob",
    "/v1/datasets/{dataset_id}": "Dataset",
    "/v1/training/jobs/{job_id}": "TrainingJob",
    "/v1/training/models/{model_id}": "Model",
    "/v1/training/generations/{job_id}": "GenerationJob",
}
_PARAMETER = re.compile(r"\{(\w+)\}")
_NAMES = ("pipeline", "model")

# GraphQL: arguments of the fields that take an id or the name of a pipeline.
FIELDS: dict[str, list[dict[str, Any]]] = {
    "node": [
        {"id": The(kind)}
        for kind in (
            "User",
            "Session",
            "ApiKey",
            "File",
            "Pipeline",
            "EmbeddingJob",
            "Dataset",
            "TrainingJob",
            "Model",
            "GenerationJob",
        )
    ],
    "nodes": [{"ids": [The("Model"), The("Dataset"), The("Pipeline")]}],
    "pipeline": [{"name": The("name")}],
    "selectPipeline": [{"fileId": The("File")}],
    "revokeApiKey": [{"apiKeyId": The("ApiKey")}],
    "embed": [
        {"texts": ["a"], "pipeline": The("name")},
        {"fileIds": [The("File")]},
        {"fileIds": [The("mine File")], "pipeline": The("name")},
    ],
    "createEmbeddingJob": [
        {"texts": ["a"], "pipeline": The("name")},
        {"fileIds": [The("File")]},
        {"datasetId": The("Dataset")},
    ],
    "cancelEmbeddingJob": [{"jobId": The("EmbeddingJob")}],
    "createDataset": [{"name": "a", "fileId": The("File")}],
    "deleteDataset": [{"datasetId": The("Dataset")}],
    "startTraining": [
        {"name": "a", "trainer": {"gan": {}}, "datasetId": The("Dataset")},
        {"name": "a", "trainer": {"rnn": {}}, "datasetId": The("Dataset")},
        {
            "name": "a",
            "trainer": {"gan": {}},
            "datasetId": The("mine Dataset"),
            "parentModelId": The("Model"),
        },
    ],
    "cancelTraining": [{"jobId": The("TrainingJob")}],
    "resumeTraining": [{"jobId": The("TrainingJob"), "maxSteps": 5}],
    "deployModel": [{"modelId": The("Model"), "name": "pets"}],
    "retireModel": [{"modelId": The("Model")}],
    "deleteModel": [{"modelId": The("Model")}],
    "generate": [{"modelId": The("Model")}],
    "cancelGeneration": [{"jobId": The("GenerationJob")}],
    "embeddingJobEvents": [{"jobId": The("EmbeddingJob")}],
    "trainingEvents": [{"jobId": The("TrainingJob")}],
}


@pytest.fixture
async def theirs(eve: User, trainer: TrainWorker, services: Services) -> Things:
    """One of everything of eve's; her model answers as ``model/pets``."""
    await trainer.take_models()

    async def is_known() -> bool:
        return services.pipelines.find_models_pool() is not None

    await until(is_known)
    uploaded = await eve.upload("note.txt", b"The quick brown fox.")
    job = (await eve.data(MAKE_JOB))["createEmbeddingJob"]["job"]
    other = (await eve.data(LOG_IN, email="eve@example.com", password=PASSWORD))["logIn"]
    key_id, _ = await create_key(eve, "READ")
    return {
        **await make_everything(eve, trainer),
        "User": other["user"]["id"],
        "Session": other["session"]["id"],
        "ApiKey": key_id,
        "File": uploaded["file"]["id"],
        "EmbeddingJob": job["id"],
        "name": "model/pets",
    }


@pytest.fixture
async def mine(mal: User, trainer: TrainWorker) -> Things:
    """What the stranger has, too."""
    uploaded = await mal.upload("note.txt", b"Of the stranger's own.")
    made = await make_model(mal, trainer)
    return {f"{MINE} {kind}": thing for kind, thing in {**made, "File": uploaded["file"]["id"]}.items()}


def nothing() -> Things:
    """Return ids that nothing ever had, and the name of no pipeline."""
    kinds = {the for cases in FIELDS.values() for case in cases for the in _things(case)}
    return {kind: ids.encode(kind, new_id()) for kind in kinds if kind != "name"} | {"name": "model/cats"}


def _things(given: object) -> Iterator[str]:
    if isinstance(given, The):
        yield str(given)
    elif isinstance(given, dict):
        for value in given.values():
            yield from _things(value)
    elif isinstance(given, list):
        for value in given:
            yield from _things(value)


def fill(given: Any, things: Things, *, plainly: bool) -> Any:  # noqa: ANN401 - JSON
    """Put things in place of what stands for them; ``plainly`` as REST has their ids."""
    if isinstance(given, The):
        thing = things[given]
        return str(plain(thing)) if plainly and not given.endswith("name") else thing
    if isinstance(given, dict):
        return {name: fill(value, things, plainly=plainly) for name, value in given.items()}
    if isinstance(given, list):
        return [fill(value, things, plainly=plainly) for value in given]
    return given


# REST


def requests_of(app: Litestar) -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and body of each request that names something; paths hold what stands for it."""
    paths: Mapping[str, Mapping[str, Any]] = app.openapi_schema.to_schema()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            route = f"{method.upper()} {path}"
            if _PARAMETER.search(path):
                yield method.upper(), path, WITH_PATH.get(route)
            named = {name for name in _body_fields(operation) if _is_reference(name)}
            cases = BODIES.get(route, [])
            assert named <= {name for case in cases for name, value in case.items() if any(_things(value))}, (
                route
            )
            for case in cases:
                yield method.upper(), path, case


def _body_fields(operation: Mapping[str, Any]) -> Iterator[str]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield from content["schema"].get("properties", {})


def _is_reference(name: str) -> bool:
    return name.endswith(("_id", "_ids")) or name in _NAMES


def place(path: str, things: Things) -> str:
    """Put a thing into a path."""
    [root] = [root for root in PATHS if path == root or path.startswith(f"{root}/")] or [path]
    kind = PATHS.get(root)
    if kind is None:
        return path
    thing = things[kind] if kind == "name" else str(plain(things[kind]))
    placed = _PARAMETER.sub(thing, root) + path.removeprefix(root)
    # The fourth row of its history is a picture.
    return placed.replace("{seq}", "4")


async def ask(user: User, request: tuple[str, str, Any], things: Things) -> tuple[int, Any]:
    """Send a request and return what is answered."""
    method, path, body = request
    options = {} if body is None else {"json": fill(body, things, plainly=True)}
    answer = await user.rest(method, place(path, things), **options)
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.status_code, answer.json() if is_json else None


def _destroys(request: tuple[str, str, Any]) -> bool:
    return request[0] == "DELETE"


async def test_no_route_tells_somebody_elses_things_from_what_never_was(
    whole_app: Litestar, eve: User, mal: User, theirs: Things, mine: Things
) -> None:
    requests = list(requests_of(whole_app))
    assert len(requests) > 35
    assert WITH_PATH.keys() <= {f"{method} {path}" for method, path, _ in requests}

    for request in requests:
        assert not (_PARAMETER.search(place(request[1], theirs))), f"what is {request[1]} about?"
        seen = await ask(mal, request, {**theirs, **mine})
        assert seen == await ask(mal, request, {**nothing(), **mine}), request
        assert seen[0] in {400, 404}, (request, seen)

    # Their owner is answered something else to the same, so that nothing above was asked in vain.
    owned = {f"{MINE} {kind}": thing for kind, thing in theirs.items()}
    for request in sorted(requests, key=_destroys):
        if request[2] is None or "epochs" not in str(request[2]):
            assert 404 != (await ask(eve, request, {**theirs, **owned}))[0], request


async def test_no_list_shows_anything_of_somebody_elses(
    whole_app: Litestar, mal: User, theirs: Things
) -> None:
    paths: Mapping[str, Mapping[str, Any]] = whole_app.openapi_schema.to_schema()["paths"]
    lists = [path for path, operations in paths.items() if "get" in operations and "{" not in path]
    own = {"/v1/sessions", "/v1/keys"}

    for path in lists:
        data = (await mal.rest("GET", path)).json()["data"]
        assert "model/pets" not in str(data), path
        assert not any(str(plain(thing)) in str(data) for kind, thing in theirs.items() if kind != "name")
        assert path in own | {"/v1/models"} or data == [], path


async def test_keys_of_requests_and_names_of_pipelines_are_each_users_own(
    eve: User, mal: User, theirs: Things, mine: Things
) -> None:
    key = {"idempotency-key": "monday"}
    texts = [await one.rest("POST", "/v1/jobs", json={"texts": ["a"]}, headers=key) for one in (eve, mal)]
    sets = [
        await one.rest("POST", "/v1/datasets", json={"name": "same", "file_id": file_id}, headers=key)
        for one, file_id in ((eve, str(plain(theirs["File"]))), (mal, str(plain(mine["mine File"]))))
    ]
    deployed = await mal.data(DEPLOY, input={"modelId": mine["mine Model"], "name": "pets"})

    assert [202] * 4 == [answer.status_code for answer in [*texts, *sets]]
    assert texts[0].json()["id"] != texts[1].json()["id"]
    assert [1, 1] == [answer.json()["version"] for answer in sets]
    assert "1" == deployed["deployModel"]["model"]["pipeline"]["version"]
    found = await mal.data('{ pipeline(name: "model/pets") { id } }')
    assert found["pipeline"]["id"] not in {theirs["Pipeline"], None}


# GraphQL


def operations() -> Iterator[tuple[str, str, GraphQLField]]:
    """Yield the kind, the name and the field of every operation that names something."""
    for kind in ("query", "mutation", "subscription"):
        root = getattr(SCHEMA, f"{kind}_type")
        assert isinstance(root, GraphQLObjectType)
        for name, field in root.fields.items():
            named = set(_references(field))
            told = {
                field for case in FIELDS.get(name, []) for field, value in case.items() if any(_things(value))
            }
            assert named <= told, f"{name}: what is {named - told} about?"
            if named:
                yield kind, name, field


def _references(field: GraphQLField) -> Iterator[str]:
    """Return the arguments of a field, or fields of its input, that hold an id or the name of a pipeline."""
    given: dict[str, GraphQLArgument | GraphQLInputField] = dict(field.args)
    if "input" in given and isinstance(inner := get_named_type(given["input"].type), GraphQLInputObjectType):
        given = dict(inner.fields)
    for name, one in given.items():
        is_name = name in _NAMES or (name == "name" and set(given) == {"name"})
        if get_named_type(one.type) is GraphQLID or is_name:
            yield name
        nested = get_named_type(one.type)
        if isinstance(nested, GraphQLInputObjectType):
            inside = {str(get_named_type(it.type)) for it in nested.fields.values()}
            assert "ID" not in inside, f"{name} holds ids, which are not looked for there"


def document(kind: str, name: str, field: GraphQLField) -> str:
    """Write an operation that asks for as little as there is."""
    declared = ", ".join(f"${arg}: {it.type}" for arg, it in field.args.items() if _is_asked(name, arg, it))
    passed = ", ".join(f"{arg}: ${arg}" for arg, it in field.args.items() if _is_asked(name, arg, it))
    errors = "... on Error { code message path }" if kind == "mutation" else ""
    return f"{kind}({declared}) {{ {name}({passed}) {{ __typename {errors} }} }}"


def _is_asked(name: str, argument: str, it: GraphQLArgument) -> bool:
    return argument == "input" or is_non_null_type(it.type) or argument in FIELDS[name][0]


async def operate(user: User, operation: tuple[str, str, GraphQLField], given: Any) -> Any:  # noqa: ANN401
    """Run an operation and return what is answered first."""
    kind, _, field = operation
    variables = {"input": given} if "input" in field.args else given
    if kind != "subscription":
        return await user.send(document(*operation), **variables)
    async with user.socket() as socket:
        payload = {"query": document(*operation), "variables": variables}
        await say(socket, type="subscribe", id="1", payload=payload)
        return await hear(socket)


def _undoes(operation: tuple[str, str, GraphQLField]) -> bool:
    return operation[1].startswith(("delete", "retire", "revoke", "cancel"))


async def test_no_field_tells_somebody_elses_things_from_what_never_was(
    eve: User, mal: User, theirs: Things, mine: Things
) -> None:
    found = list(operations())
    assert FIELDS.keys() == {name for _, name, _ in found}

    for operation in found:
        for case in FIELDS[operation[1]]:
            seen = await operate(mal, operation, fill(case, {**theirs, **mine}, plainly=False))
            assert seen == await operate(mal, operation, fill(case, {**nothing(), **mine}, plainly=False)), (
                case
            )
            assert _is_refused(seen), (operation[1], seen)

    owned = {f"{MINE} {kind}": thing for kind, thing in theirs.items()}
    for operation in sorted(found, key=_undoes):
        for case in FIELDS[operation[1]]:
            seen = await operate(eve, operation, fill(case, {**theirs, **owned}, plainly=False))
            assert "NOT_FOUND" not in str(seen), (operation[1], seen)
            assert operation[1] not in {"node", "nodes"} or "None" not in str(seen), case


def _is_refused(answer: Mapping[str, Any]) -> bool:
    """Whether an answer is NOT_FOUND, or null where a node is asked for."""
    if "NOT_FOUND" in str(answer):
        return True
    return answer in ({"data": {"node": None}}, {"data": {"nodes": [None] * 3}})


def test_lists_of_ids_are_asked_for_as_lists() -> None:
    """A case that gives one id where several are meant would ask nothing."""
    for _, name, field in operations():
        inner = get_named_type(field.args["input"].type) if "input" in field.args else None
        types = {
            argument: it.type
            for argument, it in (
                inner.fields if isinstance(inner, GraphQLInputObjectType) else field.args
            ).items()
        }
        for case in FIELDS[name]:
            for argument, value in case.items():
                wanted = types[argument]
                bare = wanted.of_type if is_non_null_type(wanted) else wanted
                assert isinstance(value, list) is is_list_type(bare), (name, argument)
