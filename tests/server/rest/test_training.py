"""Data sets, trainings, models and generations over REST."""

import json
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

import httpx
import pytest

from server.ids import new_id
from server.services import Services
from tests.server.graphql.test_accounts import create_key
from tests.support.embedding import until
from tests.support.faces import User
from tests.support.trained import CARD, DRAWING, PICTURE, ZIP_NAMES, TrainWorker

JOBS, MODELS = "/v1/training/jobs", "/v1/training/models"
GENERATIONS, DATASETS = "/v1/training/generations", "/v1/datasets"
SANDBOXED = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "cache-control": "private, no-store",
}


async def make_dataset(eve: User, trainer: TrainWorker) -> str:
    """Make a data set that is READY and return its id."""
    uploaded = await eve.rest("POST", "/v1/files", files={"file": ("pets.csv", b"a,b\n1,2\n")})
    made = await eve.rest("POST", DATASETS, json={"name": "pets", "file_id": uploaded.json()["id"]})
    dataset_id: str = made.json()["id"]
    await trainer.validate(UUID(dataset_id))
    return dataset_id


async def start(eve: User, dataset_id: str, **more: object) -> httpx.Response:
    """Start a GAN."""
    body = {"name": "cats", "dataset_id": dataset_id, "trainer": {"gan": {}}, **more}
    return await eve.rest("POST", JOBS, json=body)


async def make_model(eve: User, trainer: TrainWorker) -> tuple[str, str]:
    """Train a model; return the ids of the training and of the model."""
    job_id = (await start(eve, await make_dataset(eve, trainer))).json()["id"]
    return job_id, str(await trainer.train(UUID(job_id)))


def error_of(answer: httpx.Response) -> tuple[int, str, list[str] | None]:
    """Say shortly what was refused."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["path"]


def is_sandboxed(headers: Mapping[str, str]) -> bool:
    """Whether what a user made is sent so that it can't run on our origin."""
    return headers["content-disposition"].startswith("attachment; ") and SANDBOXED.items() <= headers.items()


async def test_a_data_set_is_made_looked_into_and_deleted(eve: User, trainer: TrainWorker) -> None:
    uploaded = (await eve.rest("POST", "/v1/files", files={"file": ("pets.csv", b"a,b\n1,2\n")})).json()["id"]
    body = {"name": "pets", "file_id": uploaded}

    made = await eve.rest("POST", DATASETS, json=body, headers={"idempotency-key": "monday"})
    again = await eve.rest("POST", DATASETS, json={**body, "idempotency_key": "monday"})
    dataset_id = made.json()["id"]
    too_soon = await eve.rest("GET", f"{DATASETS}/{dataset_id}/preview")
    await trainer.validate(UUID(dataset_id))
    found = (await eve.rest("GET", made.headers["location"])).json()
    [listed] = (await eve.rest("GET", DATASETS)).json()["data"]
    preview = await eve.rest("GET", found["preview_url"])
    deleted = await eve.rest("DELETE", f"{DATASETS}/{dataset_id}")
    gone = await eve.rest("GET", f"{DATASETS}/{dataset_id}")

    assert (202, "VALIDATING", None) == (made.status_code, made.json()["status"], made.json()["preview_url"])
    assert made.json() == again.json()
    assert (409, "CONFLICT", ["dataset_id"]) == error_of(too_soon)
    assert ("READY", "images", 1000, {"cat": 600, "dog": 400}, 900, 100) == tuple(
        found[name] for name in ("status", "kind", "row_count", "class_counts", "train_count", "test_count")
    )
    assert [] == found.pop("issues")
    assert found == listed
    assert (200, "image/png", PICTURE) == (
        preview.status_code,
        preview.headers["content-type"],
        preview.content,
    )
    assert is_sandboxed(preview.headers)
    assert (204, 404) == (deleted.status_code, gone.status_code)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "INVALID_INPUT", ["name"])),
        ({"name": "a"}, (400, "INVALID_INPUT", ["file_id"])),
        ({"name": "a", "file_id": "mine"}, (404, "NOT_FOUND", ["file_id"])),
        ({"name": "a", "file_id": str(new_id())}, (404, "NOT_FOUND", ["file_id"])),
        ({"name": "a", "colour": "blue"}, (400, "INVALID_INPUT", ["colour"])),
        ({"name": "a", "sample": "digits"}, (429, "BUSY", None)),
    ],
)
async def test_what_can_be_no_data_set_is_refused_by_field(
    eve: User, body: dict[str, object], expected: tuple[int, str, list[str] | None]
) -> None:
    assert expected == error_of(await eve.rest("POST", DATASETS, json=body))


async def test_everything_that_is_wrong_with_a_training_is_said_at_once(
    eve: User, trainer: TrainWorker
) -> None:
    dataset_id = await make_dataset(eve, trainer)
    told = {"learning_rate": 20, "n_critic": "five", "colour": 1}

    several = await start(eve, dataset_id, name="", trainer={"gan": told}, max_steps=0)
    nobody = await start(eve, dataset_id, trainer={"unicorn": {}})
    two = await start(eve, dataset_id, trainer={"gan": {}, "rnn": {}})
    no_set = await start(eve, str(new_id()))
    no_id = await start(eve, "mine")
    no_parent = await start(eve, dataset_id, parent_model_id=str(new_id()))

    assert 400 == several.status_code
    assert sorted([["name"], ["max_steps"], *(["trainer", "gan", name] for name in told)]) == sorted(
        problem["path"] for problem in several.json()["error"]["problems"]
    )
    assert (400, "INVALID_INPUT", ["trainer"]) == error_of(nobody) == error_of(two)
    assert (404, "NOT_FOUND", ["dataset_id"]) == error_of(no_set) == error_of(no_id)
    assert (404, "NOT_FOUND", ["parent_model_id"]) == error_of(no_parent)
    assert "problems" not in nobody.json()["error"]


async def test_a_key_in_a_header_is_as_good_as_one_in_the_body(eve: User, trainer: TrainWorker) -> None:
    dataset_id = await make_dataset(eve, trainer)
    body = {"name": "cats", "dataset_id": dataset_id, "trainer": {"gan": {}}}
    key = {"idempotency-key": "monday"}

    first = await eve.rest("POST", JOBS, json=body, headers=key)
    again = await eve.rest("POST", JOBS, json={**body, "idempotency_key": "monday"})
    other = await eve.rest("POST", JOBS, json={**body, "seed": 1}, headers=key)
    two = await eve.rest("POST", JOBS, json={**body, "idempotency_key": "tuesday"}, headers=key)

    assert (202, first.json()) == (again.status_code, again.json())
    assert (409, "CONFLICT", ["idempotency_key"]) == error_of(other)
    assert (400, "INVALID_INPUT", ["idempotency_key"]) == error_of(two)


def events_of(text: str) -> list[dict[str, Any]]:
    """Read server-sent events as a browser does."""
    events = [
        dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block
    ]
    return [{**event, "data": json.loads(event["data"])} for event in events]


async def test_a_training_is_followed_and_goes_on_behind_the_last_event(
    eve: User, trainer: TrainWorker
) -> None:
    job_id, model_id = await make_model(eve, trainer)
    url = f"{JOBS}/{job_id}/events"

    answer = await eve.rest("GET", url)
    events = events_of(answer.text)
    for number, event in enumerate(events[:-1], start=1):
        rest = await eve.rest("GET", url, headers={"last-event-id": event["id"]})
        assert events[number:] == events_of(rest.text)
    over = await eve.rest("GET", url, headers={"last-event-id": events[-1]["id"]})
    wrong = await eve.rest("GET", url, headers={"last-event-id": "yesterday"})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [
        "job_state_changed",
        "job_state_changed",
        "training_progressed",
        "samples_generated",
        "samples_generated",
        "checkpoint_saved",
        "training_warned",
        "model_exported",
        "job_state_changed",
    ] == [event["event"] for event in events]
    _, _, progress, picture, text, checkpoint, warning, exported, last = (event["data"] for event in events)
    assert ({"loss": 1.0}, 1, 100, 99.0) == (
        progress["metrics"],
        progress["step"],
        progress["total_steps"],
        progress["eta_seconds"],
    )
    assert (None, "Once upon a time", None) == (picture["text"], text["text"], text["image_url"])
    assert (4, "COLLAPSE", model_id, "SUCCEEDED") == (
        checkpoint["step"],
        warning["warning"],
        exported["model_id"],
        last["state"],
    )
    assert 204 == over.status_code
    assert (400, "INVALID_INPUT", ["after"]) == error_of(wrong)
    shown = await eve.rest("GET", picture["image_url"])
    assert (200, "image/png", PICTURE) == (shown.status_code, shown.headers["content-type"], shown.content)
    assert is_sandboxed(shown.headers)
    for seq in (0, 1, 10**30):
        assert 404 == (await eve.rest("GET", f"{JOBS}/{job_id}/samples/{seq}")).status_code


async def test_a_training_is_shown_stopped_and_goes_on(eve: User, trainer: TrainWorker) -> None:
    started = await start(eve, await make_dataset(eve, trainer), seed=7)
    url = started.headers["location"]

    found = (await eve.rest("GET", url)).json()
    listed = (await eve.rest("GET", JOBS)).json()
    stopped = await eve.rest("POST", f"{url}/cancel")
    twice = await eve.rest("POST", f"{url}/cancel")
    wrong = await eve.rest("POST", f"{url}/resume", json={"max_steps": 0, "max_seconds": 0})
    resumed = await eve.rest("POST", f"{url}/resume", json={"max_steps": 500})

    assert (202, found) == (started.status_code, started.json())
    assert ("QUEUED", 7, "GAN", None, f"{url}/events") == tuple(
        found[name] for name in ("state", "seed", "trainer", "error", "events_url")
    )
    assert {"data": [found], "has_more": False, "next_cursor": None} == listed
    assert (200, "CANCELLED") == (stopped.status_code, stopped.json()["state"])
    assert (409, "JOB_FINISHED", ["job_id"]) == error_of(twice)
    assert [["max_steps"], ["max_seconds"]] == [
        problem["path"] for problem in wrong.json()["error"]["problems"]
    ]
    assert (202, "QUEUED", 500) == (
        resumed.status_code,
        resumed.json()["state"],
        resumed.json()["total_steps"],
    )


async def test_a_model_is_read_downloaded_deployed_and_deleted(
    eve: User, mal: User, trainer: TrainWorker, services: Services
) -> None:
    await trainer.take_models()

    async def is_known() -> bool:
        return services.pipelines.find_models_pool() is not None

    await until(is_known)
    job_id, model_id = await make_model(eve, trainer)
    url = f"{MODELS}/{model_id}"

    found = (await eve.rest("GET", url)).json()
    listed = (await eve.rest("GET", MODELS)).json()["data"]
    card = await eve.rest("GET", found["card_url"])
    download = await eve.rest("GET", found["download_url"])
    bad = await eve.rest("POST", f"{url}/deploy", json={"name": "Not a name"})
    deployed = await eve.rest("POST", f"{url}/deploy", json={"name": "pets"})
    as_pipeline = await eve.rest("GET", "/v1/models/model/pets")
    names = [one["id"] for one in (await eve.rest("GET", "/v1/models")).json()["data"]]
    others = [one["id"] for one in (await mal.rest("GET", "/v1/models")).json()["data"]]
    in_use = await eve.rest("DELETE", url)
    retired = await eve.rest("POST", f"{url}/retire")
    deleted = await eve.rest("DELETE", url)

    assert ([found], job_id, "images", None) == (
        listed,
        found["job_id"],
        found["generates"],
        found["pipeline"],
    )
    assert (200, CARD, "text/markdown; charset=utf-8") == (
        card.status_code,
        card.content,
        card.headers["content-type"],
    )
    assert is_sandboxed(card.headers)
    assert "application/zip" == download.headers["content-type"]
    assert is_sandboxed(download.headers)
    with zipfile.ZipFile(BytesIO(download.content)) as files:
        assert ZIP_NAMES == set(files.namelist())
    assert (400, "INVALID_INPUT", ["name"]) == error_of(bad)
    assert {"name": "model/pets", "version": "1", "available": True, "reason": None} == deployed.json()[
        "pipeline"
    ]
    assert ("model/pets", True, 64) == tuple(
        as_pipeline.json()[name] for name in ("id", "available", "dimension")
    )
    assert ("model/pets" in names, "model/pets" in others) == (True, False)
    assert (409, "CONFLICT", ["model_id"]) == error_of(in_use)
    assert (200, None) == (retired.status_code, retired.json()["pipeline"])
    assert (204, 404) == (deleted.status_code, (await eve.rest("GET", url)).status_code)


async def test_a_model_makes_pictures_that_are_files_of_its_owner(eve: User, trainer: TrainWorker) -> None:
    _, model_id = await make_model(eve, trainer)
    url = f"{MODELS}/{model_id}/generate"

    started = await eve.rest("POST", url, json={"count": 2}, headers={"idempotency-key": "monday"})
    again = await eve.rest("POST", url, json={"count": 2, "idempotency_key": "monday"})
    await trainer.generate(UUID(started.json()["id"]))
    done = (await eve.rest("GET", started.headers["location"])).json()
    waiting = (await eve.rest("POST", url, json={})).json()
    listed = (await eve.rest("GET", GENERATIONS)).json()["data"]
    stopped = await eve.rest("POST", f"{GENERATIONS}/{waiting['id']}/cancel")
    twice = await eve.rest("POST", f"{GENERATIONS}/{waiting['id']}/cancel")
    _, key = await create_key(eve, "TRAIN")
    content = await User(eve.url, eve.http, key.token).rest("GET", done["files"][0]["url"])

    assert (202, "QUEUED", started.json()) == (started.status_code, started.json()["state"], again.json())
    assert ("SUCCEEDED", 2, ["image/png"] * 2) == (
        done["state"],
        done["count"],
        [file["media_type"] for file in done["files"]],
    )
    assert (DRAWING, "image/png") == (content.content, content.headers["content-type"])
    assert [waiting, done] == listed
    assert (200, "CANCELLED") == (stopped.status_code, stopped.json()["state"])
    assert (409, "JOB_FINISHED", ["job_id"]) == error_of(twice)
    for body, path in (({"count": 0}, "count"), ({"top_p": 7}, "top_p"), ({"colour": 1}, "colour")):
        assert (400, "INVALID_INPUT", [path]) == error_of(await eve.rest("POST", url, json=body))
    assert (400, "INVALID_INPUT", ["label"]) == error_of(await eve.rest("POST", url, json={"label": "cow"}))


async def test_a_key_without_the_scope_sees_and_does_nothing(eve: User, trainer: TrainWorker) -> None:
    job_id, model_id = await make_model(eve, trainer)
    _, embedder = await create_key(eve, "EMBED")
    _, reader = await create_key(eve, "READ")
    sees = [
        DATASETS,
        JOBS,
        f"{JOBS}/{job_id}",
        f"{JOBS}/{job_id}/events",
        f"{JOBS}/{job_id}/samples/3",
        MODELS,
        f"{MODELS}/{model_id}",
        f"{MODELS}/{model_id}/card",
        f"{MODELS}/{model_id}/download",
        GENERATIONS,
    ]
    does: list[tuple[str, str, dict[str, object] | None]] = [
        ("POST", DATASETS, {"name": "a", "sample": "digits"}),
        ("POST", JOBS, {"name": "a", "dataset_id": str(new_id()), "trainer": {"gan": {}}}),
        ("POST", f"{JOBS}/{job_id}/cancel", None),
        ("POST", f"{JOBS}/{job_id}/resume", {}),
        ("POST", f"{MODELS}/{model_id}/deploy", {"name": "a"}),
        ("POST", f"{MODELS}/{model_id}/retire", None),
        ("POST", f"{MODELS}/{model_id}/generate", {}),
        ("POST", f"{GENERATIONS}/{new_id()}/cancel", None),
        ("DELETE", f"{MODELS}/{model_id}", None),
        ("DELETE", f"{DATASETS}/{new_id()}", None),
    ]

    for path in sees:
        answer = await User(eve.url, eve.http, embedder.token).rest("GET", path)
        assert 403 == answer.status_code, path
    for method, path, body in does:
        answer = await User(eve.url, eve.http, reader.token).rest(method, path, json=body)
        assert 403 == answer.status_code, path
