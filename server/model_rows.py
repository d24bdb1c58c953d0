"""SQL of trained models and of the pipelines they are deployed as, and both as records."""

from typing import Any, Final
from uuid import UUID

import msgspec

from bus.messages import DeployedModel, StoredFiles
from server.database import Database
from server.records import Modality, PipelineRecord
from server.training_records import ModelRecord, TrainerKind

#: What the names of all deployed models begin with, and no other pipeline's.
MODEL_PREFIX: Final = "model/"

#: A model with the one pipeline it answers as, if there is one.
MODELS: Final = (
    "models LEFT JOIN deployments ON deployments.model_id = models.id AND deployments.retired_at IS NULL"
)
MODEL_COLUMNS: Final = (
    "models.*, deployments.id AS deployment_id, deployments.name AS deployment_name,"
    " deployments.version AS deployment_version, deployments.retired_at"
)
#: Models that their owner has not deleted.
OF_USER: Final = "models.user_id = {} AND models.deleted_at IS NULL"

#: What was ever deployed under a name, whether or not it still answers, with its columns as above.
DEPLOYMENTS: Final = "deployments JOIN models ON models.id = deployments.model_id"

_NO_WORKER = "No worker that takes deployed models has been heard of for some seconds."
_RETIRED = "It was retired."


async def find_model(db: Database, user_id: UUID, model_id: UUID) -> dict[str, Any] | None:
    """Return the row of a model of the user, with its deployment."""
    return await db.fetch_one(
        f"SELECT {MODEL_COLUMNS} FROM {MODELS} WHERE models.id = {{}} AND {OF_USER}",  # noqa: S608 - SQL of ours
        model_id,
        user_id,
    )


async def lock_model(db: Database, user_id: UUID, model_id: UUID) -> None:
    """Keep everybody else from changing or holding a model of the user until the transaction ends."""
    await db.execute("SELECT 1 FROM models WHERE id = {} AND user_id = {} FOR UPDATE", model_id, user_id)


async def hold_model(db: Database, user_id: UUID, model_id: UUID) -> bool:
    """Keep a model of the user from being deleted until the transaction ends; False if it is not there."""
    row = await db.fetch_one(
        "SELECT 1 AS found FROM models WHERE id = {} AND user_id = {} AND deleted_at IS NULL FOR SHARE",
        model_id,
        user_id,
    )
    return row is not None


def model_record(row: dict[str, Any], *, pool: str | None) -> ModelRecord:
    """Return the record of a row of ``MODELS``.

    Args:
        row: with ``MODEL_COLUMNS``.
        pool: where deployed models are loaded now, if anywhere.
    """
    return ModelRecord(
        id=row["id"],
        user_id=row["user_id"],
        job_id=row["job_id"],
        name=row["name"],
        trainer=TrainerKind(row["trainer"]),
        modality=_modality(row),
        dimension=row["dimension"],
        sha256=row["sha256"],
        generates=row["generates"],
        metrics=msgspec.msgpack.decode(row["metrics"], type=dict[str, float]),
        dataset_id=row["dataset_id"],
        parent_id=row["parent_id"],
        pipeline=None if row["deployment_id"] is None else pipeline_record(row, pool=pool),
        created_at=row["created_at"],
    )


def pipeline_record(row: dict[str, Any], *, pool: str | None) -> PipelineRecord:
    """Return the pipeline of a deployed model; see `model_record` for the arguments."""
    reason = None
    if row["retired_at"] is not None:
        reason = _RETIRED
    elif pool is None:
        reason = _NO_WORKER
    return PipelineRecord(
        id=row["deployment_id"],
        name=f"{MODEL_PREFIX}{row['deployment_name']}",
        version=str(row["deployment_version"]),
        modality=Modality(row["modality"]),
        dimension=row["dimension"],
        pool=pool or "",
        max_tokens=None,
        auto_rank=None,
        description=f"The model {row['name']} that you have trained and deployed.",
        available=reason is None,
        reason=reason,
        model=deployed_model(row),
    )


def deployed_model(row: dict[str, Any]) -> DeployedModel:
    """Return what a worker needs to load the model of a row of ``models``."""
    return DeployedModel(
        model_id=str(row["id"]),
        owner_id=str(row["user_id"]),
        prefix=f"{stored_files(row).prefix}/encoder",
        manifest_sha256=row["sha256"],
        dimension=row["dimension"],
    )


def stored_files(row: dict[str, Any]) -> StoredFiles:
    """Return where the files of the model of a row lie."""
    return msgspec.msgpack.decode(row["stored"], type=StoredFiles)


def _modality(row: dict[str, Any]) -> Modality | None:
    return None if row["modality"] is None else Modality(row["modality"])
