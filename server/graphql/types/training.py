"""Trainings and the models they make, which name one another."""

from collections.abc import Mapping
from datetime import datetime
from typing import Self
from uuid import UUID

import strawberry

from server.errors import NotFound
from server.graphql import ids
from server.graphql.context import Info
from server.graphql.types.datasets import Dataset
from server.graphql.types.enums import ErrorCode, GeneratedKind, JobState, Modality, TrainerKind
from server.graphql.types.node import Node
from server.graphql.types.pipelines import Pipeline
from server.training_records import ModelRecord, TrainingJobRecord


@strawberry.type(description="A number that says how well something went.")
class Metric:
    """One metric."""

    name: str = strawberry.field(description="What is measured.")
    value: float = strawberry.field(description="How much of it.")


def metrics_of(values: Mapping[str, float]) -> list[Metric]:
    """Reshape a service's metrics."""
    return [Metric(name=name, value=value) for name, value in values.items()]


async def _dataset(info: Info, dataset_id: UUID) -> Dataset:
    record = await info.context.loaders.dataset_even_deleted(dataset_id)
    if record is None:
        raise NotFound("The data set is not there any more.")
    return Dataset.of(record)


async def _model(info: Info, model_id: UUID | None) -> "Model | None":
    record = await info.context.loaders.model(model_id) if model_id else None
    return Model.of(record) if record else None


@strawberry.type(description="The training of a model.")
class TrainingJob(Node):
    """A training of the account."""

    name: str = strawberry.field(description="The name it was given; its model gets the same.")
    trainer: TrainerKind = strawberry.field(description="What is trained.")
    state: JobState = strawberry.field(description="Where it is.")
    attempt: int = strawberry.field(description="Which try this is; 0 before the first.")
    seed: int = strawberry.field(description="What chance is drawn from: the same seed gives the same model.")
    step: int = strawberry.field(description="Updates of the main network that are done.")
    total_steps: int = strawberry.field(description="Updates in all; 0 while that is not known.")
    metrics: list[Metric] = strawberry.field(description="The newest numbers.")
    eta_seconds: float | None = strawberry.field(description="Seconds that are left, by the pace so far.")
    device: str | None = strawberry.field(description="What it runs on.")
    error: str | None = strawberry.field(description="Why it failed and what to do, if it did.")
    error_code: ErrorCode | None = strawberry.field(description="The same for programs.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When a worker first took it.")
    finished_at: datetime | None = strawberry.field(description="When it reached its final state.")
    dataset_id: strawberry.Private[UUID]
    model_id: strawberry.Private[UUID | None]

    @strawberry.field(description="What it is trained on, also once that is deleted.")
    async def dataset(self, info: Info) -> Dataset:
        """Look the data set up, once for all trainings of an answer."""
        return await _dataset(info, self.dataset_id)

    @strawberry.field(description="What it has made last; null before, and once that is deleted.")
    async def model(self, info: Info) -> "Model | None":
        """Look the model up, once for all trainings of an answer."""
        return await _model(info, self.model_id)

    @classmethod
    def of(cls, record: TrainingJobRecord) -> Self:
        """Reshape a service's record."""
        return cls(
            id=ids.encode("TrainingJob", record.id),
            name=record.name,
            trainer=record.trainer,
            state=record.state,
            attempt=record.attempt,
            seed=record.seed,
            step=record.step,
            total_steps=record.total_steps,
            metrics=metrics_of(record.metrics),
            eta_seconds=record.eta_s,
            device=record.device,
            error=record.error_message,
            error_code=record.error_code,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            dataset_id=record.dataset_id,
            model_id=record.model_id,
        )


@strawberry.type(description="What a training has made.")
class Model(Node):
    """A model of the account."""

    name: str = strawberry.field(description="The name of its training.")
    trainer: TrainerKind = strawberry.field(description="What made it.")
    modality: Modality | None = strawberry.field(description="What it embeds, if that has a kind.")
    dimension: int | None = strawberry.field(description="The length of its vectors.")
    generates: GeneratedKind | None = strawberry.field(
        description="What `generate` makes with it, if anything."
    )
    metrics: list[Metric] = strawberry.field(description="How good it is.")
    sha256: str = strawberry.field(
        description="SHA-256, in hex, of the manifest that holds the digests of all its files."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    card_url: str = strawberry.field(
        description="What it is, how it was made and how good it is, for its owner: a path on this host."
    )
    download_url: str = strawberry.field(
        description="All its files as one zip, for its owner: a path on this host."
    )
    job_id: strawberry.Private[UUID]
    dataset_id: strawberry.Private[UUID]
    parent_id: strawberry.Private[UUID | None]
    deployed: strawberry.Private[Pipeline | None]

    @strawberry.field(description="The training that made it.")
    async def job(self, info: Info) -> TrainingJob:
        """Look the training up, once for all models of an answer."""
        record = await info.context.loaders.training_job(self.job_id)
        if record is None:
            raise NotFound("The training is not there any more.")
        return TrainingJob.of(record)

    @strawberry.field(description="What it was trained on, also once that is deleted.")
    async def dataset(self, info: Info) -> Dataset:
        """Look the data set up, once for all models of an answer."""
        return await _dataset(info, self.dataset_id)

    @strawberry.field(description="As what it answers `embed`. Set while the model is deployed.")
    def pipeline(self) -> Pipeline | None:
        """Return what came with the model."""
        return self.deployed

    @strawberry.field(description="The model this one was fine-tuned or continued from.")
    async def parent(self, info: Info) -> "Model | None":
        """Look the parent up, once for all models of an answer."""
        return await _model(info, self.parent_id)

    @classmethod
    def of(cls, record: ModelRecord) -> Self:
        """Reshape a service's record."""
        url = f"/v1/training/models/{record.id}"
        return cls(
            id=ids.encode("Model", record.id),
            name=record.name,
            trainer=record.trainer,
            modality=record.modality,
            dimension=record.dimension,
            generates=GeneratedKind(record.generates) if record.generates else None,
            metrics=metrics_of(record.metrics),
            sha256=record.sha256,
            created_at=record.created_at,
            card_url=f"{url}/card",
            download_url=f"{url}/download",
            job_id=record.job_id,
            dataset_id=record.dataset_id,
            parent_id=record.parent_id,
            deployed=Pipeline.of(record.pipeline) if record.pipeline else None,
        )
