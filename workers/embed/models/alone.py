"""What a sacrificial child loads: a pipeline of the table, or a deployed model whose files were fetched."""

import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from workers.embed.hosting import Pipeline
from workers.embed.items import ModelRefused

logger = logging.getLogger(__name__)

#: What such a model is called; no pipeline of the table is.
_PREFIX = "model:"


def alone_name(folder: str, dimension: int) -> str:
    """Name a model whose files lie in ``folder`` below that of all models."""
    return f"{_PREFIX}{dimension}:{folder}"


def load_alone(name: str, options: Mapping[str, int | str]) -> dict[str, Pipeline]:
    """Load one pipeline, none if there is none of the name, in a process that may die of what it is given.

    Args:
        name: of a pipeline of the table, or as `alone_name` gives it.
        options: ``max_pixels``, and ``models_folder`` where there are models.
    """
    if not name.startswith(_PREFIX):
        # By name, as it loads Towhee, which a trained model does without.
        loading = import_module("workers.embed.pipelines.loading")
        loaded: dict[str, Pipeline] = loading.load_alone(name, options)
        return loaded
    # Loads torch.
    from workers.embed.models.trained import open_trained  # noqa: PLC0415

    dimension, _, folder = name.removeprefix(_PREFIX).partition(":")
    path = Path(str(options["models_folder"])) / folder
    try:
        return {name: open_trained(path, dimension=int(dimension), max_pixels=int(options["max_pixels"]))}
    except ModelRefused as refused:
        logger.error("%s: %s", name, refused)  # noqa: TRY400 - it says all
        return {}
