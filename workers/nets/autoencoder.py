"""Autoencoders: fully connected or convolutional, plain or variational, and with a codebook.

Legend: B batch, C channels, H height, W width, Z latent, K codes, P places of a code grid.
All reconstruct logits or values; which of the two is the loss's business.
"""

from collections.abc import Iterator
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import torch
from msgspec import Meta
from torch import Tensor, nn

from workers.nets.codebook import Codebook
from workers.nets.parts import Entries, Net, NetConfig, NetEntry
from workers.nets.validation import Problem

Width = Annotated[int, Meta(ge=1, le=4096)]
Channels = Annotated[int, Meta(ge=1, le=4)]


class Latent(NamedTuple):
    """What an encoder gives: the mean and, of a variational one, the log variance, both (B, Z)."""

    mu_BZ: Tensor
    log_var_BZ: Tensor | None


class Autoencoder(Net):
    """An encoder to `Latent` and a decoder from (B, Z). The embedding is the mean."""

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, latent_dim: int, *, variational: bool) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.variational = variational

    @property
    def num_outputs(self) -> int:
        """Numbers that the encoder has to give for each row."""
        return self.latent_dim * (2 if self.variational else 1)

    @property
    def dimension(self) -> int:
        """Z."""
        return self.latent_dim

    def latent(self, x: Tensor) -> Latent:
        """The latent of a batch."""
        out = self.encoder(x)
        return Latent(*out.chunk(2, dim=1)) if self.variational else Latent(out, None)

    def decode(self, z_BZ: Tensor) -> Tensor:
        """Reconstructions, in the shape of the inputs."""
        out: Tensor = self.decoder(z_BZ)
        return out

    def encode(self, inputs: Tensor) -> Tensor:
        """The latent mean (B, Z)."""
        return self.latent(inputs).mu_BZ

    def forward(self, x: Tensor, *, sampled: bool = False) -> Any:  # noqa: ANN401  depends on sampled
        """Reconstructions from the latent mean.

        With ``sampled``, of a variational one: reconstructions from a sample, the mean and the log variance.
        """
        mu_BZ, log_var_BZ = self.latent(x)
        if not sampled or log_var_BZ is None:
            return self.decode(mu_BZ)
        z_BZ = mu_BZ + torch.randn_like(mu_BZ) * (0.5 * log_var_BZ).exp()
        return self.decode(z_BZ), mu_BZ, log_var_BZ


class MlpAutoencoderConfig(NetConfig, frozen=True):
    """``shape`` is that of one row; hidden layers are mirrored in the decoder."""

    shape: tuple[Annotated[int, Meta(ge=1, le=1_000_000)], ...] = (1, 28, 28)
    hidden: tuple[Width, ...] = (400,)
    latent_dim: Width = 20
    variational: bool = False

    def problems(self) -> Iterator[Problem]:
        """A row has at least one number."""
        if not self.shape:
            yield Problem(("shape",), "needs at least one axis")


class MlpAutoencoder(Autoencoder):
    """Fully connected, for pictures and bags of words alike."""

    def __init__(self, config: MlpAutoencoderConfig) -> None:
        super().__init__(config.latent_dim, variational=config.variational)
        num_inputs = 1
        for length in config.shape:
            num_inputs *= length
        widths = (num_inputs, *config.hidden)
        self.encoder = nn.Sequential(nn.Flatten(), *_layers(widths), nn.Linear(widths[-1], self.num_outputs))
        back = (config.latent_dim, *reversed(config.hidden))
        self.decoder = nn.Sequential(
            *_layers(back), nn.Linear(back[-1], num_inputs), nn.Unflatten(1, config.shape)
        )


def _layers(widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers


class ConvAutoencoderConfig(NetConfig, frozen=True):
    """Two convolutions that halve the side, a hidden layer unless ``hidden`` is 0, and the way back."""

    channels: Channels = 1
    side: Annotated[int, Meta(ge=8, le=256, multiple_of=4)] = 28
    width: Width = 16
    hidden: Annotated[int, Meta(ge=0, le=4096)] = 0
    latent_dim: Width = 32
    variational: bool = False


class ConvAutoencoder(Autoencoder):
    """Images (B, C, H, W) of one side length."""

    def __init__(self, config: ConvAutoencoderConfig) -> None:
        super().__init__(config.latent_dim, variational=config.variational)
        width, side = config.width, config.side // 4
        flat = 2 * width * side * side
        hidden = (config.hidden,) if config.hidden else ()
        down = (flat, *hidden)
        up = (config.latent_dim, *hidden, flat)
        self.encoder = nn.Sequential(
            nn.Conv2d(config.channels, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            *_layers(down),
            nn.Linear(down[-1], self.num_outputs),
        )
        self.decoder = nn.Sequential(
            *_layers(up),
            nn.Unflatten(1, (2 * width, side, side)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, config.channels, 4, stride=2, padding=1),
        )


class VqAutoencoderConfig(NetConfig, frozen=True):
    """A grid of codes a quarter of the side wide, each one of ``num_codes`` vectors of ``code_dim``."""

    channels: Channels = 1
    side: Annotated[int, Meta(ge=8, le=256, multiple_of=4)] = 28
    width: Width = 32
    num_codes: Annotated[int, Meta(ge=2, le=65_536)] = 128
    code_dim: Width = 16
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99


class VqOutput(NamedTuple):
    """Reconstruction, distance of encoder and codes, and the codes used (B, P)."""

    reconstruction: Tensor
    commitment: Tensor
    codes_BP: Tensor


class VqAutoencoder(Net):
    """VQ-VAE (van den Oord et al., 2017) with a codebook that follows the encoder by a running average."""

    def __init__(self, config: VqAutoencoderConfig) -> None:
        super().__init__()
        width = config.width
        self.encoder = nn.Sequential(
            nn.Conv2d(config.channels, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, config.code_dim, 1),
            # At unit variance: otherwise all places start close to one point, and one code takes them all.
            nn.BatchNorm2d(config.code_dim, affine=False),
        )
        self.codebook = Codebook(config.num_codes, config.code_dim, config.decay)
        self.decoder = nn.Sequential(
            nn.Conv2d(config.code_dim, width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, config.channels, 4, stride=2, padding=1),
        )
        self.grid = config.side // 4
        self._dimension = config.code_dim * self.grid**2

    @property
    def dimension(self) -> int:
        """Length of the embedding."""
        return self._dimension

    def encode(self, inputs: Tensor) -> Tensor:
        """The chosen codes of all places, flattened (B, P * code_dim)."""
        quantised, _, _ = self.codebook(self.encoder(inputs))
        flat: Tensor = quantised.flatten(1)
        return flat

    def decode_codes(self, codes_BP: Tensor) -> Tensor:
        """Pictures of code grids."""
        grid = self.codebook.lookup(codes_BP).view(len(codes_BP), self.grid, self.grid, -1)
        out: Tensor = self.decoder(grid.permute(0, 3, 1, 2))
        return out

    def forward(self, x_BCHW: Tensor) -> VqOutput:
        """Reconstruct through the codes; gradients pass straight through to the encoder."""
        quantised, commitment, codes_BP = self.codebook(self.encoder(x_BCHW))
        return VqOutput(self.decoder(quantised), commitment, codes_BP)


class MlpEncoder(Autoencoder):
    """The encoder of `MlpAutoencoder` alone, under the same names."""

    def __init__(self, config: MlpAutoencoderConfig) -> None:
        super().__init__(config.latent_dim, variational=config.variational)
        self.encoder = MlpAutoencoder(config).encoder


class ConvEncoder(Autoencoder):
    """The encoder of `ConvAutoencoder` alone, under the same names."""

    def __init__(self, config: ConvAutoencoderConfig) -> None:
        super().__init__(config.latent_dim, variational=config.variational)
        self.encoder = ConvAutoencoder(config).encoder


class VqEncoder(VqAutoencoder):
    """The encoder and codebook of `VqAutoencoder` alone, under the same names."""

    def __init__(self, config: VqAutoencoderConfig) -> None:
        super().__init__(config)
        del self.decoder


ENTRIES: Entries = MappingProxyType(
    {
        "mlp_autoencoder": NetEntry(MlpAutoencoderConfig, MlpAutoencoder),
        "conv_autoencoder": NetEntry(ConvAutoencoderConfig, ConvAutoencoder),
        "vq_autoencoder": NetEntry(VqAutoencoderConfig, VqAutoencoder),
        "mlp_encoder": NetEntry(MlpAutoencoderConfig, MlpEncoder),
        "conv_encoder": NetEntry(ConvAutoencoderConfig, ConvEncoder),
        "vq_encoder": NetEntry(VqAutoencoderConfig, VqEncoder),
    }
)
