"""One of everything of one user's, for another user to ask for: fixtures and what fills requests with it."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest

from server.graphql import ids
from server.ids import new_id
from server.services import Services
from tests.support.embedding import until
from tests.support.faces import User
from tests.support.graphql import LOG_IN, PASSWORD
from tests.support.trained import TrainWorker, make_everything, make_model, plain

#: What a stranger asks for: the global id of each kind of thing, and under ``name`` that of a pipeline.
Things = Mapping[str, str]

#: Everything a user may have that has an id.
KINDS = (
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
#: Names of fields that hold the name of a pipeline.
PIPELINE_FIELDS = ("pipeline", "model")
#: Before the kind of a thing that the stranger has, too.
_MINE = "mine"


class The(str):
    """Stands for a thing of this kind in a request."""

    __slots__ = ()


@pytest.fixture
async def theirs(eve: User, trainer: TrainWorker, services: Services) -> Things:
    """One of everything of eve's; her model answers as ``model/pets``."""
    await trainer.take_models()

    async def is_known() -> bool:
        return services.pipelines.find_models_pool() is not None

    await until(is_known)
    uploaded = await eve.upload("note.txt", b"The quick brown fox.")
    job = await eve.rest("POST", "/v1/jobs", json={"texts": ["a", "b"]})
    other = (await eve.data(LOG_IN, email="eve@example.com", password=PASSWORD))["logIn"]
    key = await eve.rest("POST", "/v1/keys", json={"name": "test", "scopes": ["READ"]})
    return {
        **await make_everything(eve, trainer),
        "User": other["user"]["id"],
        "Session": other["session"]["id"],
        "ApiKey": ids.encode("ApiKey", UUID(key.json()["api_key"]["id"])),
        "File": uploaded["file"]["id"],
        "EmbeddingJob": ids.encode("EmbeddingJob", UUID(job.json()["id"])),
        "name": "model/pets",
    }


@pytest.fixture
async def mine(mal: User, trainer: TrainWorker) -> Things:
    """What the stranger has, too."""
    uploaded = await mal.upload("note.txt", b"Of the stranger's own.")
    made = await make_model(mal, trainer)
    return {f"{_MINE} {kind}": thing for kind, thing in {**made, "File": uploaded["file"]["id"]}.items()}


def nothing() -> Things:
    """Return ids that nothing ever had, and the name of no pipeline."""
    return {kind: ids.encode(kind, new_id()) for kind in KINDS} | {"name": "model/cats"}


def owned(theirs: Things) -> Things:
    """Return what its owner asks with where a stranger has something of their own."""
    return {**theirs, **{f"{_MINE} {kind}": thing for kind, thing in theirs.items()}}


def things_in(given: object) -> Iterator[str]:
    """Yield the kinds of things that a request needs."""
    if isinstance(given, The):
        yield str(given)
    elif isinstance(given, dict):
        for value in given.values():
            yield from things_in(value)
    elif isinstance(given, list):
        for value in given:
            yield from things_in(value)


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
