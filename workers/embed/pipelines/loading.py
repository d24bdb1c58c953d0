"""From the table to pipelines that run: each model is loaded once, its operator registered, and tried."""

import logging
import time
from collections.abc import Iterable, Mapping

import numpy as np

from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix, Prepared, Refusal
from workers.embed.operators.image_lite0 import ImageLite0
from workers.embed.operators.text_minilm import TextMiniLm
from workers.embed.pipelines.hosted import HostedImage, HostedText
from workers.embed.pipelines.table import PIPELINES, PipelineEntry
from workers.towhee_door import TowheeDoor

logger = logging.getLogger(__name__)

_SAMPLE_TEXT = "A first text warms the model up."


class Loader:
    """Loads pipelines behind one door; those with the same operator share its model."""

    def __init__(self, door: TowheeDoor, *, max_pixels: int) -> None:
        self._door = door
        self._max_pixels = max_pixels
        self._text: TextMiniLm | None = None
        self._image: ImageLite0 | None = None
        # Towhee's pipelines end with this operator, which it would fetch from its hub.
        door.register("np-normalize", normalize_rows, namespace="towhee")

    def load(self, entries: Iterable[PipelineEntry]) -> dict[str, Pipeline]:
        """Load, build and try each pipeline, saying so in the log.

        Raises:
            ModuleNotFoundError: the weights are not installed.
            TowheeError: Towhee could not build one.
        """
        loaded = {}
        for entry in entries:
            started = time.monotonic()
            logger.info("loading pipeline %s", entry.name)
            loaded[entry.name] = self._load(entry)
            logger.info("loaded pipeline %s in %.1f s", entry.name, time.monotonic() - started)
        return loaded

    def _load(self, entry: PipelineEntry) -> Pipeline:
        pipeline: HostedText | HostedImage
        if entry.operator == "text-minilm":
            text = self._text_operator()
            pipeline = HostedText(entry.build(self._door, entry), entry.dimension, text)
            (sample,) = text.prepare([_SAMPLE_TEXT])
        else:
            image = self._image_operator()
            pipeline = HostedImage(entry.build(self._door, entry), entry.dimension, image)
            sample = image.blank()
        _warm_up(pipeline, sample)
        return pipeline

    def _text_operator(self) -> TextMiniLm:
        if self._text is None:
            self._text = TextMiniLm.load()
            self._door.register("text-minilm", self._text)
        return self._text

    def _image_operator(self) -> ImageLite0:
        if self._image is None:
            self._image = ImageLite0.load(max_pixels=self._max_pixels)
            self._door.register("image-lite0", self._image)
        return self._image


def load_alone(name: str, options: Mapping[str, int | str]) -> dict[str, Pipeline]:
    """Load one pipeline, none if there is none of the name, in a process that may die of what it is given."""
    entries = [entry for entry in PIPELINES if entry.name == name]
    return Loader(TowheeDoor.open(), max_pixels=int(options["max_pixels"])).load(entries)


def normalize_rows(vectors: Matrix) -> Matrix:
    """Bring each vector of a batch, or a single one, to unit length; a zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Matrix = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def _warm_up(pipeline: Pipeline, sample: Prepared | Refusal) -> None:
    """Run once: no caller pays for lazy initialisation, and a broken model shows at start."""
    if isinstance(sample, Refusal):
        raise sample
    pipeline.run([sample.payload])
