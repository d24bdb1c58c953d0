"""Deployed models come when they are asked for, once, for their owner alone, and make room for each other."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bus.errors import ObjectStoreError
from bus.messages import DeployedModel
from bus.objects import ObjectStore
from tests.workers.deployed import deploy, make_artifact, store
from tests.workers.rig import soon
from workers.embed.hosting import Pipeline
from workers.embed.items import Expired, Matrix, ModelNotAtHand, ModelRefused, Prepared
from workers.embed.models import shelf as shelf_module
from workers.embed.models.files import ModelFiles
from workers.embed.models.shelf import ModelShelf
from workers.embed.models.trained import open_trained
from workers.nets.manifest import load_artifact

TEXT = "the lion sleeps"
ROOMY = 1 << 30


class Loading:
    """Loads for real; counts, and waits while its gate is closed."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, folder: Path, dimension: int) -> Pipeline:
        self.folders.append(folder)
        assert self.gate.wait(20)
        return open_trained(folder, dimension=dimension, max_pixels=1_000_000)


class Shelves:
    """Makes shelves over one object store, one folder on disk and one way to load."""

    def __init__(self, objects: ObjectStore, place: Path) -> None:
        self.objects = objects
        self.folder = place / "models"
        self.loading = Loading()
        self.pipelines: dict[str, Pipeline] = {}
        self.made: list[ModelShelf] = []

    def make(self, *, max_bytes: int = ROOMY) -> ModelShelf:
        files = ModelFiles(self.objects, self.folder, max_bytes=max_bytes)
        self.made.append(ModelShelf(files, self.loading, self.pipelines))
        return self.made[-1]

    async def embed(self, shelf: ModelShelf, model: DeployedModel, text: str = TEXT) -> Matrix:
        """Embed as the engine would."""
        async with shelf.borrowed(model) as name:
            (prepared,) = self.pipelines[name].prepare_texts([text])
            assert isinstance(prepared, Prepared)
            return self.pipelines[name].run([prepared.payload])

    def on_disk(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
async def shelves(objects: ObjectStore, tmp_path: Path) -> AsyncIterator[Shelves]:
    shelves = Shelves(objects, tmp_path)
    yield shelves
    shelves.loading.gate.set()
    for shelf in shelves.made:
        await shelf.close()


@pytest.fixture(autouse=True)
def _told_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "_FAILED_FOR_S", 0.0)


@pytest.fixture
async def model(objects: ObjectStore, tmp_path: Path) -> DeployedModel:
    return await deploy(objects, tmp_path / "artifact")


def changed(model: DeployedModel, **fields: object) -> DeployedModel:
    return msgspec.structs.replace(model, **fields)


async def refusal_of(shelf: ModelShelf, model: DeployedModel) -> tuple[str, str]:
    with pytest.raises(ModelRefused) as refused:
        async with shelf.borrowed(model):
            pass
    await asyncio.sleep(0)
    return refused.value.code, refused.value.message


def bytes_of(model: DeployedModel, objects_folder: Path) -> int:
    folder = objects_folder / model.prefix
    return sum(path.stat().st_size for path in folder.iterdir() if path.name != "README.md")


async def test_a_model_gives_its_own_vectors_and_is_loaded_once(
    shelves: Shelves, objects: ObjectStore, tmp_path: Path
) -> None:
    make_artifact(tmp_path / "artifact", "pooled words")
    expected = load_artifact(tmp_path / "artifact").embed([TEXT])
    model = await store(objects, tmp_path / "artifact", dimension=7)
    shelf = shelves.make()

    vectors = [await shelves.embed(shelf, model) for _ in range(3)]

    for vector in vectors:
        np.testing.assert_allclose(expected / np.linalg.norm(expected), vector, atol=1e-5)
    assert 1 == len(shelves.loading.folders)
    assert [f"{model.model_id}.{model.manifest_sha256}"] == shelves.on_disk()
    assert bytes_of(model, tmp_path / "objects") == shelf.num_bytes


async def test_first_calls_at_the_same_moment_wait_for_one_load(
    shelves: Shelves, model: DeployedModel
) -> None:
    shelf = shelves.make()
    shelves.loading.gate.clear()
    calls = [asyncio.create_task(shelves.embed(shelf, model, f"the lion {number}")) for number in range(20)]
    await soon(lambda: shelves.loading.folders)
    calls.append(asyncio.create_task(shelves.embed(shelf, model)))
    calls[0].cancel()

    shelves.loading.gate.set()
    rows = await asyncio.gather(*calls[1:])

    assert (20, 1) == (len(rows), len(shelves.loading.folders))


async def test_somebody_elses_model_looks_like_none_whether_or_not_it_is_loaded(
    shelves: Shelves, model: DeployedModel
) -> None:
    shelf = shelves.make()
    stranger = changed(model, owner_id="owner-2")
    nowhere = changed(model, model_id="0190c1de-0000-7000-8000-000000000000")

    said = [await refusal_of(shelf, stranger)]
    await shelves.embed(shelf, model)
    said += [await refusal_of(shelf, stranger), await refusal_of(shelf, nowhere)]

    assert {("NOT_FOUND", "There is no such model.")} == set(said)
    assert 1 == len(shelves.loading.folders)
    await shelves.embed(shelf, model)
    assert 1 == len(shelves.loading.folders), "the owner was not disturbed"


async def test_a_strangers_call_beside_the_owners_first_gets_nothing(
    shelves: Shelves, model: DeployedModel
) -> None:
    shelf = shelves.make()
    shelves.loading.gate.clear()
    own = asyncio.create_task(shelves.embed(shelf, model))
    await soon(lambda: shelves.loading.folders)
    strange = asyncio.create_task(refusal_of(shelf, changed(model, owner_id="owner-2")))

    shelves.loading.gate.set()

    assert "NOT_FOUND" == (await strange)[0]
    assert (1, 7) == (await own).shape


@pytest.mark.parametrize("model_id", ["../../etc", "a/b", "", "x" * 65])
async def test_an_id_that_leads_elsewhere_is_no_model(
    shelves: Shelves, model: DeployedModel, model_id: str
) -> None:
    assert "NOT_FOUND" == (await refusal_of(shelves.make(), changed(model, model_id=model_id)))[0]


async def tamper_weights(objects: ObjectStore, model: DeployedModel) -> None:
    await objects.put(f"{model.prefix}/weights.safetensors", b"other weights")


async def tamper_manifest(objects: ObjectStore, model: DeployedModel) -> None:
    key = f"{model.prefix}/manifest.json"
    await objects.put(key, await objects.get(key) + b"\n")


async def lose_the_tokenizer(objects: ObjectStore, model: DeployedModel) -> None:
    await objects.delete(f"{model.prefix}/tokenizer.json")


@pytest.mark.parametrize("harm", [tamper_weights, tamper_manifest, lose_the_tokenizer])
async def test_files_that_are_not_what_was_exported_are_refused_and_not_kept(
    harm: Callable[..., object], shelves: Shelves, objects: ObjectStore, model: DeployedModel
) -> None:
    await harm(objects, model)  # type: ignore[misc]
    shelf = shelves.make()

    code, message = await refusal_of(shelf, model)

    assert "INTERNAL" == code
    assert message.startswith("The model's files are ")
    assert ([], [], 0) == (shelves.on_disk(), shelves.loading.folders, shelf.num_bytes)


async def test_a_manifest_that_names_other_files_is_refused(
    shelves: Shelves, objects: ObjectStore, tmp_path: Path
) -> None:
    """Even where its owner's entry says that this is the manifest."""
    make_artifact(tmp_path / "artifact", "pooled words")
    path = tmp_path / "artifact" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "files": {"../../planted": "0" * 64, **manifest["files"]}}))
    model = await store(objects, tmp_path / "artifact", dimension=7)

    assert "INTERNAL" == (await refusal_of(shelves.make(), model))[0]
    assert [] == shelves.on_disk()


async def test_a_failure_is_told_and_the_next_call_tries_again(
    shelves: Shelves, objects: ObjectStore, model: DeployedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = shelves.make()
    weights = await objects.get(f"{model.prefix}/weights.safetensors")
    await tamper_weights(objects, model)
    await refusal_of(shelf, model)
    await objects.put(f"{model.prefix}/weights.safetensors", weights)
    assert (1, 7) == (await shelves.embed(shelf, model)).shape


async def test_who_asks_again_at_once_for_what_failed_costs_no_second_download(
    shelves: Shelves, objects: ObjectStore, model: DeployedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "_FAILED_FOR_S", 60.0)
    shelf = shelves.make()
    await tamper_weights(objects, model)
    first = await refusal_of(shelf, model)
    await objects.delete(f"{model.prefix}/weights.safetensors")

    assert first == await refusal_of(shelf, model)


async def test_a_store_that_fails_is_no_refusal(
    shelves: Shelves, objects: ObjectStore, model: DeployedModel, tmp_path: Path
) -> None:
    obstacle = tmp_path / "objects" / model.prefix / "weights.safetensors"
    weights = obstacle.read_bytes()
    obstacle.unlink()
    obstacle.symlink_to(obstacle)
    shelf = shelves.make()

    with pytest.raises(ObjectStoreError):
        await shelves.embed(shelf, model)

    obstacle.unlink()
    obstacle.write_bytes(weights)
    await asyncio.sleep(0)
    assert (1, 7) == (await shelves.embed(shelf, model)).shape


async def test_fifty_models_take_turns_in_room_for_three(
    shelves: Shelves, objects: ObjectStore, tmp_path: Path
) -> None:
    """All at the same time and again one after the other: each gives its own vector, and room is kept."""
    models = [await deploy(objects, tmp_path / "artifact", seed=seed) for seed in range(50)]
    expected = []
    for model in models:
        vector = load_artifact(tmp_path / "objects" / model.prefix).embed([TEXT])
        expected.append(vector / np.linalg.norm(vector))
    room = 3 * max(bytes_of(model, tmp_path / "objects") for model in models)
    shelf = shelves.make(max_bytes=room)
    most = 0

    async def embed(model: DeployedModel) -> Matrix:
        nonlocal most
        async with shelf.borrowed(model) as name:
            most = max(most, shelf.num_bytes)
            (prepared,) = shelves.pipelines[name].prepare_texts([TEXT])
            await asyncio.sleep(0)
            assert isinstance(prepared, Prepared)
            return shelves.pipelines[name].run([prepared.payload])

    rows = await asyncio.gather(*(embed(model) for model in models))
    again = [await embed(model) for model in models]

    np.testing.assert_allclose(np.concatenate(expected), np.concatenate(rows), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(expected), np.concatenate(again), atol=1e-5)
    assert most <= room
    assert (3, 3) == (len(shelves.pipelines), len(shelves.on_disk()))


async def test_the_model_used_longest_ago_makes_room_and_comes_back(
    shelves: Shelves, objects: ObjectStore, tmp_path: Path
) -> None:
    one, two, three = [await deploy(objects, tmp_path / "artifact", seed=seed) for seed in range(3)]
    shelf = shelves.make(max_bytes=2 * bytes_of(one, tmp_path / "objects") + 10)
    for model in (one, two, one, three, one):
        await shelves.embed(shelf, model)
    assert 3 == len(shelves.loading.folders), "the first two uses of the first kept it"

    await shelves.embed(shelf, two)

    assert 4 == len(shelves.loading.folders)


async def test_a_model_in_use_goes_when_its_user_is_done_and_nobody_new_gets_it(
    shelves: Shelves, objects: ObjectStore, tmp_path: Path
) -> None:
    old, new = [await deploy(objects, tmp_path / "artifact", seed=seed) for seed in range(2)]
    shelf = shelves.make(max_bytes=bytes_of(old, tmp_path / "objects") + 10)
    async with shelf.borrowed(old) as name:
        waiting = asyncio.create_task(shelves.embed(shelf, new))
        await soon(lambda: not shelf._found)
        assert name in shelves.pipelines, "whoever has it works on"
        after = asyncio.create_task(shelves.embed(shelf, old))

    assert (1, 7) == (await waiting).shape
    assert (1, 7) == (await after).shape
    assert name not in shelves.pipelines
    assert 3 == len(shelves.loading.folders)


async def test_a_model_larger_than_all_room_is_refused(
    shelves: Shelves, model: DeployedModel, tmp_path: Path
) -> None:
    shelf = shelves.make(max_bytes=bytes_of(model, tmp_path / "objects") - 1)
    code, message = await refusal_of(shelf, model)
    assert "PIPELINE_UNAVAILABLE" == code
    assert "larger than" in message
    assert [] == shelves.on_disk()


async def test_whoever_can_not_wait_leaves_and_the_model_still_comes(
    shelves: Shelves, model: DeployedModel
) -> None:
    shelf = shelves.make()
    shelves.loading.gate.clear()

    with pytest.raises(Expired):
        async with shelf.borrowed(model, deadline=time.monotonic() + 0.05):
            pass

    shelves.loading.gate.set()
    await shelves.embed(shelf, model)
    assert 1 == len(shelves.loading.folders)


async def test_whoever_leaves_at_the_moment_the_model_comes_keeps_no_hold_of_it(
    shelves: Shelves, model: DeployedModel
) -> None:
    shelf = shelves.make()
    shelves.loading.gate.clear()
    call = asyncio.create_task(shelves.embed(shelf, model))
    (flight,) = await soon(lambda: list(shelf._flights.values()))
    await soon(lambda: flight.num_waiting)
    flight.task.add_done_callback(lambda _: call.cancel())
    shelves.loading.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await call

    assert [0] == [shelved.num_users for shelved in shelf._found.values()]


async def test_a_preloaded_model_is_there_before_it_is_asked_for(
    shelves: Shelves, model: DeployedModel, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = shelves.make()
    shelf.preload(model)
    shelf.preload(changed(model, owner_id="owner-2"))
    await soon(lambda: shelves.pipelines)
    await soon(lambda: "was not loaded beforehand: There is no such model" in caplog.text)
    assert 1 == len(shelves.loading.folders)


async def test_files_of_an_earlier_worker_are_used_and_what_it_left_unfinished_goes(
    shelves: Shelves, objects: ObjectStore, model: DeployedModel
) -> None:
    await shelves.embed(shelves.make(), model)
    (shelves.folder / ".partial-1").mkdir()
    for name in ("weights.safetensors", "tokenizer.json"):
        await objects.delete(f"{model.prefix}/{name}")

    assert (1, 7) == (await shelves.embed(shelves.make(), model)).shape
    assert 1 == len(shelves.on_disk())


async def test_files_that_were_damaged_on_disk_are_fetched_again(
    shelves: Shelves, model: DeployedModel
) -> None:
    await shelves.embed(shelves.make(), model)
    (folder,) = shelves.folder.iterdir()
    (folder / "weights.safetensors").write_bytes(b"damaged")

    assert (1, 7) == (await shelves.embed(shelves.make(), model)).shape


async def test_an_earlier_worker_with_more_room_leaves_no_more_than_fits(
    shelves: Shelves, objects: ObjectStore, tmp_path: Path
) -> None:
    models = [await deploy(objects, tmp_path / "artifact", seed=seed) for seed in range(3)]
    for model in models:
        await shelves.embed(shelves.made[0] if shelves.made else shelves.make(), model)
    small = shelves.make(max_bytes=bytes_of(models[0], tmp_path / "objects") + 10)

    await shelves.embed(small, models[0])

    assert 1 == len(shelves.on_disk())


async def test_a_folder_that_can_not_be_written_to_is_said_and_another_worker_may_have_it(
    objects: ObjectStore, model: DeployedModel
) -> None:
    files = ModelFiles(objects, Path("/proc/models"), max_bytes=ROOMY)
    shelf = ModelShelf(files, Loading(), {})
    with pytest.raises(ModelNotAtHand, match="can't be used"):
        async with shelf.borrowed(model):
            pass
    await shelf.close()
