"""Autoencoders of rows of numbers, which know mean and spread of each column.

Such a net learns from standardised rows, while its own standardisation does nothing; put in afterwards, it
makes a net that takes rows as they are.
Legend: B batch, F columns, Z latent.
"""

import copy
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor

from workers.nets.autoencoder import Autoencoder, Latent, MlpAutoencoder, MlpAutoencoderConfig, MlpEncoder
from workers.nets.parts import Entries, NetEntry


class _Columns(Autoencoder):
    """Mean and spread of the columns in front of an encoder."""

    mean_F: Tensor
    spread_F: Tensor

    def __init__(self, config: MlpAutoencoderConfig) -> None:
        super().__init__(config)  # type: ignore[arg-type, call-arg]  # the next class takes a config
        self.register_buffer("mean_F", torch.zeros(config.shape))
        self.register_buffer("spread_F", torch.ones(config.shape))

    def latent(self, x: Tensor) -> Latent:
        """The latent of rows in their own units."""
        return super().latent((x - self.mean_F) / self.spread_F)


class ColumnsAutoencoder(_Columns, MlpAutoencoder):
    """Rows (B, F) to a latent and back."""

    def decode(self, z_BZ: Tensor) -> Tensor:
        """Rows in their own units."""
        return super().decode(z_BZ) * self.spread_F + self.mean_F


class ColumnsEncoder(_Columns, MlpEncoder):
    """The encoder of `ColumnsAutoencoder` alone, under the same names."""


ColumnsT = TypeVar("ColumnsT", bound=_Columns)


def standardising(net: ColumnsT, mean_F: Tensor, spread_F: Tensor) -> ColumnsT:
    """A copy of the net that standardises columns by these."""
    made = copy.deepcopy(net)
    made.mean_F.copy_(mean_F)
    made.spread_F.copy_(spread_F)
    return made


ENTRIES: Entries = MappingProxyType(
    {
        "columns_autoencoder": NetEntry(MlpAutoencoderConfig, ColumnsAutoencoder),
        "columns_encoder": NetEntry(MlpAutoencoderConfig, ColumnsEncoder),
    }
)
