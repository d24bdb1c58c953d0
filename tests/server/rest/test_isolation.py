"""What is somebody else's is as if it had never been, on every route that takes an id or a name.

The routes come out of the OpenAPI document: a new one that takes an id fails until it says what to ask it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from litestar import Litestar

from tests.support.faces import User
from tests.support.strangers import PIPELINE_FIELDS, The, Things, fill, nothing, owned, things_in
from tests.support.trained import DEPLOY, plain

#: The fields of bodies that hold an id or the name of a pipeline.
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
            told = {name for case in cases for name, value in case.items() if any(things_in(value))}
            assert named <= told, f"{route}: what is {named - told} about?"
            for case in cases:
                yield method.upper(), path, case


def _body_fields(operation: Mapping[str, Any]) -> Iterator[str]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield from content["schema"].get("properties", {})


def _is_reference(name: str) -> bool:
    return name.endswith(("_id", "_ids")) or name in PIPELINE_FIELDS


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
    for request in sorted(requests, key=_destroys):
        if request[2] is None or "epochs" not in str(request[2]):
            assert 404 != (await ask(eve, request, owned(theirs)))[0], request


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
