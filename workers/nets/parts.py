"""What all nets share: the base of their configs, and what an encoder is.

Legend: B batch, D dimension of an embedding.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from torch import Tensor, nn

Inputs = Any


class NetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all net configs."""


class Net(nn.Module):
    """A module that says what it was made from, so that another process can make it again."""

    #: Its name in the closed table.
    net_name: str
    config: NetConfig

    def encode(self, inputs: Inputs) -> Tensor:
        """The embeddings (B, D) of a batch as its input contract describes it.

        Raises:
            NotImplementedError: the net has no embedding.
        """
        raise NotImplementedError(f"{self.net_name} has no embedding")

    @property
    def dimension(self) -> int:
        """D of `encode`."""
        raise NotImplementedError(f"{self.net_name} has no embedding")


class NetEntry(NamedTuple):
    """One row of the closed table."""

    config_type: type[NetConfig]
    build: Callable[[Any], Net]


Entries = Mapping[str, NetEntry]
