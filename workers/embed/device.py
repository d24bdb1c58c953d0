"""What happens on the device thread: one batch through one pipeline, and a bad input fails alone."""

import logging
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from workers.embed.batching import Unit
from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix, Refusal

logger = logging.getLogger(__name__)


class Computed(msgspec.Struct, frozen=True):
    """One unit, done: its vector or why there is none, and its share of the batch's device seconds."""

    unit: Unit
    row: Matrix | Refusal
    compute_s: float


class BadShape(Exception):
    """A pipeline returned something that is not one row for each input."""


def compute(pipeline: Pipeline, units: Sequence[Unit]) -> list[Computed]:
    """Embed a batch. One that fails is halved until the inputs at fault stand alone."""
    started = time.perf_counter()
    try:
        vectors = _run(pipeline, units)
    except Exception as error:  # noqa: BLE001  operators are other people's code, and neighbours must survive
        if len(units) > 1:
            middle = len(units) // 2
            return compute(pipeline, units[:middle]) + compute(pipeline, units[middle:])
        logger.error("an input could not be embedded: %s", error)  # noqa: TRY400  the cause is in the text
        refusal = Refusal("INTERNAL", "The pipeline failed on this input.")
        return [Computed(units[0], refusal, time.perf_counter() - started)]
    seconds_a_token = (time.perf_counter() - started) / sum(unit.prepared.length for unit in units)
    return [
        Computed(unit, _checked(vector), unit.prepared.length * seconds_a_token)
        for unit, vector in zip(units, vectors, strict=True)
    ]


def _run(pipeline: Pipeline, units: Sequence[Unit]) -> Matrix:
    vectors = pipeline.run([unit.prepared.payload for unit in units])
    if vectors.shape != (len(units), pipeline.dimension):
        raise BadShape(f"{vectors.shape} for {len(units)} inputs of dimension {pipeline.dimension}")
    return vectors


def _checked(vector: Matrix) -> Matrix | Refusal:
    if np.isfinite(vector).all():
        return vector
    return Refusal("INTERNAL", "The pipeline found no finite vector for this input.")
