"""Making data sets and deleting them."""

from typing import Annotated

import strawberry

from server.datasets import CreateDatasetRequest
from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.datasets import Dataset
from server.graphql.types.errors import (
    Busy,
    Conflict,
    DatasetInvalid,
    Forbidden,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    RateLimited,
    UnsupportedMedia,
)


@strawberry.input(description="Exactly one of fileId and sample.")
class CreateDatasetInput:
    """Arguments of createDataset."""

    name: str = strawberry.field(description="1 to 200 characters. A name that is in use gets a new version.")
    file_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="An upload: a zip or tar of class folders or of pictures with an index, NPZ, CSV, TSV, "
        "JSONL, Parquet or plain text.",
    )
    sample: str | None = strawberry.field(
        default=None, description="The name of a sample data set, such as digits."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A name for this request: sent again, it answers with the data set of the first time.",
    )


@strawberry.input(description="Which data set to delete.")
class DeleteDatasetInput:
    """Arguments of deleteDataset."""

    dataset_id: strawberry.ID = strawberry.field(description="The data set.")


@strawberry.type(description="The data set.")
class DatasetPayload:
    """Answer of createDataset."""

    dataset: Dataset = strawberry.field(description="The data set as it is now.")


@strawberry.type(description="The data set is gone.")
class DeleteDatasetPayload:
    """Answer of deleteDataset."""

    dataset_id: strawberry.ID = strawberry.field(description="The id it had.")


DatasetResult = Annotated[
    DatasetPayload
    | InvalidInput
    | NotFound
    | Forbidden
    | Conflict
    | QuotaExceeded
    | PayloadTooLarge
    | UnsupportedMedia
    | DatasetInvalid
    | RateLimited
    | Busy,
    strawberry.union("DatasetResult", description="A data set, or why there is none."),
]
DeleteDatasetResult = Annotated[
    DeleteDatasetPayload | InvalidInput | NotFound | Forbidden | Conflict | Busy,
    strawberry.union("DeleteDatasetResult", description="That it is gone, or why it is not."),
]


@strawberry.type
class DatasetMutations:
    """Data sets. An API key needs TRAIN."""

    @strawberry.mutation(
        description="Make a data set of an upload or a sample. Its rows are looked at while nobody waits: "
        "`status` says when it can be trained on. An API key needs TRAIN."
    )
    async def create_dataset(
        self,
        info: Info,
        request: Annotated[
            CreateDatasetInput, strawberry.argument(name="input", description="Where the rows come from.")
        ],
    ) -> DatasetResult:
        """Make a data set."""
        principal = require_principal(info)
        file_id = None if request.file_id is None else ids.decode_as("File", request.file_id, ("file_id",))
        record = await info.context.services.datasets.create(
            principal,
            CreateDatasetRequest(
                name=request.name,
                file_id=file_id,
                sample=request.sample,
                idempotency_key=request.idempotency_key,
            ),
        )
        return DatasetPayload(dataset=Dataset.of(record))

    @strawberry.mutation(
        description="Delete a data set; the models that were trained on it stay. CONFLICT while a job "
        "needs it. An API key needs TRAIN."
    )
    async def delete_dataset(
        self,
        info: Info,
        request: Annotated[
            DeleteDatasetInput, strawberry.argument(name="input", description="Which data set.")
        ],
    ) -> DeleteDatasetResult:
        """Delete a data set."""
        principal = require_principal(info)
        dataset_id = ids.decode_as("Dataset", request.dataset_id, ("dataset_id",))
        await info.context.services.datasets.delete(principal, dataset_id)
        return DeleteDatasetPayload(dataset_id=ids.encode("Dataset", dataset_id))
