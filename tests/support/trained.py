"""A train worker as the server sees it, and one of everything that a training needs and makes."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import HostedPipeline, PipelinesAnnounced, TrainersAnnounced
from bus.objects import ObjectStore
from server.database import Database
from server.graphql import ids
from tests.support.embedding import until
from tests.support.graphql import GraphQLClient
from tests.support.training_jobs import POOL, DatasetRow, LaneWorker, Reports, validated

PICTURE = b"\x89PNG picture"
CARD = b"# A model\n"
ZIP_NAMES = {"encoder/manifest.json", "net/manifest.json"}

DATASET_FIELDS = """id name versionNumber status kind modality rowCount classes classCounts { name count }
  unlabelledCount trainCount testCount shape contentSha256 issueCount issues { row message } previewUrl"""
CREATE_DATASET = f"""
mutation($input: CreateDatasetInput!) {{ createDataset(input: $input) {{ __typename
  ... on DatasetPayload {{ dataset {{ {DATASET_FIELDS} }} }} ... on Error {{ code message path }} }} }}
"""
JOB_FIELDS = """id name trainer state attempt seed step totalSteps metrics { name value } etaSeconds device
  error errorCode dataset { id name } model { id }"""
START = f"""
mutation($input: StartTrainingInput!) {{ startTraining(input: $input) {{ __typename
  ... on TrainingJobPayload {{ job {{ {JOB_FIELDS} }} }}
  ... on Error {{ code message path }} ... on InvalidInput {{ problems {{ path message }} }} }} }}
"""
MODEL_FIELDS = """id name trainer modality dimension generates sha256 metrics { name value }
  cardUrl downloadUrl
  job { id } dataset { id } parent { id } pipeline { id name version dimension available reason }"""
DEPLOY = f"""
mutation($input: DeployModelInput!) {{ deployModel(input: $input) {{ __typename
  ... on ModelPayload {{ model {{ {MODEL_FIELDS} }} }} ... on Error {{ code message path }} }} }}
"""
GENERATE = """
mutation($input: GenerateInput!) { generate(input: $input) { __typename
  ... on GenerationJobPayload { job { id state count seed label results { id url } model { id } } }
  ... on Error { code message path } ... on InvalidInput { problems { path message } } } }
"""


def plain(global_id: str) -> UUID:
    """Return the id that REST has for it."""
    return ids.decode(global_id, ()).id


class TrainWorker:
    """Announces itself, and does what a test wants it to."""

    def __init__(self, bus: MemoryBus, objects: ObjectStore, db: Database) -> None:
        self._bus = bus
        self._objects = objects
        self._db = db
        self.lane = LaneWorker(bus, objects)

    async def announce(self) -> None:
        """Say that it has the digits."""
        announced = TrainersAnnounced(worker_id="trainer-1", pool=POOL, device="cpu", samples=["digits"])
        await self._bus.tell(subjects.TRAINERS_ANNOUNCED, announced)

    async def take_models(self) -> None:
        """Be an embed worker that deployed models are sent to, too."""
        hosted = HostedPipeline(name="text-b", version="1", modality="TEXT", dimension=8, pool="default")
        announced = PipelinesAnnounced(worker_id="w2", pipelines=[hosted], models_pool="default")
        await self._bus.tell(subjects.PIPELINES_ANNOUNCED, announced)

    async def validate(self, dataset_id: UUID, **changes: Any) -> None:  # noqa: ANN401 - any field
        """Look at a data set: 1,000 pictures of cats and dogs, unless the report is changed."""
        [row] = await self._db.fetch("SELECT job_id FROM datasets WHERE id = {}", dataset_id)
        claimed = await self.lane.claim(row["job_id"], "data")
        await self._objects.put(f"datasets/{dataset_id}/preview.png", PICTURE)
        report = validated(DatasetRow(dataset_id, row["job_id"]), **changes)
        await self.lane.publish(msgspec.structs.replace(report, attempt=claimed.attempt))
        await self.ended(row["job_id"])

    async def train(self, job_id: UUID) -> UUID:
        """Do a training that waits: some progress, a picture, a text, a checkpoint, a warning, a model."""
        claimed = await self.lane.claim(job_id)
        reports = Reports.of(claimed)
        picture = reports.picture(2)
        await self._objects.put(picture.object_key, PICTURE)
        text = await self.lane.put_sample(claimed, 3, "Once upon a time")
        exported = reports.model(6)
        for file in exported.stored.files:
            await self._objects.put(f"{exported.stored.prefix}/{file.name}", b"0123456789")
        await self._objects.put(f"{exported.stored.prefix}/encoder/README.md", CARD)
        await self.lane.publish(
            reports.progress(1), picture, text, reports.checkpoint(4), reports.warning(5), exported
        )
        await self.ended(job_id)
        return UUID(exported.model_id)

    async def generate(self, job_id: UUID) -> None:
        """Make two pictures."""
        reports = Reports.of(await self.lane.claim(job_id, "data"))
        made = reports.made(1)
        for file in made.stored.files:
            await self._objects.put(f"{made.stored.prefix}/{file.name}", PICTURE)
        await self.lane.publish(made)
        await self.ended(job_id)

    async def ended(self, job_id: UUID) -> None:
        """Wait until a job has ended."""

        async def has_ended() -> bool:
            [row] = await self._db.fetch("SELECT finished_at FROM jobs WHERE id = {}", job_id)
            return row["finished_at"] is not None

        await until(has_ended)


@pytest.fixture
def trainer(bus: MemoryBus, objects: ObjectStore, database: Database) -> TrainWorker:
    """A train worker that has not said anything yet."""
    return TrainWorker(bus, objects, database)


async def make_dataset(owner: GraphQLClient, trainer: TrainWorker, *, name: str = "pets") -> str:
    """Make a data set that is READY and return its id."""
    uploaded = await owner.upload("pets.csv", b"a,b\n1,2\n")
    created = await owner.data(CREATE_DATASET, input={"name": name, "fileId": uploaded["file"]["id"]})
    dataset_id: str = created["createDataset"]["dataset"]["id"]
    await trainer.validate(plain(dataset_id))
    return dataset_id


async def start_training(owner: GraphQLClient, dataset_id: str, **more: Any) -> str:  # noqa: ANN401 - JSON
    """Start a GAN and return the job's id."""
    wanted = {"name": "cats", "datasetId": dataset_id, "trainer": {"gan": {}}, **more}
    started = (await owner.data(START, input=wanted))["startTraining"]
    assert "TrainingJobPayload" == started["__typename"], started
    job_id: str = started["job"]["id"]
    return job_id


async def make_model(owner: GraphQLClient, trainer: TrainWorker) -> dict[str, str]:
    """Make a data set, a training and its model; return their ids by type."""
    dataset_id = await make_dataset(owner, trainer)
    job_id = await start_training(owner, dataset_id)
    model_id = ids.encode("Model", await trainer.train(plain(job_id)))
    return {"Dataset": dataset_id, "TrainingJob": job_id, "Model": model_id}


async def make_everything(owner: GraphQLClient, trainer: TrainWorker) -> dict[str, str]:
    """Make one of everything that a training needs and makes; the pipeline is called ``model/pets``."""
    made = await make_model(owner, trainer)
    started = (await owner.data(GENERATE, input={"modelId": made["Model"], "count": 2}))["generate"]
    await trainer.generate(plain(started["job"]["id"]))
    deployed = (await owner.data(DEPLOY, input={"modelId": made["Model"], "name": "pets"}))["deployModel"]
    pipeline_id = deployed["model"]["pipeline"]["id"]
    return {**made, "GenerationJob": started["job"]["id"], "Pipeline": pipeline_id}
