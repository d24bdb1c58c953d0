"""Real images, read straight out of their pinned archives.

An ``x`` is (N, C, H, W) with pixels uint8 in 0..255, a ``y`` is (N,) with labels int64.
"""

import gzip
import hashlib
import io
import json
import os
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.train.data.archives import ARCHIVES, DataDamaged, locate, member, members


class ImageSet(NamedTuple):
    """A labelled image set with its usual split; ``sha256`` names the exact bytes it came from."""

    name: str
    sha256: str
    classes: tuple[str, ...]
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def part(self, num_train: int, num_test: int, seed: int = 0) -> "ImageSet":
        """The same set cut to ``num_train`` and ``num_test`` rows, drawn without replacement by ``seed``."""
        train = _draw(len(self.train_x), num_train, seed)
        test = _draw(len(self.test_x), num_test, seed + 1)
        return self._replace(
            name=f"{self.name}[{num_train}/{num_test}/{seed}]",
            train_x=self.train_x[train],
            train_y=self.train_y[train],
            test_x=self.test_x[test],
            test_y=self.test_y[test],
        )


def load_images(name: str, folder: Path | None = None) -> ImageSet:
    """One of `IMAGE_SETS`.

    Raises:
        DataMissing: its archive was not fetched.
        DataDamaged: its archive is not the pinned one.
    """
    return _READERS[name](folder)


def unit_range(pixels: Tensor) -> Tensor:
    """Pixels as float32 in 0..1."""
    return pixels.to(torch.float32).div_(255)


def _draw(num_rows: int, count: int, seed: int) -> Tensor:
    if count > num_rows:
        raise ValueError(f"{count} rows asked for, {num_rows} there")
    return torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))[:count]


_DIGITS = tuple(str(digit) for digit in range(10))
_GARMENTS = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _mnist(folder: Path | None) -> ImageSet:
    parts = _cached("mnist", folder, _decode_mnist)
    return ImageSet("mnist", ARCHIVES["mnist"].sha256, _DIGITS, *(parts[key] for key in _PARTS))


def _decode_mnist(path: Path) -> dict[str, Tensor]:
    content = gzip.decompress(member(path, "mnist.pkl.gz"))
    train_x, train_y, valid_x, valid_y, test_x, test_y = _arrays_of_pickle(content)
    return {
        "train_x": torch.from_numpy(_mnist_pixels(np.concatenate([train_x, valid_x]))),
        "train_y": torch.from_numpy(np.concatenate([train_y, valid_y])),
        "test_x": torch.from_numpy(_mnist_pixels(test_x)),
        "test_y": torch.from_numpy(np.array(test_y)),
    }


def _mnist_pixels(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # The file holds k/256 for the pixel k.
    pixels: np.ndarray[Any, Any] = np.rint(x * 256).astype(np.uint8)
    return pixels.reshape(-1, 1, 28, 28)


def _arrays_of_pickle(content: bytes) -> list[np.ndarray[Any, Any]]:
    """The arrays inside a pickle of NumPy arrays, found in its stream of opcodes without running it.

    Three pairs of (pixels float32 of 784 columns, labels int64), in that order.
    """
    strings = [
        argument.encode("latin-1")
        for opcode, argument, _ in pickletools.genops(content)
        if opcode.name == "BINSTRING" and isinstance(argument, str)
    ]
    if len(strings) != 6:  # noqa: PLR2004  three pairs
        raise DataDamaged("mnist.pkl.gz does not hold three pairs of arrays")
    return [np.frombuffer(raw, "<f4" if at % 2 == 0 else "<i8") for at, raw in enumerate(strings)]


def _fashion_mnist(folder: Path | None) -> ImageSet:
    path = locate("fashion_mnist", folder)
    files = {Path(name).name: content for name, content in members(path, "-ubyte.gz")}
    return _image_set(
        "fashion_mnist",
        _GARMENTS,
        (
            _idx(files["train-images-idx3-ubyte.gz"])[:, None],
            _idx(files["train-labels-idx1-ubyte.gz"]),
            _idx(files["t10k-images-idx3-ubyte.gz"])[:, None],
            _idx(files["t10k-labels-idx1-ubyte.gz"]),
        ),
    )


def _idx(packed: bytes) -> np.ndarray[Any, Any]:
    """An IDX file: two zero bytes, the type, the number of axes, big-endian lengths, then the values."""
    content = gzip.decompress(packed)
    num_axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(num_axes)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape)


def _cifar10(folder: Path | None) -> ImageSet:
    parts = _cached("cifar10", folder, _decode_cifar10)
    return ImageSet("cifar10", ARCHIVES["cifar10"].sha256, _THINGS, *(parts[key] for key in _PARTS))


_PARTS = ("train_x", "train_y", "test_x", "test_y")


def _cached(name: str, folder: Path | None, decode: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What ``decode`` makes of an archive, kept beside it, since unpacking takes seconds."""
    path = locate(name, folder)
    cache = path.with_name(f"{name}-{ARCHIVES[name].sha256[:16]}.safetensors")
    if not cache.exists():
        fresh = cache.with_suffix(f".{os.getpid()}")
        save_file(decode(path), fresh)
        fresh.replace(cache)
    return load_file(cache)


def _decode_cifar10(path: Path) -> dict[str, Tensor]:
    files = {Path(name).name: content for name, content in members(path)}

    def pixels(name: str) -> Tensor:
        # One picture a row of a tall PNG, pixel after pixel.
        with Image.open(io.BytesIO(files[name])) as image:
            rows = np.asarray(image.convert("RGB"), np.uint8)
        return torch.from_numpy(rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).copy())

    return {
        "train_x": torch.cat([pixels(f"data_batch_{number}.png") for number in range(1, 6)]),
        "train_y": torch.tensor(json.loads(files["train_lables.json"])),  # their spelling
        "test_x": pixels("test_batch.png"),
        "test_y": torch.tensor(json.loads(files["test_lables.json"])),
    }


def _digits(_folder: Path | None) -> ImageSet:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # noqa: PLC0415  for this set only

    found = load_digits()
    x = np.rint(found.images * 255 / 16).astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1437], order[1437:]
    made = _image_set("digits", _DIGITS, (x[train], found.target[train], x[test], found.target[test]))
    return made._replace(sha256=hashlib.sha256(x.tobytes()).hexdigest())


def _image_set(name: str, classes: tuple[str, ...], parts: tuple[np.ndarray[Any, Any], ...]) -> ImageSet:
    train_x, train_y, test_x, test_y = (torch.from_numpy(np.array(part)) for part in parts)
    sha256 = ARCHIVES[name].sha256 if name in ARCHIVES else ""
    return ImageSet(name, sha256, classes, train_x, train_y.long(), test_x, test_y.long())


_READERS = {"mnist": _mnist, "fashion_mnist": _fashion_mnist, "cifar10": _cifar10, "digits": _digits}
IMAGE_SETS = tuple(_READERS)
