"""A user who trains: from a file to a pipeline of their own, over GraphQL alone."""

import asyncio
import io
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tests.support.api import ApiClient
from workers.nets.manifest import Artifact, load_artifact

CREATE_DATASET = """
    mutation($input: CreateDatasetInput!) {
      createDataset(input: $input) {
        ... on DatasetPayload { dataset { id status } }
        ... on Error { code message path }
      }
    }"""
START = """
    mutation($input: StartTrainingInput!) {
      startTraining(input: $input) {
        ... on TrainingJobPayload { job { id state } }
        ... on Error { code message path }
        ... on InvalidInput { problems { path message } }
      }
    }"""
WATCH = """
    subscription($job: ID!, $after: String) {
      trainingEvents(jobId: $job, after: $after) {
        __typename
        ... on JobEvent { cursor at attempt }
        ... on JobStateChanged { state reason }
        ... on TrainingProgressed { step totalSteps epoch metrics { name value } etaSeconds }
        ... on SamplesGenerated { step imageUrl text }
        ... on CheckpointSaved { step }
        ... on ModelExported { model { id } }
        ... on TrainingWarned { step warning message }
      }
    }"""
MODEL = """
    query($id: ID!) {
      node(id: $id) { ... on Model {
        name trainer dimension sha256 metrics { name value } cardUrl downloadUrl
        job { id state dataset { rowCount classes } } pipeline { name available }
      } }
    }"""
DEPLOY = """
    mutation($model: ID!, $name: String!) {
      deployModel(input: {modelId: $model, name: $name}) {
        ... on ModelPayload { model { pipeline { name version available } } }
        ... on Error { code message path }
      }
    }"""
EMBED = """
    mutation($texts: [String!], $files: [ID!], $pipeline: String!) {
      embed(input: {texts: $texts, fileIds: $files, pipeline: $pipeline}) {
        ... on EmbedPayload { embeddings { dimension vectors failures { index message } } }
        ... on Error { code message path }
      }
    }"""

Vectors = npt.NDArray[np.float32]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A training as a person asks for it."""

    name: str
    trainer: dict[str, dict[str, object]]
    max_steps: int | None = None
    seed: int = 7


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    events: list[dict[str, Any]]
    model_id: str
    model: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """The model's, by name."""
        return {metric["name"]: metric["value"] for metric in self.model["metrics"]}

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Events of one type."""
        return [event for event in self.events if event["__typename"] == kind]


class Trainee:
    """One user of a running stack."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client

    async def dataset(self, name: str, file_name: str, content: bytes) -> str:
        """Upload a file and make a data set of it; it may still be looked at when this returns."""
        file_id = await self.client.upload(file_name, content)
        answer = await self.client.graphql(CREATE_DATASET, input={"name": name, "fileId": file_id})
        created = answer["createDataset"]
        assert "dataset" in created, created
        dataset_id: str = created["dataset"]["id"]
        return dataset_id

    async def start(self, dataset_id: str, order: Order) -> str:
        """Start a training and return its id."""
        given: dict[str, object] = {
            "name": order.name,
            "datasetId": dataset_id,
            "trainer": order.trainer,
            "seed": order.seed,
        }
        if order.max_steps is not None:
            given["maxSteps"] = order.max_steps
        started = (await self.client.graphql(START, input=given))["startTraining"]
        assert "job" in started, started
        job_id: str = started["job"]["id"]
        return job_id

    async def watch(self, job_id: str, *, within_s: float) -> list[dict[str, Any]]:
        """Follow a training to its end."""
        async with asyncio.timeout(within_s), self.client.subscribe(WATCH, job=job_id, after=None) as stream:
            return [data["trainingEvents"] async for data in stream]

    async def train(self, dataset_id: str, order: Order, *, within_s: float = 180.0) -> Trained:
        """Start, watch to a good end, and look at the model."""
        job_id = await self.start(dataset_id, order)
        events = await self.watch(job_id, within_s=within_s)
        assert "SUCCEEDED" == events[-1].get("state"), events[-3:]
        [exported] = [event for event in events if event["__typename"] == "ModelExported"]
        model_id: str = exported["model"]["id"]
        model = (await self.client.graphql(MODEL, id=model_id))["node"]
        return Trained(events=events, model_id=model_id, model=model)

    async def deploy(self, model_id: str, name: str) -> str:
        """Deploy a model and return its pipeline's name."""
        deployed = (await self.client.graphql(DEPLOY, model=model_id, name=name))["deployModel"]
        assert "model" in deployed, deployed
        pipeline: str = deployed["model"]["pipeline"]["name"]
        return pipeline

    async def embed(self, pipeline: str, inputs: list[str] | list[bytes]) -> Vectors:
        """Embed texts, or pictures as files, with a pipeline."""
        texts = [item for item in inputs if isinstance(item, str)] or None
        files = None
        if texts is None:
            uploads = [item for item in inputs if isinstance(item, bytes)]
            files = [await self.client.upload(f"{number}.png", item) for number, item in enumerate(uploads)]
        answer = await self.client.graphql(EMBED, texts=texts, files=files, pipeline=pipeline)
        assert "embeddings" in answer["embed"], answer
        assert [] == answer["embed"]["embeddings"]["failures"]
        return np.array(answer["embed"]["embeddings"]["vectors"], dtype=np.float32)

    async def download(self, trained: Trained, folder: Path) -> Artifact:
        """Fetch a model and rebuild its encoder here."""
        answer = await self.client.http.get(trained.model["downloadUrl"])
        with zipfile.ZipFile(io.BytesIO(answer.raise_for_status().content)) as archive:
            archive.extractall(folder)
        return load_artifact(folder / "encoder")
