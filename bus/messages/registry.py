"""Which pipelines there are, said by the workers that host them."""

from typing import Literal

import msgspec

from bus.envelope import Command, Event

Modality = Literal["TEXT", "IMAGE", "AUDIO", "VIDEO", "DOCUMENT"]


class HostedPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """One pipeline a worker answers for. ``pool`` is the part of the subject its work is published on."""

    name: str
    version: str
    modality: Modality
    dimension: int
    pool: str
    #: Longest input in model tokens, for a pipeline that counts in tokens.
    max_tokens: int | None = None
    #: `auto` takes the pipeline with the lowest rank for a modality; None keeps it out of `auto`.
    auto_rank: int | None = None
    description: str = ""


class PipelinesAnnounced(Event, frozen=True, kw_only=True, tag="registry.pipelines_announced.v1"):
    """Said by each worker every 2 s and when asked. ``leaving`` is its last word before it drains."""

    worker_id: str
    pipelines: list[HostedPipeline]
    leaving: bool = False
    #: The pool whose lanes the worker serves, if it loads deployed models there.
    models_pool: str | None = None


class AnnouncePipelines(Command, frozen=True, kw_only=True, tag="registry.announce_pipelines.v1"):
    """A server that has just started asks every worker to announce itself now."""
