"""How soon a training is seen to run, and what its supervisor takes for itself."""

import asyncio
import statistics
from pathlib import Path

import pytest

from bus.client import NatsBus
from bus.memory import MemoryBus
from bus.messages import (
    AutoencoderParameters,
    DatasetValidated,
    ModelExported,
    PreparedDataset,
    SampleSource,
    TrainingProgressed,
    TrainingSpec,
    TrainingWork,
    ValidationWork,
)
from bus.objects import ObjectStore
from tests.benchmarks.measuring import surroundings
from tests.support.lanes import LaneServer
from tests.workers.train.service.processes import running_worker, stand_in_script
from tests.workers.train.service.rig import RunningWorker, child_pids, training
from workers.train.service.proc import computed

pytestmark = pytest.mark.bench

#: What the worker really runs.
MODULES = ("workers.train.run", "workers.train.datasets")
RUNS = 20
TRAINING_S = 30


async def test_first_progress_after_the_claim(bus: MemoryBus, objects: ObjectStore, tmp_path: Path) -> None:
    """With a child that is ready, an autoencoder of digits."""
    server = LaneServer(bus)
    await server.start()
    worker = RunningWorker(bus, objects, tmp_path / "cache", prewarms=True, modules=MODULES)
    await worker.start()
    dataset = await _digits(server)
    took_s = []
    for number in range(RUNS):
        await worker.nursery.facts()
        job_id = f"job-{number}"
        await server.open(job_id, _training(dataset, number))
        # The first claim was for the data set.
        while len(server.claims) <= number + 1:  # noqa: ASYNC110  a claim sets no event
            await asyncio.sleep(0)
        claimed_at = asyncio.get_running_loop().time()
        await server.wait_for(job_id, TrainingProgressed)
        took_s.append(asyncio.get_running_loop().time() - claimed_at)
        await server.wait_for(job_id, ModelExported)
    await worker.stop()
    await server.close()
    p95 = statistics.quantiles(took_s, n=20)[-1]
    print(f"\nfirst progress after the claim: median {statistics.median(took_s) * 1e3:.0f} ms,")
    print(f"p95 {p95 * 1e3:.0f} ms of {RUNS}; {surroundings()}")


async def _digits(server: LaneServer) -> PreparedDataset:
    source = SampleSource(name="digits")
    await server.open("digits", ValidationWork(dataset_id="digits", name="digits", source=source))
    found = await server.wait_for("digits", DatasetValidated)
    assert isinstance(found, DatasetValidated)
    assert found.dataset is not None
    return found.dataset


def _training(dataset: PreparedDataset, number: int) -> TrainingWork:
    parameters = AutoencoderParameters(latent_dim=8)
    spec = TrainingSpec(name="digits", parameters=parameters, seed=number, max_steps=20)
    return TrainingWork(spec=spec, dataset=dataset, model_id=f"model-{number}")


async def test_what_the_supervisor_computes(
    nats_bus: NatsBus, nats_url: str, objects: ObjectStore, tmp_path: Path
) -> None:
    """The real process beside a training of half a minute, on a real bus."""
    server = LaneServer(nats_bus)
    await server.start()
    job = await server.open("job-1", await training(objects, tmp_path, max_steps=10_000_000))
    with running_worker(stand_in_script(tmp_path), nats_url, tmp_path, checkpoint_every_s=10) as worker:
        await server.wait_for("job-1", TrainingProgressed, within_s=120.0)
        (child,) = child_pids(worker.pid)
        own_s, child_s = computed(worker.pid), computed(child)
        await asyncio.sleep(TRAINING_S)
        own_s, child_s = computed(worker.pid) - own_s, computed(child) - child_s
    await server.close()
    print(
        f"\nsupervisor: {own_s:.2f} s, child: {child_s:.2f} s CPU in {TRAINING_S} s: {own_s / child_s:.2%},"
    )
    print(f"{own_s / TRAINING_S:.2%} of a core; {len(job.reports)} reports; {surroundings()}")
