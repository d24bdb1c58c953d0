"""Turn a trainer's encoder into an artifact."""

import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import torch
from tokenizers import Tokenizer

from workers.nets.contracts import InputContract
from workers.nets.manifest import DataRecord, Manifest, save_artifact
from workers.nets.parts import Net
from workers.train.base import BaseTrainer
from workers.train.base.modelcard import render_card


class Encoder(NamedTuple):
    """What a trainer exports: a net of the closed table, what it takes, and its words if it takes texts."""

    net: Net
    input: InputContract
    tokenizer: Tokenizer | None = None
    normalize: bool = False


class EncodingTrainer(BaseTrainer, ABC):
    """A trainer that can be exported."""

    @abstractmethod
    def encoder(self) -> Encoder:
        """The encoder as it is now."""


def export(
    trainer: EncodingTrainer,
    folder: str | Path,
    *,
    data: DataRecord | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Manifest:
    """Write the trainer's encoder as an artifact, with the running averages of its weights if there are any.

    Raises:
        FileExistsError: the folder is not empty.
    """
    with trainer.averaged_weights():
        encoder = trainer.encoder()
        found = {
            name: value
            for name, value in trainer.logs.numbers().items()
            if name.startswith("eval_") and math.isfinite(value)
        }
        manifest = Manifest(
            net=encoder.net.net_name,
            config={},
            input=encoder.input,
            dimension=encoder.net.dimension,
            normalize=encoder.normalize,
            trainer=type(trainer).__name__,
            metrics={**found, **(metrics or {})},
            data=data or DataRecord(),
            seed=trainer.configs.seed,
            versions={
                "torch": str(torch.__version__),
                "safetensors": safetensors.__version__,
                "python": platform.python_version(),
            },
        )
        trainer.model_card.eval_results = manifest.metrics
        return save_artifact(
            Path(folder),
            manifest,
            encoder.net,
            card=render_card(trainer.model_card),
            tokenizer=encoder.tokenizer,
        )
