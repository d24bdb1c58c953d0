"""From a training's parameters and its data to a trainer that is ready to train."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from bus.messages.training import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    Parameters,
    RnnParameters,
    SemiSupervisedParameters,
    TrainingSpec,
)
from workers.train.datasets import TooLarge
from workers.train.export import EncodingTrainer
from workers.train.report import Report
from workers.train.rng import isolated_rng
from workers.train.run.autoencoder import build_autoencoder
from workers.train.run.fine_tune import build_fine_tune
from workers.train.run.gan import build_gan
from workers.train.run.hosted import Hosted
from workers.train.run.order import Order, Prepared
from workers.train.run.parents import open_parent
from workers.train.run.problems import CannotTrain, in_words
from workers.train.run.rnn import build_rnn
from workers.train.run.semi_supervised import build_semi_supervised

_BUILDERS: Mapping[type[Parameters], Callable[[Order, Any], Hosted]] = MappingProxyType(
    {
        GanParameters: build_gan,
        AutoencoderParameters: build_autoencoder,
        RnnParameters: build_rnn,
        SemiSupervisedParameters: build_semi_supervised,
        FineTuneParameters: build_fine_tune,
    }
)


def build_trainer(  # noqa: PLR0913  what a service knows, the half of it by keyword
    spec: TrainingSpec,
    prepared: Prepared,
    folder: Path,
    report: Report,
    *,
    parent: Path | None = None,
    device: str | None = None,
    checkpoint_every_s: float = 60.0,
    processes: int = 1,
) -> Hosted:
    """A trainer that does what ``spec`` says; the same spec and data make the same one, bit for bit.

    ``train(folder)`` of another that was built the same way goes on from a checkpoint of this one, also
    when ``spec.max_steps`` is greater then.

    Args:
        spec: what to train.
        prepared: the data.
        folder: where checkpoints go.
        report: is told everything that happens.
        parent: an exported model, whose weights training begins with.
        device: ``cpu`` or ``cuda``; None takes a GPU if there is one.
        checkpoint_every_s: seconds between two checkpoints.
        processes: how many processes train together, each of which builds one: see `num_processes`.

    Raises:
        CannotTrain: data, parameters or parent don't fit each other.
        ArtifactRefused: the parent can't be trusted.
        PreparedDamaged: the data is not what was written.
    """
    order = Order(
        spec=spec,
        prepared=prepared,
        folder=folder,
        report=report,
        parent=None if parent is None else open_parent(parent),
        device=device,
        checkpoint_every_s=checkpoint_every_s,
        processes=processes,
    )
    contradictions = list(spec.parameters.contradictions())
    if contradictions:
        said = "; ".join(f"{' '.join(path).replace('_', ' ')} {message}" for path, message in contradictions)
        raise CannotTrain(said)
    # The weights as they begin are drawn here.
    try:
        with isolated_rng(spec.seed), in_words():
            trainer = _BUILDERS[type(spec.parameters)](order, spec.parameters)
    except TooLarge as error:
        raise CannotTrain(str(error), "Train on fewer rows, or on smaller ones.") from error
    trainer.model_card.model_name = spec.name
    return trainer


def total_steps(trainer: EncodingTrainer) -> int:
    """Steps of the whole training, those before a resume included."""
    return cast("int", trainer.options.max_steps)
