"""Users who train: they go to the other server when the first does not do, as an SDK would."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from tests.faults.harness.clients import BROKEN, RETRY_S, Refused, User, Watched
from tests.faults.harness.trainings.recipes import RECIPES
from tests.faults.harness.trainings.seen import TrainingEventSeen, TrainingSeen

T = TypeVar("T")

#: A watcher who leaves on purpose leaves after so many events at the latest.
_LONGEST_STAY = 11

CREATE_DATASET = """
    mutation($name: String!, $sample: String!) {
      createDataset(input: {name: $name, sample: $sample}) {
        ... on DatasetPayload { dataset { id } }
        ... on Error { code message }
      }
    }"""
DATASET = "query($id: ID!) { node(id: $id) { ... on Dataset { status issues { message } } } }"
START = """
    mutation($input: StartTrainingInput!) {
      startTraining(input: $input) {
        ... on TrainingJobPayload { job { id } }
        ... on Error { code message path }
      }
    }"""
CANCEL = """
    mutation($job: ID!) {
      cancelTraining(input: {jobId: $job}) {
        ... on TrainingJobPayload { job { state } }
        ... on Error { code message }
      }
    }"""
RESUME = """
    mutation($job: ID!) {
      resumeTraining(input: {jobId: $job}) {
        ... on TrainingJobPayload { job { state } }
        ... on Error { code message }
      }
    }"""
WATCH = """
    subscription($job: ID!, $after: String) {
      trainingEvents(jobId: $job, after: $after) {
        __typename
        ... on JobEvent { cursor attempt }
        ... on JobStateChanged { state }
        ... on TrainingProgressed { step }
        ... on CheckpointSaved { step }
        ... on SamplesGenerated { step }
      }
    }"""
JOB = "query($id: ID!) { node(id: $id) { ... on TrainingJob { state model { sha256 } } } }"
NEWEST = "{ viewer { trainingJobs(first: 100) { edges { node { id } } } } }"


class Learner(User):
    """One user; what they see of a training goes into its record."""

    def __init__(self, urls: list[str], secret: str) -> None:
        super().__init__(urls, secret)
        self._datasets: dict[str, str] = {}
        self._known_trainings: set[str] = set()

    def owns_training(self, job_id: str) -> bool:
        """Whether an answer to this user named the training."""
        return job_id in self._known_trainings

    async def prepare(self, sample: str) -> None:
        """Make a data set of a sample, while all is well, and wait until it is ready."""
        if sample in self._datasets:
            return
        created = (await self.graphql(0, CREATE_DATASET, name=sample, sample=sample))["createDataset"]
        assert "dataset" in created, created
        dataset_id: str = created["dataset"]["id"]
        async with asyncio.timeout(60):
            while True:
                node = (await self.graphql(0, DATASET, id=dataset_id))["node"]
                if node["status"] == "READY":
                    break
                assert node["status"] == "VALIDATING", node
                await asyncio.sleep(RETRY_S)
        self._datasets[sample] = dataset_id

    async def start(self, training: TrainingSeen, rng: Random) -> None:
        """Start a training until it is accepted; sometimes once more under the same key, elsewhere."""
        again = rng.random() < 0.25
        while not training.ids or again:
            again = again and not training.ids
            job_id = await self._insist(rng, "a training", lambda replica: self._start(training, replica))
            training.ids.append(job_id)
            self._known_trainings.add(job_id)

    async def _start(self, training: TrainingSeen, replica: int) -> str:
        recipe = RECIPES[training.recipe]
        given = {
            "name": training.recipe,
            "datasetId": self._datasets[recipe.data],
            "trainer": recipe.trainer,
            "seed": recipe.seed,
            "maxSteps": recipe.max_steps,
            "idempotencyKey": training.idempotency_key,
        }
        result = (await self.graphql(replica, START, input=given))["startTraining"]
        if "code" in result:
            raise Refused(result["code"])
        job_id: str = result["job"]["id"]
        return job_id

    async def cancel_training(self, training: TrainingSeen, rng: Random) -> None:
        """Order a training to be cancelled until the order is answered."""

        async def ask(replica: int) -> str:
            training.num_cancels += 1
            result = (await self.graphql(replica, CANCEL, job=training.ids[0]))["cancelTraining"]
            return _state_or_code(result, "JOB_FINISHED")

        await self._insist(rng, "a cancellation", ask)

    async def resume_training(self, training: TrainingSeen, rng: Random) -> None:
        """Let a cancelled training go on; one that was quicker than its cancellation needs nothing."""

        async def ask(replica: int) -> str:
            result = (await self.graphql(replica, RESUME, job=training.ids[0]))["resumeTraining"]
            return _state_or_code(result, "CONFLICT", "JOB_FINISHED")

        await self._insist(rng, "a resume", ask)

    async def watch_training(
        self, training: TrainingSeen, events: list[TrainingEventSeen], rng: Random, *, leaves: int = 0
    ) -> None:
        """Read a training's events to its end, over as many sockets as it takes."""
        watched = Watched(
            query=WATCH, job_id=training.ids[0], events=events, event_of=_event_of, longest_stay=_LONGEST_STAY
        )
        await self.follow(watched, rng, leaves=leaves)

    async def look_back_at(self, training: TrainingSeen, rng: Random) -> None:
        """Read all there is to know of a training that has ended, when all is well again."""
        history: list[TrainingEventSeen] = []
        await self.watch_training(training, history, rng)
        node = (await self.ask(JOB, id=training.ids[0]))["node"]
        if node is not None:
            training.history = history
            training.state = node["state"]
            training.sha256 = node["model"] and node["model"]["sha256"]

    async def find_unknown(self) -> list[str]:
        """Find trainings of ours that no answer has named."""
        viewer = (await self.ask(NEWEST))["viewer"]
        ids = {edge["node"]["id"] for edge in viewer["trainingJobs"]["edges"]}
        unknown = sorted(ids - self._known_trainings)
        self._known_trainings |= ids
        return unknown

    async def _insist(self, rng: Random, what: str, ask: Callable[[int], Awaitable[T]]) -> T:
        """Ask here or there until there is an answer."""
        replica = rng.randrange(len(self.urls))
        while True:
            try:
                return await ask(replica)
            except BROKEN:
                await asyncio.sleep(RETRY_S)
            except Refused as refused:
                self.note(what, refused.code)
                await asyncio.sleep(RETRY_S)
            replica = (replica + 1) % len(self.urls)


def _state_or_code(result: dict[str, Any], *known: str) -> str:
    if "code" in result:
        if result["code"] not in known:
            raise Refused(result["code"])
        return str(result["code"])
    return str(result["job"]["state"])


def _event_of(data: Any) -> TrainingEventSeen:  # noqa: ANN401 - JSON
    event = data["trainingEvents"]
    return TrainingEventSeen(
        kind=event["__typename"],
        cursor=event["cursor"],
        attempt=event["attempt"],
        at_s=time.monotonic(),
        state=event.get("state"),
        step=event.get("step"),
    )
