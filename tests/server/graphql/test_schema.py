"""The schema as clients see it: printed, kept to the contract, described."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from graphql import (
    DefinitionNode,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    InputObjectTypeDefinitionNode,
    Node,
    NonNullTypeNode,
    TypeNode,
    Undefined,
    get_named_type,
    is_specified_scalar_type,
    parse,
    print_ast,
)

from bus.messages import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    GenerationSpec,
    RnnParameters,
    SemiSupervisedParameters,
)
from server.graphql.errors import camel_case
from server.graphql.schema import build_schema, core_schema, print_schema
from server.training_records import TrainerKind

ROOT = Path(__file__).parents[3]
CONTRACT = parse((Path(__file__).parent / "contract.graphql").read_text())
SCHEMA = core_schema(build_schema())
PRINTED = {node.name.value: node for node in parse(print_schema()).definitions}  # type: ignore[attr-defined]


def test_schema_graphql_is_what_the_code_prints() -> None:
    """After a change: ``towhee-api schema > schema.graphql``."""
    assert (ROOT / "schema.graphql").read_text() == print_schema()


@pytest.mark.parametrize("expected", CONTRACT.definitions, ids=lambda node: node.name.value)
def test_the_contract_is_kept(expected: DefinitionNode) -> None:
    ours = PRINTED.get(expected.name.value)  # type: ignore[attr-defined]

    assert ours is not None
    assert expected.kind == ours.kind
    assert [] == sorted(_names(expected) - _names(ours))
    assert [] == list(_field_differences(expected, ours))


def _names(node: DefinitionNode) -> set[str]:
    """What a definition lists by name: interfaces, enum values, members of a union."""
    listed = [*_list(node, "interfaces"), *_list(node, "values"), *_list(node, "types")]
    return {item.name.value for item in listed}


def _field_differences(expected: DefinitionNode, ours: DefinitionNode) -> Iterator[str]:
    fields = {field.name.value: field for field in _list(ours, "fields")}
    for field in _list(expected, "fields"):
        name = field.name.value
        found = fields.pop(name, None)
        if found is None or _type_of(field) != _type_of(found):
            yield f"{name}: {_type_of(field)}"
            continue
        arguments = {argument.name.value: argument for argument in _list(found, "arguments")}
        for argument in _list(field, "arguments"):
            added = arguments.pop(argument.name.value, None)
            if added is None or _type_of(argument) != _type_of(added):
                yield f"{name}({argument.name.value}: {_type_of(argument)})"
        yield from (f"{name}({extra}) is required" for extra, it in arguments.items() if _is_required(it))
    if isinstance(expected, InputObjectTypeDefinitionNode):
        yield from (f"{extra} is required" for extra, field in fields.items() if _is_required(field))


def _list(node: Node, attribute: str) -> Sequence[Any]:
    return getattr(node, attribute, None) or ()


def _type_of(node: Node) -> str:
    default = getattr(node, "default_value", None)
    return print_ast(_type(node)) + (f" = {print_ast(default)}" if default else "")


def _is_required(node: Node) -> bool:
    return isinstance(_type(node), NonNullTypeNode) and not getattr(node, "default_value", None)


def _type(node: Node) -> TypeNode:
    found: TypeNode = node.type  # type: ignore[attr-defined]
    return found


def test_a_mutation_answers_its_payload_or_an_error() -> None:
    mutations = SCHEMA.mutation_type
    error = SCHEMA.type_map["Error"]
    assert mutations is not None

    for name, field in mutations.fields.items():
        union = SCHEMA.type_map[str(field.type).rstrip("!")]
        assert isinstance(union, GraphQLUnionType), name
        payloads = [member for member in union.types if error not in member.interfaces]
        assert [union.name.replace("Result", "Payload")] == [payload.name for payload in payloads]
        assert len(union.types) > 1
        assert list(field.args) in ([], ["input"])


@pytest.mark.parametrize(
    "name", [name for name in SCHEMA.type_map if name.endswith("Connection")], ids=lambda name: name
)
def test_connections_are_relays(name: str) -> None:
    connection, node = SCHEMA.type_map[name], name.removesuffix("Connection")
    edge = SCHEMA.type_map[f"{node}Edge"]
    assert isinstance(connection, GraphQLObjectType)
    assert isinstance(edge, GraphQLObjectType)

    assert {"edges": f"[{node}Edge!]!", "pageInfo": "PageInfo!", "totalCount": "Int"} == {
        field: str(definition.type) for field, definition in connection.fields.items()
    }
    assert {"node": f"{node}!", "cursor": "String!"} == {
        field: str(definition.type) for field, definition in edge.fields.items()
    }


def test_everything_is_described() -> None:
    assert [] == sorted(_undescribed())


def _undescribed() -> Iterator[str]:
    for name, found in SCHEMA.type_map.items():
        if name.startswith("__") or is_specified_scalar_type(found):
            continue
        if not found.description:
            yield name
        if isinstance(found, GraphQLEnumType):
            yield from (f"{name}.{value}" for value, it in found.values.items() if not it.description)
        for field, definition in getattr(found, "fields", {}).items():
            if not definition.description:
                yield f"{name}.{field}"
            for argument, it in getattr(definition, "args", {}).items():
                if not it.description:
                    yield f"{name}.{field}({argument})"


def test_names_of_later_issues_are_not_there_yet() -> None:
    later = {"AuditEvent", "ChangePasswordInput", "RotateApiKeyInput"}

    assert set() == later & set(SCHEMA.type_map)


@pytest.mark.parametrize(
    ("kind", "struct"),
    [
        ("Gan", GanParameters),
        ("Autoencoder", AutoencoderParameters),
        ("Rnn", RnnParameters),
        ("SemiSupervised", SemiSupervisedParameters),
        ("FineTune", FineTuneParameters),
        ("Generate", GenerationSpec),
    ],
)
def test_what_a_trainer_can_be_told_is_what_the_worker_is_told(
    kind: str, struct: type[msgspec.Struct]
) -> None:
    """Names, defaults, choices and what may be null; a field more or less on either side fails."""
    given = SCHEMA.type_map[f"{kind}Input"]
    assert isinstance(given, GraphQLInputObjectType)
    fields = dict(given.fields)
    for name in ("modelId", "idempotencyKey"):
        fields.pop(name, None)
    told = {camel_case(field.name): field for field in msgspec.structs.fields(struct)}

    assert set(told) == set(fields)
    for name, field in told.items():
        default, named = fields[name].default_value, get_named_type(fields[name].type)
        is_optional = isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.UnionType)
        assert is_optional is not isinstance(fields[name].type, GraphQLNonNull), name
        assert (None if default is Undefined else default) == field.default, name
        if isinstance(named, GraphQLEnumType):
            assert {value.upper() for value in get_args(field.type)} == set(named.values), name
            assert set(get_args(field.type)) == {str(value.value) for value in named.values.values()}


def test_a_trainer_is_one_of_several() -> None:
    trainer = SCHEMA.type_map["TrainerInput"]
    assert isinstance(trainer, GraphQLInputObjectType)

    assert trainer.is_one_of
    assert "input TrainerInput @oneOf {" in print_schema()
    assert {camel_case(kind.value.lower()) for kind in TrainerKind} == set(trainer.fields)
