"""The worker with what it really runs: a sample becomes a data set, a GAN, a model and pictures."""

import os
import signal
from pathlib import Path

from bus.messages import (
    AutoencoderParameters,
    CheckpointSaved,
    DatasetValidated,
    GanParameters,
    GenerationSpec,
    GenerationWork,
    ModelExported,
    SamplesGenerated,
    SamplesMade,
    SampleSource,
    TrainingProgressed,
    TrainingSpec,
    TrainingWork,
    UploadedSource,
    ValidationWork,
    WorkFailed,
)
from bus.messages.training import TrainerParameters
from bus.messages.work import PreparedDataset
from bus.objects import ObjectStore
from tests.support.lanes import LaneServer
from tests.support.processes import is_running, until
from tests.workers.train.service.rig import Workers, child_pids

MODULES = ("workers.train.run", "workers.train.datasets")


def work_of(dataset: PreparedDataset, parameters: TrainerParameters, name: str) -> TrainingWork:
    spec = TrainingSpec(name=name, parameters=parameters, seed=5, max_steps=60)
    return TrainingWork(spec=spec, dataset=dataset, model_id=f"model-{name}")


async def test_a_sample_becomes_a_data_set_a_model_and_pictures(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start(modules=MODULES)
    sample = ValidationWork(dataset_id="dataset-1", name="digits", source=SampleSource(name="digits"))
    await server.open("job-1", sample)
    found = await server.wait_for("job-1", DatasetValidated)
    assert isinstance(found, DatasetValidated)
    assert found.dataset is not None
    assert ("images", "IMAGE") == (found.kind, found.modality)
    assert ["data.parquet", "dataset.json", "preview.png"] == [
        file.name for file in found.dataset.stored.files
    ]

    gan = GanParameters(width=8, batch_size=32)
    await server.open("job-2", work_of(found.dataset, gan, "gan"))
    exported = await server.wait_for("job-2", ModelExported)
    assert isinstance(exported, ModelExported)
    assert "images" == exported.generates
    kinds = {type(report) for report in server.jobs["job-2"].reports}
    assert {TrainingProgressed, SamplesGenerated, CheckpointSaved} <= kinds

    model = exported.stored
    work = GenerationWork(model=model, spec=GenerationSpec(count=2, seed=1), classes=found.classes)
    await server.open("job-3", work)
    made = await server.wait_for("job-3", SamplesMade)
    assert isinstance(made, SamplesMade)
    assert ("image/png", 2) == (made.media_type, len(made.stored.files))
    assert (await objects.get("generated/job-3/0000.png")).startswith(b"\x89PNG")


async def test_a_real_trainer_that_was_killed_goes_on_and_ends_the_same(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start(modules=MODULES, checkpoint_every_s=0.2)
    rows = "\n".join(["a,b,c", *(f"{i % 7},{i % 5},{i % 3}" for i in range(400))]).encode()
    await objects.put("blobs/up", rows)
    source = UploadedSource(
        object_key="blobs/up", name="rows.csv", media_type="text/csv", byte_size=len(rows)
    )
    await server.open("job-1", ValidationWork(dataset_id="dataset-1", name="rows", source=source))
    found = await server.wait_for("job-1", DatasetValidated)
    assert isinstance(found, DatasetValidated)
    assert found.dataset is not None

    parameters = AutoencoderParameters(latent_dim=2, batch_size=16)
    await server.open("job-2", _longer(work_of(found.dataset, parameters, "whole")))
    whole = await server.wait_for("job-2", ModelExported)
    job = await server.open("job-3", _longer(work_of(found.dataset, parameters, "killed")))
    await server.wait_for("job-3", CheckpointSaved)
    for child in child_pids(os.getpid()):
        os.kill(child, signal.SIGKILL)
        await until(lambda: not is_running(child))  # noqa: B023  awaited here
    server.lose("job-3")
    killed = await server.wait_for("job-3", ModelExported)

    assert 2 == job.attempt
    assert isinstance(whole, ModelExported)
    assert isinstance(killed, ModelExported)
    assert _digests(whole) == _digests(killed)


async def test_what_does_not_fit_is_said(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start(modules=MODULES)
    await objects.put("blobs/up", b"PK\x03\x04 no archive")
    source = UploadedSource(
        object_key="blobs/up", name="rows.zip", media_type="application/zip", byte_size=15
    )
    await server.open("job-1", ValidationWork(dataset_id="dataset-1", name="rows", source=source))
    found = await server.wait_for("job-1", DatasetValidated)
    assert isinstance(found, DatasetValidated)
    assert found.dataset is None
    assert found.issues

    sample = ValidationWork(dataset_id="dataset-2", name="digits", source=SampleSource(name="digits"))
    await server.open("job-2", sample)
    digits = await server.wait_for("job-2", DatasetValidated)
    assert isinstance(digits, DatasetValidated)
    assert digits.dataset is not None
    large = AutoencoderParameters(batch_size=4096)
    await server.open("job-3", work_of(digits.dataset, large, "large"))
    failed = await server.wait_for("job-3", WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert ("INVALID_INPUT", True) == (failed.code, bool(failed.advice))


def _longer(work: TrainingWork) -> TrainingWork:
    spec = TrainingSpec(name="same", parameters=work.spec.parameters, seed=5, max_steps=3000)
    return TrainingWork(spec=spec, dataset=work.dataset, model_id=work.model_id)


def _digests(exported: ModelExported) -> list[tuple[str, str]]:
    return [(file.name, file.sha256) for file in exported.stored.files if file.name != "owner.json"]
