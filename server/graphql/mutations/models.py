"""Deploying models, and deleting them."""

from typing import Annotated

import strawberry

from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    PipelineUnavailable,
    QuotaExceeded,
    RateLimited,
)
from server.graphql.types.training import Model


@strawberry.input(
    description="The pipeline is `model/<name>`, private to its owner. A name in use gets a new version; "
    "deploying the old model again rolls back."
)
class DeployModelInput:
    """Arguments of deployModel."""

    model_id: strawberry.ID = strawberry.field(description="The model.")
    name: str = strawberry.field(
        description="What follows `model/`: 1 to 63 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first."
    )


@strawberry.input(description="Which model answers no longer.")
class RetireModelInput:
    """Arguments of retireModel."""

    model_id: strawberry.ID = strawberry.field(description="The model.")


@strawberry.input(description="Which model to delete.")
class DeleteModelInput:
    """Arguments of deleteModel."""

    model_id: strawberry.ID = strawberry.field(description="The model.")


@strawberry.type(description="The model.")
class ModelPayload:
    """Answer of mutations on models."""

    model: Model = strawberry.field(description="The model as it is now.")


@strawberry.type(description="The model is gone.")
class DeleteModelPayload:
    """Answer of deleteModel."""

    model_id: strawberry.ID = strawberry.field(description="The id it had.")


ModelResult = Annotated[
    ModelPayload
    | InvalidInput
    | NotFound
    | Forbidden
    | Conflict
    | PipelineUnavailable
    | QuotaExceeded
    | RateLimited
    | Busy,
    strawberry.union("ModelResult", description="A model, or why it is not as was asked."),
]
DeleteModelResult = Annotated[
    DeleteModelPayload | InvalidInput | NotFound | Forbidden | Conflict | Busy,
    strawberry.union("DeleteModelResult", description="That it is gone, or why it is not."),
]


@strawberry.type
class ModelMutations:
    """Models. An API key needs TRAIN."""

    @strawberry.mutation(
        description="Let a model answer `embed` as the pipeline `model/<name>`, to its owner alone. An API "
        "key needs TRAIN."
    )
    async def deploy_model(
        self,
        info: Info,
        request: Annotated[
            DeployModelInput, strawberry.argument(name="input", description="Which model, and its name.")
        ],
    ) -> ModelResult:
        """Deploy a model."""
        principal = require_principal(info)
        model_id = ids.decode_as("Model", request.model_id, ("model_id",))
        record = await info.context.services.deployments.deploy(principal, model_id, request.name)
        return ModelPayload(model=Model.of(record))

    @strawberry.mutation(description="Let a model answer no longer; it stays. An API key needs TRAIN.")
    async def retire_model(
        self,
        info: Info,
        request: Annotated[RetireModelInput, strawberry.argument(name="input", description="Which model.")],
    ) -> ModelResult:
        """Retire a model."""
        principal = require_principal(info)
        model_id = ids.decode_as("Model", request.model_id, ("model_id",))
        return ModelPayload(
            model=Model.of(await info.context.services.deployments.retire(principal, model_id))
        )

    @strawberry.mutation(
        description="Delete a model and its files. CONFLICT while it is deployed. An API key needs TRAIN."
    )
    async def delete_model(
        self,
        info: Info,
        request: Annotated[DeleteModelInput, strawberry.argument(name="input", description="Which model.")],
    ) -> DeleteModelResult:
        """Delete a model."""
        principal = require_principal(info)
        model_id = ids.decode_as("Model", request.model_id, ("model_id",))
        await info.context.services.models.delete(principal, model_id)
        return DeleteModelPayload(model_id=ids.encode("Model", model_id))
