"""The schema, put together."""

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
)
from graphql import print_schema as print_core_schema
from strawberry.schema.config import StrawberryConfig

from server.graphql.config import GraphQLConfig
from server.graphql.execution import ApiSchema
from server.graphql.mutations.accounts import AccountMutations
from server.graphql.mutations.api_keys import ApiKeyMutations
from server.graphql.mutations.datasets import DatasetMutations
from server.graphql.mutations.embeddings import EmbeddingMutations
from server.graphql.mutations.files import FileMutations
from server.graphql.mutations.generations import GenerationMutations
from server.graphql.mutations.models import ModelMutations
from server.graphql.mutations.training import TrainingMutations
from server.graphql.queries.accounts import AccountQueries
from server.graphql.queries.nodes import NodeQueries
from server.graphql.queries.pipelines import PipelineQueries
from server.graphql.scalars import scalar_map
from server.graphql.subscriptions.jobs import JobSubscriptions
from server.graphql.types.errors import refusal_handlers


@strawberry.type(description="What can be asked.")
class Query(AccountQueries, NodeQueries, PipelineQueries):
    """All queries."""


@strawberry.type(description="What can be done. Each answers its payload or why it was not done.")
class Mutation(
    AccountMutations,
    ApiKeyMutations,
    FileMutations,
    EmbeddingMutations,
    DatasetMutations,
    TrainingMutations,
    ModelMutations,
    GenerationMutations,
):
    """All mutations."""


@strawberry.type(description="What can be followed.")
class Subscription(JobSubscriptions):
    """All subscriptions."""


def build_schema(config: GraphQLConfig | None = None) -> ApiSchema:
    """Build the schema; it takes some 50 ms, so do it once."""
    schema = ApiSchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map=scalar_map()),
        exception_handlers=refusal_handlers(),
    )
    _forget_null_defaults(core_schema(schema))
    _tell_one_of(core_schema(schema))
    return schema.configure(config or GraphQLConfig())


def core_schema(schema: ApiSchema) -> GraphQLSchema:
    """Return graphql-core's schema of ours."""
    return schema._schema  # noqa: SLF001, strawberry has no public way to it


def _forget_null_defaults(schema: GraphQLSchema) -> None:
    """Make what may be left out just that: strawberry prints Python's ``= None`` as a default of null."""
    for named in schema.type_map.values():
        inputs: list[GraphQLArgument | GraphQLInputField] = []
        if isinstance(named, GraphQLInputObjectType):
            inputs += named.fields.values()
        elif isinstance(named, GraphQLObjectType):
            inputs += [argument for field in named.fields.values() for argument in field.args.values()]
        for given in inputs:
            if given.default_value is None:
                given.default_value = Undefined


def _tell_one_of(schema: GraphQLSchema) -> None:
    """Tell graphql-core, which prints and checks them too, which inputs take exactly one field."""
    for named in schema.type_map.values():
        definition = named.extensions.get("strawberry-definition")
        if isinstance(named, GraphQLInputObjectType) and definition and definition.is_one_of:
            named.is_one_of = True


def print_schema() -> str:
    """Return the schema as text, as it stands in schema.graphql."""
    return print_core_schema(core_schema(build_schema())) + "\n"
