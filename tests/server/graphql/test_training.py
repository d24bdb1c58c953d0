"""From a file to a model of one's own: data sets, trainings, models, pipelines and what they generate."""

from typing import Any
from uuid import uuid4

import pytest

from bus.messages import RowIssue
from server.graphql import ids
from server.services import Services
from tests.server.graphql.test_accounts import create_key
from tests.server.graphql.test_nodes import spread
from tests.support.embedding import until
from tests.support.graphql import GraphQLClient, hear, say
from tests.support.trained import (
    CREATE_DATASET,
    DATASET_FIELDS,
    DEPLOY,
    GENERATE,
    JOB_FIELDS,
    MODEL_FIELDS,
    START,
    TrainWorker,
    make_dataset,
    make_everything,
    make_model,
    plain,
    start_training,
)

NODE = f"""
query($id: ID!) {{ node(id: $id) {{ __typename
  ... on Dataset {{ {DATASET_FIELDS} }} ... on TrainingJob {{ {JOB_FIELDS} }}
  ... on Model {{ {MODEL_FIELDS} }}
  ... on GenerationJob {{ state error count seed results {{ id name mediaType url }} }} }} }}
"""
FOLLOW = f"""
subscription($id: ID!, $after: String) {{
  trainingEvents(jobId: $id, after: $after) {{ {spread("TrainingEvent")} }}
}}
"""
RETIRE = f"""
mutation($input: RetireModelInput!) {{ retireModel(input: $input) {{ __typename
  ... on ModelPayload {{ model {{ {MODEL_FIELDS} }} }} ... on Error {{ code message path }} }} }}
"""
PIPELINE = "query($name: String!) { pipeline(name: $name) { id name version dimension available reason } }"


def on_job(mutation: str, kind: str) -> str:
    """Return a mutation of a job."""
    return f"""mutation($input: {kind}!) {{ {mutation}(input: $input) {{ __typename
      ... on TrainingJobPayload {{ job {{ {JOB_FIELDS} }} }} ... on Error {{ code message path }}
      ... on InvalidInput {{ problems {{ path message }} }} }} }}"""


CANCEL = on_job("cancelTraining", "CancelJobInput")
RESUME = on_job("resumeTraining", "ResumeTrainingInput")
CANCEL_GENERATION = """
mutation($input: CancelJobInput!) { cancelGeneration(input: $input) { __typename
  ... on GenerationJobPayload { job { state } } ... on Error { code path } } }
"""
DELETE_DATASET = """
mutation($input: DeleteDatasetInput!) { deleteDataset(input: $input) { __typename
  ... on DeleteDatasetPayload { datasetId } ... on Error { code message path } } }
"""
DELETE_MODEL = """
mutation($input: DeleteModelInput!) { deleteModel(input: $input) { __typename
  ... on DeleteModelPayload { modelId } ... on Error { code message path } } }
"""


@pytest.fixture
async def gil(ada: GraphQLClient, trainer: TrainWorker, services: Services) -> GraphQLClient:
    """Ada, beside a train worker that servers have heard of and an embed worker that takes models."""
    await trainer.announce()
    await trainer.take_models()

    async def is_known() -> bool:
        return bool(services.trainers.samples()) and services.pipelines.find_models_pool() is not None

    await until(is_known)
    return ada


async def ask(client: GraphQLClient, mutation: str, **input: Any) -> dict[str, Any]:  # noqa: ANN401, A002 - JSON
    """Send a mutation and return what it answers."""
    [result] = (await client.data(mutation, input=input)).values()
    found: dict[str, Any] = result
    return found


async def look(client: GraphQLClient, global_id: str) -> dict[str, Any]:
    """Return a node."""
    found: dict[str, Any] = (await client.data(NODE, id=global_id))["node"]
    return found


async def test_a_data_set_says_what_was_found_in_it(gil: GraphQLClient, trainer: TrainWorker) -> None:
    uploaded = (await gil.upload("pets.csv", b"a,b\n1,2\n"))["file"]["id"]

    created = (await ask(gil, CREATE_DATASET, name="pets", fileId=uploaded))["dataset"]
    issues = [RowIssue(row=3, message="It is no picture."), RowIssue(row=None, message="There are few.")]
    await trainer.validate(plain(created["id"]), issues=issues, num_issues=1500)
    found = await look(gil, created["id"])

    assert ("pets", 1, "VALIDATING") == (created["name"], created["versionNumber"], created["status"])
    unknown = (
        "kind",
        "modality",
        "rowCount",
        "classes",
        "classCounts",
        "shape",
        "contentSha256",
        "previewUrl",
    )
    assert [None] * 8 == [created[name] for name in unknown]
    assert ("READY", "IMAGES", "IMAGE", 1000) == tuple(
        found[name] for name in ("status", "kind", "modality", "rowCount")
    )
    assert ([28, 28, 1], 900, 100, 0) == tuple(
        found[name] for name in ("shape", "trainCount", "testCount", "unlabelledCount")
    )
    assert [{"name": "cat", "count": 600}, {"name": "dog", "count": 400}] == found["classCounts"]
    assert 1500 == found["issueCount"]
    assert [(3, "It is no picture."), (None, "There are few.")] == [
        (issue["row"], issue["message"]) for issue in found["issues"]
    ]
    assert f"/v1/datasets/{plain(created['id'])}/preview" == found["previewUrl"]
    again = (await ask(gil, CREATE_DATASET, name="pets", sample="digits"))["dataset"]
    assert 2 == again["versionNumber"]


async def test_what_can_be_no_data_set_is_refused_by_field(gil: GraphQLClient, bob: GraphQLClient) -> None:
    bobs = (await bob.upload("his.csv", b"a\n1\n"))["file"]["id"]
    wrong: list[tuple[dict[str, Any], str, list[str]]] = [
        ({"name": "", "sample": "digits"}, "INVALID_INPUT", ["input", "name"]),
        ({"name": "a"}, "INVALID_INPUT", ["input", "fileId"]),
        ({"name": "a", "fileId": bobs, "sample": "digits"}, "INVALID_INPUT", ["input", "fileId"]),
        ({"name": "a", "sample": "planets"}, "INVALID_INPUT", ["input", "sample"]),
        ({"name": "a", "fileId": "nonsense"}, "INVALID_INPUT", ["input", "fileId"]),
        ({"name": "a", "fileId": bobs}, "NOT_FOUND", ["input", "fileId"]),
        ({"name": "a", "fileId": ids.encode("File", uuid4())}, "NOT_FOUND", ["input", "fileId"]),
        (
            {"name": "a", "sample": "digits", "idempotencyKey": ""},
            "INVALID_INPUT",
            ["input", "idempotencyKey"],
        ),
    ]

    for given, code, path in wrong:
        refused = await ask(gil, CREATE_DATASET, **given)
        assert (code, path) == (refused.get("code"), refused.get("path")), given


async def test_everything_that_is_wrong_with_a_training_is_said_at_once(
    gil: GraphQLClient, trainer: TrainWorker
) -> None:
    dataset_id = await make_dataset(gil, trainer)
    told = {
        "learningRate": 20.0,
        "nCritic": 0,
        "loss": "WASSERSTEIN_GP",
        "r1": 1.0,
        "discriminatorLearningRate": -1.0,
    }

    refused = await ask(
        gil,
        START,
        name="",
        datasetId=dataset_id,
        trainer={"gan": told},
        maxSteps=0,
        priority=99,
    )

    assert ("InvalidInput", "INVALID_INPUT") == (refused["__typename"], refused["code"])
    assert refused["path"] == refused["problems"][0]["path"]
    below = ["input", "trainer", "gan"]
    assert sorted(
        [
            ["input", "name"],
            ["input", "maxSteps"],
            ["input", "priority"],
            *([*below, name] for name in told if name != "loss"),
        ]
    ) == sorted(problem["path"] for problem in refused["problems"])
    assert all(problem["message"] for problem in refused["problems"])


async def test_data_that_does_not_fit_the_trainer_is_said_beside_the_field(
    gil: GraphQLClient, trainer: TrainWorker
) -> None:
    dataset_id = await make_dataset(gil, trainer)

    refused = await ask(gil, START, name="names", datasetId=dataset_id, trainer={"rnn": {"task": "TAGGER"}})

    assert "INVALID_INPUT" == refused["code"]
    assert {"datasetId", "trainer"} >= {problem["path"][1] for problem in refused["problems"]}


@pytest.mark.parametrize(
    ("trainer_input", "path"),
    [
        ({"gan": {"epochs": "ten"}}, ["input", "trainer", "gan", "epochs"]),
        ({"gan": {"colour": 1}}, ["input", "trainer", "gan"]),
        ({"gan": {"loss": "hinge"}}, ["input", "trainer", "gan", "loss"]),
        ({"gan": {"epochs": None}}, ["input", "trainer", "gan", "epochs"]),
        ({"gan": {}, "rnn": {}}, ["input", "trainer"]),
        ({"gan": None}, ["input", "trainer", "gan"]),
        ({}, ["input", "trainer"]),
    ],
)
async def test_what_is_no_trainer_at_all_is_an_error_of_the_request(
    shell: GraphQLClient, trainer_input: dict[str, Any], path: list[str]
) -> None:
    wanted = {"name": "a", "datasetId": "b", "trainer": trainer_input}

    extensions = await shell.refusal(START, input=wanted)

    assert {"code": "INVALID_INPUT", "path": path} == extensions


async def test_a_training_is_followed_from_its_first_event_to_its_model(
    gil: GraphQLClient, trainer: TrainWorker
) -> None:
    dataset_id = await make_dataset(gil, trainer)
    job_id = await start_training(gil, dataset_id, seed=7, idempotencyKey="monday")

    async with gil.socket() as socket:
        payload = {"query": FOLLOW, "variables": {"id": job_id}}
        await say(socket, type="subscribe", id="1", payload=payload)
        model_id = await trainer.train(plain(job_id))
        events = []
        while (message := await hear(socket))["type"] != "complete":
            assert "errors" not in message["payload"], message
            events.append(message["payload"]["data"]["trainingEvents"])
        for number, event in enumerate(events):
            variables = {"id": job_id, "after": event["cursor"]}
            await say(socket, type="subscribe", id="2", payload={"query": FOLLOW, "variables": variables})
            rest = []
            while (message := await hear(socket))["type"] != "complete":
                rest.append(message["payload"]["data"]["trainingEvents"])
            assert events[number + 1 :] == rest

    assert [
        "JobStateChanged",
        "JobStateChanged",
        "TrainingProgressed",
        "SamplesGenerated",
        "SamplesGenerated",
        "CheckpointSaved",
        "TrainingWarned",
        "ModelExported",
        "JobStateChanged",
    ] == [event["__typename"] for event in events]
    _, _, progress, picture, text, checkpoint, warning, exported, last = events
    assert (1, 100, 0, 99.0) == (
        progress["step"],
        progress["totalSteps"],
        progress["epoch"],
        progress["etaSeconds"],
    )
    assert [{"__typename": "Metric", "name": "loss", "value": 1.0}] == progress["metrics"]
    assert (None, f"/v1/training/jobs/{plain(job_id)}/samples/") == (
        picture["text"],
        picture["imageUrl"][:-1],
    )
    assert ("Once upon a time", None) == (text["text"], text["imageUrl"])
    assert (4, "COLLAPSE") == (checkpoint["step"], warning["warning"])
    assert ids.encode("Model", model_id) == exported["model"]["id"]
    assert "SUCCEEDED" == last["state"]
    job = await look(gil, job_id)
    assert ("SUCCEEDED", 7, dataset_id, {"id": ids.encode("Model", model_id)}) == (
        job["state"],
        job["seed"],
        job["dataset"]["id"],
        job["model"],
    )
    assert job_id == await start_training(gil, dataset_id, seed=7, idempotencyKey="monday")


async def test_following_what_is_somebody_elses_is_refused(
    gil: GraphQLClient, bob: GraphQLClient, trainer: TrainWorker
) -> None:
    job_id = await start_training(gil, await make_dataset(gil, trainer))
    _, embedder = await create_key(gil, "EMBED")
    refused = [
        (bob, {"id": job_id}, {"code": "NOT_FOUND", "path": ["jobId"]}),
        (gil, {"id": ids.encode("TrainingJob", uuid4())}, {"code": "NOT_FOUND", "path": ["jobId"]}),
        (gil, {"id": ids.encode("EmbeddingJob", uuid4())}, {"code": "INVALID_INPUT", "path": ["jobId"]}),
        (gil, {"id": job_id, "after": "nonsense"}, {"code": "INVALID_INPUT", "path": ["after"]}),
        (embedder, {"id": job_id}, {"code": "FORBIDDEN"}),
    ]

    for client, variables, extensions in refused:
        async with client.socket() as socket:
            await say(socket, type="subscribe", id="1", payload={"query": FOLLOW, "variables": variables})
            message = await hear(socket)
        assert ("error", extensions) == (message["type"], message["payload"][0]["extensions"])


async def test_a_training_is_stopped_and_goes_on(gil: GraphQLClient, trainer: TrainWorker) -> None:
    job_id = await start_training(gil, await make_dataset(gil, trainer))

    stopped = await ask(gil, CANCEL, jobId=job_id)
    finished = await ask(gil, CANCEL, jobId=job_id)
    wrong = await ask(gil, RESUME, jobId=job_id, maxSteps=0, maxSeconds=0)
    resumed = await ask(gil, RESUME, jobId=job_id, maxSteps=500)
    too_soon = await ask(gil, RESUME, jobId=job_id)

    assert "CANCELLED" == stopped["job"]["state"]
    assert ("JobFinished", ["input", "jobId"]) == (finished["__typename"], finished["path"])
    assert [["input", "maxSteps"], ["input", "maxSeconds"]] == [
        problem["path"] for problem in wrong["problems"]
    ]
    assert ("QUEUED", 500) == (resumed["job"]["state"], resumed["job"]["totalSteps"])
    assert ("Conflict", ["input", "jobId"]) == (too_soon["__typename"], too_soon["path"])


async def test_a_model_answers_as_a_pipeline_until_it_is_retired(
    gil: GraphQLClient, bob: GraphQLClient, trainer: TrainWorker
) -> None:
    made = await make_model(gil, trainer)
    model_id = made["Model"]

    deployed = (await ask(gil, DEPLOY, modelId=model_id, name="pets"))["model"]
    found = (await gil.data(PIPELINE, name="model/pets"))["pipeline"]
    in_use = await ask(gil, DELETE_MODEL, modelId=model_id)
    unseen = await bob.refusal(PIPELINE, name="model/pets")
    bad = await ask(gil, DEPLOY, modelId=model_id, name="Not a name")
    retired = (await ask(gil, RETIRE, modelId=model_id))["model"]
    gone = await ask(gil, DELETE_MODEL, modelId=model_id)

    assert ("GAN", "IMAGES", "IMAGE", 64) == tuple(
        deployed[name] for name in ("trainer", "generates", "modality", "dimension")
    )
    url = f"/v1/training/models/{plain(model_id)}"
    assert (f"{url}/card", f"{url}/download") == (deployed["cardUrl"], deployed["downloadUrl"])
    assert (made["TrainingJob"], made["Dataset"]) == (deployed["job"]["id"], deployed["dataset"]["id"])
    assert ("model/pets", "1", 64, True, None) == tuple(
        found[name] for name in ("name", "version", "dimension", "available", "reason")
    )
    assert deployed["pipeline"] == found
    assert ("Conflict", ["input", "modelId"]) == (in_use["__typename"], in_use["path"])
    assert {"code": "NOT_FOUND", "path": ["name"]} == unseen
    assert ("INVALID_INPUT", ["input", "name"]) == (bad["code"], bad["path"])
    assert retired["pipeline"] is None
    assert {"__typename": "DeleteModelPayload", "modelId": model_id} == gone
    assert await look(gil, model_id) is None


async def test_a_data_set_that_is_deleted_is_still_told_of_by_what_was_made_of_it(
    gil: GraphQLClient, trainer: TrainWorker
) -> None:
    made = await make_model(gil, trainer)
    waiting = await start_training(gil, made["Dataset"])

    in_use = await ask(gil, DELETE_DATASET, datasetId=made["Dataset"])
    await ask(gil, CANCEL, jobId=waiting)
    deleted = await ask(gil, DELETE_DATASET, datasetId=made["Dataset"])

    assert ("Conflict", ["input", "datasetId"]) == (in_use["__typename"], in_use["path"])
    assert {"__typename": "DeleteDatasetPayload", "datasetId": made["Dataset"]} == deleted
    assert await look(gil, made["Dataset"]) is None
    assert "pets" == (await look(gil, made["TrainingJob"]))["dataset"]["name"]
    assert made["Dataset"] == (await look(gil, made["Model"]))["dataset"]["id"]
    lost = await ask(gil, START, name="a", datasetId=made["Dataset"], trainer={"gan": {}})
    assert ("NotFound", ["input", "datasetId"]) == (lost["__typename"], lost["path"])


async def test_the_history_of_a_model_that_is_deleted_goes_on_behind_it(
    gil: GraphQLClient, trainer: TrainWorker
) -> None:
    made = await make_model(gil, trainer)
    await ask(gil, DELETE_MODEL, modelId=made["Model"])

    async with gil.socket() as socket:
        payload = {"query": FOLLOW, "variables": {"id": made["TrainingJob"]}}
        await say(socket, type="subscribe", id="1", payload=payload)
        messages = []
        while (message := await hear(socket))["type"] != "complete":
            messages.append(message["payload"])

    lost, last = messages[-2:]
    assert [{"code": "NOT_FOUND"}] == [error["extensions"] for error in lost["errors"]]
    assert "SUCCEEDED" == last["data"]["trainingEvents"]["state"]


async def test_a_model_makes_pictures_that_are_files_of_its_owner(
    gil: GraphQLClient, trainer: TrainWorker
) -> None:
    made = await make_everything(gil, trainer)

    done = await look(gil, made["GenerationJob"])
    wrong = await ask(gil, GENERATE, modelId=made["Model"], count=0, topP=7.0, seed=-1)
    no_class = await ask(gil, GENERATE, modelId=made["Model"], label="cow")
    waiting = (await ask(gil, GENERATE, modelId=made["Model"]))["job"]
    stopped = await ask(gil, CANCEL_GENERATION, jobId=waiting["id"])

    assert ("SUCCEEDED", None, 2) == (done["state"], done["error"], done["count"])
    assert ["image/png"] * 2 == [file["mediaType"] for file in done["results"]]
    assert [["input", name] for name in ("count", "seed", "topP")] == [
        problem["path"] for problem in wrong["problems"]
    ]
    assert ["input", "label"] == no_class["path"]
    assert [["input", "label"]] == [problem["path"] for problem in no_class["problems"]]
    assert ("QUEUED", 16, 0) == (waiting["state"], waiting["count"], waiting["seed"])
    assert "CANCELLED" == stopped["job"]["state"]


async def test_the_lists_of_an_account_have_what_it_made(gil: GraphQLClient, trainer: TrainWorker) -> None:
    made = await make_everything(gil, trainer)
    lists = {
        "datasets": "Dataset",
        "trainingJobs": "TrainingJob",
        "models": "Model",
        "generationJobs": "GenerationJob",
    }
    query = " ".join(f"{name}(first: 5) {{ edges {{ node {{ id }} }} }}" for name in lists)
    _, embedder = await create_key(gil, "EMBED")

    viewer = (await gil.data(f"{{ viewer {{ {query} }} }}"))["viewer"]
    refused = await embedder.send(f"{{ viewer {{ {query} }} }}")

    for name, kind in lists.items():
        assert [made[kind]] == [edge["node"]["id"] for edge in viewer[name]["edges"]]
    assert ["FORBIDDEN"] == [error["extensions"]["code"] for error in refused["errors"]]


async def test_a_key_needs_the_scope_for_training(gil: GraphQLClient, trainer: TrainWorker) -> None:
    made = await make_model(gil, trainer)
    _, reader = await create_key(gil, "READ")
    job, model, dataset = made["TrainingJob"], made["Model"], made["Dataset"]
    forbidden: list[tuple[str, dict[str, Any]]] = [
        (CREATE_DATASET, {"name": "a", "sample": "digits"}),
        (DELETE_DATASET, {"datasetId": dataset}),
        (START, {"name": "a", "datasetId": dataset, "trainer": {"gan": {}}}),
        (CANCEL, {"jobId": job}),
        (RESUME, {"jobId": job}),
        (DEPLOY, {"modelId": model, "name": "a"}),
        (RETIRE, {"modelId": model}),
        (DELETE_MODEL, {"modelId": model}),
        (GENERATE, {"modelId": model}),
        (CANCEL_GENERATION, {"jobId": ids.encode("GenerationJob", uuid4())}),
    ]

    for mutation, given in forbidden:
        assert "Forbidden" == (await ask(reader, mutation, **given))["__typename"], mutation


async def test_issues_of_many_data_sets_are_bounded_like_nodes(
    gil: GraphQLClient, trainer: TrainWorker
) -> None:
    dataset_id = await make_dataset(gil, trainer)
    query = "query($id: ID!, $n: Int!) { node(id: $id) { ... on Dataset { issues(first: $n) { row } } } }"

    for number in (0, 1001):
        assert {"code": "INVALID_INPUT", "path": ["first"]} == await gil.refusal(
            query, id=dataset_id, n=number
        )


async def test_rows_of_a_data_set_that_is_not_there_are_not_embedded(
    gil: GraphQLClient, bob: GraphQLClient, trainer: TrainWorker
) -> None:
    create = """mutation($input: CreateEmbeddingJobInput!) { createEmbeddingJob(input: $input) { __typename
      ... on Error { code path } } }"""
    dataset_id = await make_dataset(gil, trainer)
    both = await ask(gil, create, texts=["a"], datasetId=dataset_id)
    bobs = await ask(bob, create, datasetId=dataset_id)
    nobodys = await ask(gil, create, datasetId=ids.encode("Dataset", uuid4()))

    assert ("INVALID_INPUT", ["input", "datasetId"]) == (both["code"], both["path"])
    assert {"__typename": "NotFound", "code": "NOT_FOUND", "path": ["input", "datasetId"]} == bobs == nobodys
