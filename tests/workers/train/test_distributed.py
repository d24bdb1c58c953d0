"""Two processes under torchrun are one process with the doubled batch, for nets without batch statistics."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.workers.train.scenarios import points, quiet
from workers.nets.table import build_net
from workers.train.base import BaseTrainer
from workers.train.configs import AutoencoderOptions, RNNOptions, TrainerOptions
from workers.train.data import Ragged
from workers.train.trainers import AutoencoderTrainer, RNNTrainer

_NUM_STEPS = 20
_STEADY = {"eval_strategy": "steps", "eval_steps": 10, "lr_scheduler_type": "constant"}


def points_of_three_classes(folder: Path, batch_size: int, max_steps: int) -> BaseTrainer:
    """An evaluation set that doesn't divide by two."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    options = TrainerOptions(max_steps=max_steps, grad_clip=1.0, ema=0.9)
    x, y = points(48)
    config = quiet(folder, batch_size=batch_size, **_STEADY)
    return BaseTrainer(model, config, points(), (x[:47], y[:47]), options=options)


def convolutional_autoencoder(folder: Path, batch_size: int, max_steps: int) -> BaseTrainer:
    x = torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(0)
    model = build_net("conv_autoencoder", {"side": 8, "width": 4, "hidden": 16, "latent_dim": 4})
    config = quiet(folder, batch_size=batch_size, metric=None, **_STEADY)
    return AutoencoderTrainer(model, config, x, x[:31], options=AutoencoderOptions(max_steps=max_steps))


def _recurrent(net: tuple[str, dict[str, Any]], config: Any, data: Any, options: RNNOptions) -> BaseTrainer:
    torch.manual_seed(0)
    model = build_net(net[0], {"vocabulary_size": 12, "embedding_dim": 6, "hidden": 6, **net[1]})
    return RNNTrainer(model, config, data, data, options=options)


def stream_with_its_state(folder: Path, batch_size: int, max_steps: int) -> BaseTrainer:
    """Each process carries the hidden states of its own streams, for four steps an epoch."""
    tokens = torch.randint(4, 12, (480,), generator=torch.Generator().manual_seed(5))
    options = RNNOptions(max_steps=max_steps, sequence_length=7, grad_clip=0.5)
    config = quiet(folder, batch_size=batch_size, metric=None, **_STEADY)
    return _recurrent(("rnn_language_model", {"tied": True}), config, tokens, options)


def texts_of_any_length(folder: Path, batch_size: int, max_steps: int) -> BaseTrainer:
    """Two processes pad their batches to different lengths."""
    return _texts(folder, batch_size, RNNOptions(task="classifier", max_steps=max_steps))


def texts_without_some_words(folder: Path, batch_size: int, max_steps: int) -> BaseTrainer:
    """Each process draws words of its own to leave out."""
    return _texts(folder, batch_size, RNNOptions(task="classifier", max_steps=max_steps, word_dropout=0.3))


def _texts(folder: Path, batch_size: int, options: RNNOptions) -> BaseTrainer:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, 9, (96,), generator=generator).tolist()
    rows = [torch.randint(4, 12, (length,), generator=generator).tolist() for length in lengths]
    data = {"ids": Ragged.of(rows), "label": torch.tensor([sum(row) % 3 for row in rows])}
    net = ("rnn_classifier", {"bidirectional": True, "num_classes": 3})
    config = quiet(folder, batch_size=batch_size, metric=None, **_STEADY)
    return _recurrent(net, config, data, options)


#: By what was made: its loss and, as text since it may be NaN, its metric.
Told = dict[str, list[tuple[float, str]]]


def with_batch_statistics(folder: Path) -> BaseTrainer:
    """Learns nothing; the running mean of each process is of its own rows."""
    model = nn.Sequential(nn.BatchNorm1d(1, momentum=0.5), nn.Linear(1, 3))
    x = torch.arange(32.0)[:, None]
    options = TrainerOptions(max_steps=1)
    config = quiet(folder, batch_size=16, lr=1e-12, **_STEADY)
    return BaseTrainer(model, config, (x, torch.zeros(32, dtype=torch.long)), options=options)


Make = Callable[[Path, int, int], BaseTrainer]
MADE: tuple[Make, ...] = (
    points_of_three_classes,
    convolutional_autoencoder,
    stream_with_its_state,
    texts_of_any_length,
)
#: Whose rows are changed at random, so that one process would come to something else.
DRAWING: tuple[Make, ...] = (texts_without_some_words,)

_SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.workers.train import test_distributed
for make in (*test_distributed.MADE, *test_distributed.DRAWING):
    folder = Path(sys.argv[1]) / make.__name__
    for name, max_steps, resume in (("two", 20, None), ("half", 7, None), ("half", 20, folder / "half")):
        trainer = make(folder / name, 8, max_steps)
        trainer.train(resume)
        if trainer.processes.is_main:
            logs = trainer.logs
            print("RESULT", make.__name__, repr(logs["eval_epoch_loss"]), repr(logs["eval_epoch_metric"]))
trainer = test_distributed.with_batch_statistics(Path(sys.argv[1]) / "statistics")
trainer.train()
kept = torch.cat([buffer.flatten() for buffer in trainer.model.buffers() if buffer.is_floating_point()])
both = [torch.zeros_like(kept), torch.zeros_like(kept)]
torch.distributed.all_gather(both, kept)
if trainer.processes.is_main:
    print("STATISTICS", torch.equal(*both), repr(float(kept[0])))
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """Where everything was trained in two processes, and what each told, in order."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(_SCRIPT)
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "--standalone", str(script), str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        # Loopback only.
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": "."},
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    told: Told = {}
    for line in done.stdout.splitlines():
        if line.startswith("RESULT"):
            _, name, loss, metric = line.split()
            told.setdefault(name, []).append((float(loss), metric))
        elif line.startswith("STATISTICS"):
            _, same, mean = line.split()
            told["statistics"] = [(float(mean), same)]
    return folder, told


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_two_processes_are_one_with_the_doubled_batch_and_resume_exactly(
    make: Make, two_processes: tuple[Path, Told], tmp_path: Path
) -> None:
    name, (folder, told) = make.__name__, two_processes
    one = make(tmp_path, 16, _NUM_STEPS)

    one.train()

    alone, two, resumed = (
        load_file(at / "final_epoch" / "model.safetensors")
        for at in (tmp_path, folder / name / "two", folder / name / "half")
    )
    for weight, tensor in alone.items():
        torch.testing.assert_close(tensor, two[weight], rtol=0, atol=1e-5)
    loss, metric = told[name][0]
    assert abs(one.logs["eval_epoch_loss"] - loss) < 1e-5
    assert repr(one.logs["eval_epoch_metric"]) == metric
    assert told[name][0] == told[name][2]
    assert all(torch.equal(tensor, resumed[weight]) for weight, tensor in two.items())


@pytest.mark.parametrize("make", DRAWING, ids=lambda make: make.__name__)
def test_two_processes_resume_exactly_where_each_draws_for_itself(
    make: Make, two_processes: tuple[Path, Told]
) -> None:
    folder = two_processes[0] / make.__name__

    two, resumed = (
        load_file(folder / name / "final_epoch" / "model.safetensors") for name in ("two", "half")
    )

    assert all(torch.equal(tensor, resumed[weight]) for weight, tensor in two.items())


def test_running_statistics_are_the_mean_over_processes(two_processes: tuple[Path, Told]) -> None:
    """Of 0 to 31, half of it in each process: 15.5, of which the momentum takes half."""
    assert [(7.75, "True")] == two_processes[1]["statistics"]
