"""A trained model as two artifacts: its encoder, and all of it."""

import hashlib
import math
from pathlib import Path
from typing import Literal

import msgspec

from workers.nets.manifest import MANIFEST_FILE, DataRecord, Manifest, save_artifact
from workers.train.base.modelcard import render_card
from workers.train.export import EncodingTrainer, export
from workers.train.run.hosted import GANTrainer, Hosted, RNNTrainer
from workers.train.run.order import Prepared
from workers.train.run.parents import ENCODER_FOLDER, NET_FOLDER

Generates = Literal["images", "texts"]
_SHOWN_AS = {"epoch_loss": "loss"}
#: Entries of the logs that measure nothing.
_UNSHOWN = frozenset({"global_step", "step_loss", "epoch_metric"})


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        sha256: digest of the encoder's manifest, which holds those of its files.
        dimension: of an embedding.
        modality: what the encoder takes, None where no pipeline could be asked for it.
        metrics: the last evaluation's finite numbers.
        generates: what the whole net makes.
    """

    sha256: str
    dimension: int
    modality: str | None
    metrics: dict[str, float]
    generates: Generates | None


def export_model(
    trainer: EncodingTrainer, prepared: Prepared, folder: Path, *, data_name: str = "unknown"
) -> Exported:
    """Write ``folder/encoder`` and ``folder/net``, with the running averages where there are any.

    Raises:
        FileExistsError: one of them is not empty.
    """
    facts = prepared.facts
    data = DataRecord(name=data_name, sha256=facts.sha256, num_rows=facts.num_rows)
    metrics = final_metrics(trainer)
    manifest = export(trainer, folder / ENCODER_FOLDER, data=data, metrics=metrics)
    _export_whole(trainer, manifest, folder / NET_FOLDER)
    return Exported(
        sha256=hashlib.sha256((folder / ENCODER_FOLDER / MANIFEST_FILE).read_bytes()).hexdigest(),
        dimension=manifest.dimension,
        modality=facts.modality,
        metrics=metrics,
        generates=_generates(trainer),
    )


def final_metrics(trainer: EncodingTrainer) -> dict[str, float]:
    """The last evaluation's numbers by plain names; training's own where nothing was evaluated."""
    logs = trainer.logs.numbers()
    shown = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
    if "epoch_loss" not in shown:
        shown = {name: logs[name] for name in ("epoch_loss", "epoch_metric") if name in logs}
    metric = trainer.configs.metric
    found = {_SHOWN_AS.get(name, name): value for name, value in shown.items() if name not in _UNSHOWN}
    if isinstance(metric, str) and "epoch_metric" in shown:
        found[metric.lower()] = shown["epoch_metric"]
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _export_whole(trainer: EncodingTrainer, encoder: Manifest, folder: Path) -> None:
    if not isinstance(trainer, Hosted):
        raise TypeError(f"a {type(trainer).__name__} was not built here")
    with trainer.averaged_weights():
        net = trainer.whole_net()
        manifest = msgspec.structs.replace(encoder, dimension=net.dimension, files={})
        card = render_card(trainer.model_card)
        save_artifact(folder, manifest, net, card=card, tokenizer=trainer.tokenizer)


def _generates(trainer: EncodingTrainer) -> Generates | None:
    if isinstance(trainer, GANTrainer):
        return "images"
    is_writer = isinstance(trainer, RNNTrainer) and trainer.options.task == "language_model"
    return "texts" if is_writer else None
