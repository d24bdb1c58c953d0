"""The data lane: data sets that are looked at, samples that are made, and bytes that processes die of."""

import asyncio
from pathlib import Path

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import (
    CancelJob,
    DatasetSplit,
    DatasetValidated,
    GenerationSpec,
    GenerationWork,
    ObjectInput,
    SamplesMade,
    SampleSource,
    TextInput,
    UploadedSource,
    ValidationWork,
    WorkFailed,
    WorkStopped,
)
from bus.messages.embedding import decode_inputs
from bus.objects import ObjectStore
from bus.topology import WORK
from tests.support.lanes import LaneServer
from tests.support.waiting import until_true
from tests.workers.train.service.rig import Workers
from workers.train.service.frames import ResourceLimits
from workers.train.service.storing import store_files

DATASET = "dataset-7"


async def upload(objects: ObjectStore, lines: list[str]) -> ValidationWork:
    content = "\n".join(lines).encode()
    await objects.put("blobs/up", content)
    source = UploadedSource(
        object_key="blobs/up", name="../../rows.txt", media_type="text/plain", byte_size=len(content)
    )
    return ValidationWork(dataset_id=DATASET, name="rows", source=source)


async def test_an_upload_becomes_a_data_set_unless_no_row_can_be_used(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start()

    await server.open("job-1", await upload(objects, ["one", "bad", "two"]))
    found = await server.wait_for("job-1", DatasetValidated)

    assert isinstance(found, DatasetValidated)
    assert found.dataset is not None
    assert (DATASET, "rows", 2, 1) == (
        found.dataset.dataset_id,
        found.dataset.name,
        found.num_rows,
        found.num_issues,
    )
    assert (2, 160) == (found.issues[0].row, len(found.issues[0].message))
    assert [DatasetSplit(name="train", num_rows=2), DatasetSplit(name="test", num_rows=0)] == found.splits
    assert ["data.json"] == [file.name for file in found.dataset.stored.files]
    assert b'["one", "two"]' == await objects.get(f"datasets/{DATASET}/data.json")
    assert [
        TextInput(text="one"),
        ObjectInput(key=f"datasets/{DATASET}/images/0.png", media_type="image/png", byte_size=9),
    ] == decode_inputs(await objects.get(f"datasets/{DATASET}/inputs.msgpack"))
    assert b"a picture" == await objects.get(f"datasets/{DATASET}/images/0.png")
    await until_true(lambda: _is_empty(bus))

    await objects.delete_below(f"datasets/{DATASET}")
    await server.open("job-2", await upload(objects, ["bad", "bad"]))
    found = await server.wait_for("job-2", DatasetValidated)

    assert isinstance(found, DatasetValidated)
    assert (None, 2, [1, 2]) == (found.dataset, found.num_issues, [issue.row for issue in found.issues])
    assert 0 == await objects.delete_below(f"datasets/{DATASET}")


async def test_bytes_that_a_process_dies_of_are_tried_again_and_given_up(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start()
    job = await server.open("job-1", await upload(objects, ["poison"]), num_lost=2)

    async def is_back() -> bool:
        return len(server.claims) > 1

    await until_true(is_back, within_s=60.0)
    assert [] == job.reports
    server.lose("job-1")

    failed = await server.wait_for("job-1", WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert ("INTERNAL", True) == (failed.code, "has ended 3 processes" in failed.message)


async def test_a_validation_that_computes_for_too_long_fails(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start(limits=ResourceLimits(cpu_s=1))

    await server.open("job-1", await upload(objects, ["forever"]))

    failed = await server.wait_for("job-1", WorkFailed, within_s=120.0)
    assert isinstance(failed, WorkFailed)
    assert ("QUOTA_EXCEEDED", "Use fewer data.") == (failed.code, failed.advice)


async def test_a_data_set_that_takes_too_much_memory_is_refused_before_the_machine_has_none_left(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start(limits=ResourceLimits(memory_bytes=1 << 30))

    await server.open("job-1", await upload(objects, ["hungry"]))

    failed = await server.wait_for("job-1", WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert ("QUOTA_EXCEEDED", "Use fewer or smaller rows.") == (failed.code, failed.advice)


async def test_a_validation_can_be_cancelled_and_samples_can_be_made(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    await server.open("job-1", await upload(objects, ["forever"]))
    await until_true(lambda: _is_in_hand(server))

    began = asyncio.get_running_loop().time()
    await bus.tell(subjects.job_cancel("job-1"), CancelJob(job_id="job-1"))
    await server.wait_for("job-1", WorkStopped)

    assert asyncio.get_running_loop().time() - began < 1.0

    model = tmp_path / "model"
    (model / "net").mkdir(parents=True)
    (model / "net" / "manifest.json").write_text("{}")
    stored = await store_files(objects, model, "models/model-1")
    work = GenerationWork(model=stored, spec=GenerationSpec(count=3, seed=5), classes=["a", "b"])
    await server.open("job-2", work)
    made = await server.wait_for("job-2", SamplesMade)

    assert isinstance(made, SamplesMade)
    assert ("generated/job-2", "text/plain") == (made.stored.prefix, made.media_type)
    assert ["0000.txt", "0001.txt", "0002.txt"] == [file.name for file in made.stored.files]
    assert b"b 5" == await objects.get("generated/job-2/0001.txt")


async def test_what_is_not_there_is_not_found_and_a_sample_needs_no_upload(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start()
    work = await upload(objects, ["one"])
    await objects.delete("blobs/up")

    await server.open("job-1", work)
    failed = await server.wait_for("job-1", WorkFailed)
    sample = ValidationWork(dataset_id=DATASET, name="digits", source=SampleSource(name="digits"))
    await server.open("job-2", sample)
    found = await server.wait_for("job-2", DatasetValidated)

    assert isinstance(failed, WorkFailed)
    assert "NOT_FOUND" == failed.code
    assert isinstance(found, DatasetValidated)
    assert 2 == found.num_rows


async def _is_empty(bus: MemoryBus) -> bool:
    return bus.count(WORK) == 0


async def _is_in_hand(server: LaneServer) -> bool:
    return bool(server.heartbeats)
