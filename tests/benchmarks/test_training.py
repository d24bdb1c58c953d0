"""CPU of a training step against a hand-written loop over the same data: ``make bench``.

Callbacks, metrics, progress and TensorBoard are on. Pairs are interleaved, and within a pair the order
alternates, so that a change of the machine's mood meets both alike; the interval of the median ratio is of
order statistics (binomial).
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from workers.nets.recurrent import Hidden, detach_hidden
from workers.nets.table import build_net
from workers.train._towhee import Callback, TrainingConfig
from workers.train.base import BaseTrainer
from workers.train.configs import AutoencoderOptions, RNNOptions, TrainerOptions
from workers.train.data import InMemoryLoader, LoadPlan, load_images, load_shakespeare, unit_range
from workers.train.trainers import AutoencoderTrainer, RNNTrainer

_NUM_PAIRS = 15


class Task(NamedTuple):
    """One thing to train, for both sides: fresh modules, data, batch size, steps, loss and trainer."""

    model: Callable[[], nn.Module]
    data: tuple[Tensor, ...]
    batch_size: int
    num_steps: int
    make_loss: Callable[[], Callable[[nn.Module, tuple[Tensor, ...]], Tensor]]
    trainer: Callable[[nn.Module, TrainingConfig], BaseTrainer]
    most: float


def mlp() -> Task:
    """10,000 parameters on digits."""
    digits = load_images("digits")
    data = (unit_range(digits.train_x), digits.train_y)

    def model() -> nn.Module:
        return build_net("mlp_classifier", {"num_inputs": 64, "hidden": (88, 40), "num_classes": 10})

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.cross_entropy(net(batch[0]), batch[1])

    def trainer(net: nn.Module, config: TrainingConfig) -> BaseTrainer:
        return BaseTrainer(net, config, data, options=TrainerOptions(max_steps=600), report=lambda _: None)

    return Task(model, data, 64, 600, lambda: loss, trainer, 1.15)


def autoencoder() -> Task:
    """The convolutional autoencoder on MNIST."""
    data = (unit_range(load_images("mnist").train_x[:4000]),)

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return (torch.sigmoid(net(batch[0])) - batch[0]).square().flatten(1).sum(1).mean() / 784

    def trainer(net: nn.Module, config: TrainingConfig) -> BaseTrainer:
        options = AutoencoderOptions(max_steps=40)
        return AutoencoderTrainer(net, config, data[0], options=options, report=lambda _: None)

    return Task(lambda: build_net("conv_autoencoder"), data, 64, 40, lambda: loss, trainer, 1.05)


class Carried:
    """A language model's loss with its hidden state carried from batch to batch, as one would write it."""

    def __init__(self) -> None:
        self._hidden: Hidden | None = None

    def __call__(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        out = net(batch[0], self._hidden)
        self._hidden = detach_hidden(out.hidden)
        return nn.functional.cross_entropy(out.logits_BLV.transpose(1, 2), batch[1])


def lstm() -> Task:
    """A character LSTM on Shakespeare, its state carried; each row of the data is a stream's next part."""
    text = load_shakespeare().train[:200_000]
    symbols = sorted(set(text))
    ids = torch.tensor([symbols.index(symbol) for symbol in text])
    batch_size, length = 32, 64
    per_stream = (len(ids) - 1) // batch_size // length * length
    inputs, targets = (
        ids[at : at + batch_size * per_stream]
        .view(batch_size, -1, length)
        .transpose(0, 1)
        .reshape(-1, length)
        for at in (0, 1)
    )
    net = {"vocabulary_size": len(symbols), "hidden": 128}

    def trainer(net: nn.Module, config: TrainingConfig) -> BaseTrainer:
        options = RNNOptions(max_steps=30, sequence_length=length)
        return RNNTrainer(net, config, ids, options=options, report=lambda _: None)

    return Task(
        lambda: build_net("rnn_language_model", net),
        (inputs, targets),
        batch_size,
        30,
        Carried,
        trainer,
        1.05,
    )


def sliced(task: Task) -> Iterator[tuple[Tensor, ...]]:
    """One epoch of batches, as one would write it by hand."""
    in_order = task.make_loss is Carried
    order = torch.arange(len(task.data[0])) if in_order else torch.randperm(len(task.data[0]))
    for at in range(0, len(order) - task.batch_size + 1, task.batch_size):
        rows = order[at : at + task.batch_size]
        yield tuple(tensor[rows] for tensor in task.data)


def by_hand(task: Task, epoch: Callable[[Task], Any]) -> float:
    """CPU-seconds of a hand-written loop."""
    torch.manual_seed(0)
    net = task.model()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net.train()
    loss_of, done = task.make_loss(), 0
    began = time.process_time()
    while done < task.num_steps:
        for batch in epoch(task):
            loss = loss_of(net, tuple(batch))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done == task.num_steps:
                break
    return time.process_time() - began


class Clock(Callback):
    """CPU-seconds between the beginning and the end of training."""

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        self.began = time.process_time()

    def on_train_end(self, logs: dict[str, Any]) -> None:
        self.seconds = time.process_time() - self.began


def by_trainer(task: Task) -> float:
    """CPU-seconds of ours."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(
            output_dir=folder, batch_size=task.batch_size, lr=1e-3, eval_strategy="no", model_checkpoint=None
        )
        trainer, clock = task.trainer(task.model(), config), Clock()
        trainer.add_callback(clock)
        trainer.train()
        return clock.seconds


def loader_epoch(task: Task) -> DataLoader[Any]:
    """What most would write."""
    return DataLoader(TensorDataset(*task.data), batch_size=task.batch_size, shuffle=True, drop_last=True)


def median_and_interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median and the 95 % interval of order statistics; for 15 values from the 4th to the 12th."""
    ranked = sorted(ratios)
    skip = max(0, round((len(ranked) - 1.96 * len(ranked) ** 0.5) / 2) - 1)
    return statistics.median(ranked), ranked[skip], ranked[-1 - skip]


def pairs(one: Callable[[], float], other: Callable[[], float]) -> list[float]:
    """Ratios of ``one`` to ``other``, interleaved."""
    one(), other()  # the first of each pays for imports
    ratios = []
    for number in range(_NUM_PAIRS):
        first, second = (one(), other()) if number % 2 == 0 else (other(), one())
        ratios.append(first / second if number % 2 == 0 else second / first)
    return ratios


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.bench
@pytest.mark.parametrize("make", [mlp, autoencoder, lstm], ids=lambda make: make.__name__)
def test_a_step_costs_little_more_than_by_hand(make: Callable[[], Task]) -> None:
    task = make()

    median, low, high = median_and_interval(pairs(lambda: by_trainer(task), lambda: by_hand(task, sliced)))

    print(f"\n{make.__name__}: {median:.3f} times a hand-written loop, 95 % {low:.3f} to {high:.3f}")
    assert low <= task.most


@pytest.mark.bench
def test_the_in_memory_loader_beats_a_dataloader() -> None:
    task = mlp()
    in_memory = InMemoryLoader(task.data, LoadPlan(task.batch_size, drop_last=True))

    ratios = pairs(lambda: by_hand(task, loader_epoch), lambda: by_hand(task, lambda _: in_memory))

    median, low, high = median_and_interval(ratios)
    print(f"\nmlp: a DataLoader loop takes {median:.3f} times ours, 95 % {low:.3f} to {high:.3f}")
    assert high >= 1.3
