"""What is somebody else's is as if it had never been, for every field that takes an id or a name.

The fields come out of the schema: a new one that takes an id fails here until it says what to ask it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

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

from server.graphql.schema import build_schema, core_schema
from tests.support.faces import User
from tests.support.graphql import hear, say
from tests.support.strangers import KINDS, PIPELINE_FIELDS, The, Things, fill, nothing, owned, things_in

SCHEMA = core_schema(build_schema())

#: Arguments of the fields that take an id or the name of a pipeline.
FIELDS: dict[str, list[dict[str, Any]]] = {
    "node": [{"id": The(kind)} for kind in KINDS],
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


def operations() -> Iterator[tuple[str, str, GraphQLField]]:
    """Yield the kind, the name and the field of every operation that names something."""
    for kind in ("query", "mutation", "subscription"):
        root = getattr(SCHEMA, f"{kind}_type")
        assert isinstance(root, GraphQLObjectType)
        for name, field in root.fields.items():
            named = set(_references(field))
            cases = FIELDS.get(name, [])
            told = {given for case in cases for given, value in case.items() if any(things_in(value))}
            assert named <= told, f"{name}: what is {named - told} about?"
            if named:
                yield kind, name, field


def _references(field: GraphQLField) -> Iterator[str]:
    """Return the arguments of a field, or fields of its input, that hold an id or the name of a pipeline."""
    given: dict[str, GraphQLArgument | GraphQLInputField] = dict(field.args)
    if "input" in given and isinstance(inner := get_named_type(given["input"].type), GraphQLInputObjectType):
        given = dict(inner.fields)
    for name, one in given.items():
        is_name = name in PIPELINE_FIELDS or (name == "name" and set(given) == {"name"})
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

    for operation in sorted(found, key=_undoes):
        for case in FIELDS[operation[1]]:
            seen = await operate(eve, operation, fill(case, owned(theirs), plainly=False))
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
