"""The pipelines this worker can host. A new one is a new entry here (and perhaps a new operator)."""

from collections.abc import Callable
from typing import Literal

import msgspec

from workers.towhee_door import TowheeDoor, TowheePipeline

#: Operators by the name they are registered under; `loading` knows how each is loaded.
OperatorName = Literal["text-minilm", "image-lite0"]


class PipelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a pipeline before it is loaded.

    Attributes:
        version: changes whenever its vectors do.
        max_tokens: longest input in model tokens, where the model counts in tokens.
        auto_rank: `auto` takes the lowest for a modality; None keeps the pipeline out of `auto`.
        operator: the registered operator that computes the vectors, and that prepares inputs for it.
        build: makes the Towhee pipeline, given the door and this entry.
    """

    name: str
    version: str
    modality: Literal["TEXT", "IMAGE"]
    dimension: int
    max_tokens: int | None = None
    auto_rank: int | None = None
    description: str
    operator: OperatorName
    build: Callable[[TowheeDoor, "PipelineEntry"], TowheePipeline]


def _chain(door: TowheeDoor, entry: PipelineEntry) -> TowheePipeline:
    return door.chain(entry.name, [entry.operator])


def _text_image_embedding(door: TowheeDoor, entry: PipelineEntry) -> TowheePipeline:
    return door.named(entry.name, operator=entry.operator, config={"modality": "text"})


PIPELINES = (
    PipelineEntry(
        name="text-embedding-minilm",
        version="1",
        modality="TEXT",
        dimension=384,
        max_tokens=256,
        auto_rank=0,
        description="English text by all-MiniLM-L6-v2: the mean over at most 256 tokens.",
        operator="text-minilm",
        build=_chain,
    ),
    PipelineEntry(
        name="image-embedding-efficientnet-lite0",
        version="1",
        modality="IMAGE",
        dimension=1280,
        auto_rank=0,
        description="Pictures by EfficientNet-Lite0: the pooled features before its classifier.",
        operator="image-lite0",
        build=_chain,
    ),
    PipelineEntry(
        name="text_image_embedding",
        version="1",
        modality="TEXT",
        dimension=384,
        max_tokens=256,
        description="Towhee's own pipeline of this name in its text mode, around all-MiniLM-L6-v2.",
        operator="text-minilm",
        build=_text_image_embedding,
    ),
)
