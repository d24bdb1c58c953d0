"""EfficientNet-Lite0 without its classifier (Tan and Le, 2019; the Lite variants have no squeeze, and ReLU6).

Legend: B batch, C channels, H height, W width, D dimension (1280).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workers.nets.parts import Entries, NetConfig, NetEntry
from workers.nets.staged import Hidden, StagedNet

_EPS, _MOMENTUM = 1e-3, 0.01
_STEM, _DIMENSION = 32, 1280


class _Stage(NamedTuple):
    """A row of blocks; the first has the stride."""

    num_blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite0Config(NetConfig, frozen=True):
    """Nothing to choose: any square picture with a side that 32 divides goes through the same weights."""


def _convolution(
    before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution with TensorFlow's padding, and its batch norm.

    With stride 2 and an even side, TensorFlow pads one more at the end than at the beginning.
    """
    both = (kernel - 1) // 2
    if stride == 1:
        convolution = nn.Conv2d(before, after, kernel, padding=both, groups=groups, bias=False)
        return [convolution, nn.BatchNorm2d(after, _EPS, _MOMENTUM)]
    first, last = (kernel - stride) // 2, (kernel - stride + 1) // 2
    convolution = nn.Conv2d(before, after, kernel, stride=stride, groups=groups, bias=False)
    padding = nn.ZeroPad2d((first, last, first, last))
    return [padding, convolution, nn.BatchNorm2d(after, _EPS, _MOMENTUM)]


class _Block(nn.Module):
    """An inverted residual block: wider, depthwise, narrower, and the sum with its input where they fit."""

    def __init__(self, before: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        wide = before * stage.expansion
        layers: list[nn.Module] = []
        if stage.expansion > 1:
            layers += [*_convolution(before, wide, 1), nn.ReLU6(inplace=True)]
        layers += _convolution(wide, wide, stage.kernel, stride=stride, groups=wide)
        layers += [nn.ReLU6(inplace=True), *_convolution(wide, stage.channels, 1)]
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and before == stage.channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.layers(x_BCHW)
        return out + x_BCHW if self.is_residual else out


class EfficientNetLite0(StagedNet):
    """Pictures (B, 3, H, W), scaled as (pixel - 127) / 128, to (B, 1280)."""

    takes = "pictures"
    stage_names = ("stem", *(f"blocks_{number}" for number in range(1, len(_STAGES) + 1)), "last")

    def __init__(self, config: EfficientNetLite0Config) -> None:
        super().__init__()
        del config
        stages = [nn.Sequential(*_convolution(3, _STEM, 3, stride=2), nn.ReLU6(inplace=True))]
        channels = _STEM
        for stage in _STAGES:
            blocks = []
            for number in range(stage.num_blocks):
                blocks.append(_Block(channels, stage, stage.stride if number == 0 else 1))
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        stages.append(nn.Sequential(*_convolution(channels, _DIMENSION, 1), nn.ReLU6(inplace=True)))
        self.stages = nn.ModuleList(stages)

    @property
    def dimension(self) -> int:
        """1280."""
        return _DIMENSION

    def lower(self, inputs: Tensor, num_stages: int) -> Hidden:
        """Pictures through the lowest stages: (B, C, H, W)."""
        # Channels last is how the depthwise convolutions run fastest on a CPU: 1.4 times.
        x_BCHW = inputs.contiguous(memory_format=torch.channels_last)
        for stage in self.stages[:num_stages]:
            x_BCHW = stage(x_BCHW)
        return Hidden(x_BCHW)

    def upper(self, hidden: Hidden, num_stages: int) -> Tensor:
        """The other stages, and the mean over all places: (B, D)."""
        x_BCHW = hidden.values
        for stage in self.stages[num_stages:]:
            x_BCHW = stage(x_BCHW)
        return x_BCHW.mean((2, 3))

    def stage_parameters(self, stage: int) -> Sequence[nn.Parameter]:
        """Weights of convolutions and batch norms."""
        return list(self.stages[stage].parameters())


def lite0_weights(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of the package ``efficientnet-lite-pytorch``, under ours; not copied.

    Raises:
        KeyError: one is missing.
    """
    return {ours: theirs[name] for ours, name in _names()}


def _names() -> Iterator[tuple[str, str]]:
    """Our name and theirs of each tensor."""
    yield from _unit("stages.0", 1, "_conv_stem", "_bn0")
    number = 0
    for at, stage in enumerate(_STAGES, start=1):
        for block in range(stage.num_blocks):
            ours, theirs = f"stages.{at}.{block}.layers", f"_blocks.{number}"
            layer = 0
            if stage.expansion > 1:
                yield from _unit(ours, 0, f"{theirs}._expand_conv", f"{theirs}._bn0")
                layer = 3
            layer += int(stage.stride > 1 and block == 0)
            yield from _unit(ours, layer, f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            yield from _unit(ours, layer + 3, f"{theirs}._project_conv", f"{theirs}._bn2")
            number += 1
    yield from _unit(f"stages.{len(_STAGES) + 1}", 0, "_conv_head", "_bn1")


def _unit(ours: str, layer: int, convolution: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.{layer}.weight", f"{convolution}.weight"
    for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{ours}.{layer + 1}.{part}", f"{norm}.{part}"


ENTRIES: Entries = MappingProxyType(
    {"efficientnet_lite0": NetEntry(EfficientNetLite0Config, EfficientNetLite0)}
)
