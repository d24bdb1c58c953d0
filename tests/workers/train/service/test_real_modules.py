"""The worker with what it really runs: a sample becomes a data set, a GAN, a model and pictures."""

import os
import signal
from pathlib import Path

from bus.messages import (
    AutoencoderParameters,
    CheckpointSaved,
    DatasetValidated,
    FineTuneParameters,
    GanParameters,
    GenerationSpec,
    GenerationWork,
    ModelExported,
    RnnParameters,
    SamplesGenerated,
    SamplesMade,
    SampleSource,
    SemiSupervisedParameters,
    TrainingProgressed,
    TrainingSpec,
    TrainingWarned,
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
    await server.open("job-2", _of_steps(work_of(found.dataset, parameters, "whole"), 3000))
    whole = await server.wait_for("job-2", ModelExported)
    job = await server.open("job-3", _of_steps(work_of(found.dataset, parameters, "killed"), 3000))
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


async def test_every_trainer_trains_in_two_processes(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    await workers.start(modules=MODULES, processes=2)
    digits = await prepared(server, "digits", SampleSource(name="digits"))
    text = await prepared(server, "text", await lines_of_text(objects))

    trainings: dict[str, tuple[PreparedDataset, TrainerParameters]] = {
        "gan": (digits, GanParameters(width=8, batch_size=32, n_critic=2, loss="wasserstein_gp")),
        "autoencoder": (digits, AutoencoderParameters(kind="denoising", latent_dim=4)),
        "few-labels": (digits, SemiSupervisedParameters(labels_per_class=4, width=8)),
        "language": (text, RnnParameters(task="language_model", hidden=16, sequence_length=16)),
        "probe": (digits, FineTuneParameters(method="probe", image_size=32)),
    }
    for name, (dataset, parameters) in trainings.items():
        job = await server.open(name, _of_steps(work_of(dataset, parameters, name), 24))
        exported = await server.wait_for(name, ModelExported)
        assert isinstance(exported, ModelExported)
        devices = {report.device for report in job.reports if isinstance(report, TrainingProgressed)}
        assert {"2 x cpu"} == devices, name
        assert exported.metrics, name


async def test_a_training_of_two_processes_goes_on_in_one_and_says_so(
    objects: ObjectStore, server: LaneServer, workers: Workers
) -> None:
    two = await workers.start(modules=MODULES, processes=2)
    text = await prepared(server, "text", await lines_of_text(objects))
    parameters = RnnParameters(task="language_model", hidden=16, sequence_length=16)
    job = await server.open("job-1", _of_steps(work_of(text, parameters, "two"), 1500))
    await server.wait_for("job-1", TrainingProgressed)
    await two.stop()
    assert job.checkpoint is not None

    await workers.start(name="worker-2", modules=MODULES)

    await server.wait_for("job-1", ModelExported)
    warned = next(report for report in job.reports if isinstance(report, TrainingWarned))
    assert "resumed_elsewhere" == warned.code
    assert "processes 2 -> 1" in warned.message


async def lines_of_text(objects: ObjectStore) -> UploadedSource:
    lines = "\n".join(f"the {at}th line of a text" for at in range(400)).encode()
    await objects.put("blobs/lines", lines)
    return UploadedSource(
        object_key="blobs/lines", name="lines.txt", media_type="text/plain", byte_size=len(lines)
    )


async def prepared(server: LaneServer, name: str, source: SampleSource | UploadedSource) -> PreparedDataset:
    work = ValidationWork(dataset_id=f"dataset-{name}", name=name, source=source)
    await server.open(f"validation-{name}", work)
    found = await server.wait_for(f"validation-{name}", DatasetValidated)
    assert isinstance(found, DatasetValidated)
    assert found.dataset is not None
    return found.dataset


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


def _of_steps(work: TrainingWork, max_steps: int) -> TrainingWork:
    spec = TrainingSpec(name="same", parameters=work.spec.parameters, seed=5, max_steps=max_steps)
    return TrainingWork(spec=spec, dataset=work.dataset, model_id=work.model_id)


def _digests(exported: ModelExported) -> list[tuple[str, str]]:
    return [(file.name, file.sha256) for file in exported.stored.files if file.name != "owner.json"]
