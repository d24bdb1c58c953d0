"""The sacrificial process: one pipeline, one input at a time, and nobody else's work to take along."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import IO

import msgspec
import numpy as np

from workers.embed.engine import Engine, EngineSettings
from workers.embed.hosting import Pipeline
from workers.embed.items import BytesSource, Embedded, EmbedRequest, Lane, Source, TextSource
from workers.embed.sacrifice.frames import Plan, Question, Ready, Row, read, write
from workers.lifeline import die_with

Loader = Callable[[str, Mapping[str, int | str]], Mapping[str, Pipeline]]


def main() -> int:
    """Load the pipeline of the plan (the last argument) and embed what comes through standard input."""
    plan = msgspec.json.decode(sys.argv[-1], type=Plan)
    die_with(plan.parent_pid)
    # Libraries print: the frames get the pipe for themselves, and prints go where the log goes.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    module, _, name = plan.loader.partition(":")
    load: Loader = getattr(import_module(module), name)
    pipelines = load(plan.pipeline, plan.options)
    hosted = pipelines.get(plan.pipeline)
    write(answers, Ready(dimension=None if hosted is None else hosted.dimension))
    if hosted is not None:
        asyncio.run(_serve(pipelines, plan.pipeline, sys.stdin.buffer, answers))
    return 0


async def _serve(
    pipelines: Mapping[str, Pipeline], name: str, questions: IO[bytes], answers: IO[bytes]
) -> None:
    engine = Engine(pipelines, EngineSettings())
    try:
        while isinstance(question := await asyncio.to_thread(read, questions), Question):
            request = EmbedRequest(pipeline=name, sources=[_source(question)], lane=Lane.BULK)
            write(answers, _row(await engine.embed(request)))
    finally:
        await engine.close()


def _source(question: Question) -> Source:
    if question.text is not None:
        return TextSource(question.text)
    data = question.data or b""

    async def give() -> bytes:
        return data

    return BytesSource(question.media_type, give)


def _row(embedded: Embedded) -> Row:
    refusal = embedded.refusals.get(0)
    return Row(
        vector=b"" if refusal else np.ascontiguousarray(embedded.vectors[0], dtype="<f4").tobytes(),
        tokens=embedded.tokens[0],
        truncated=embedded.truncated[0],
        compute_s=embedded.compute_s[0],
        refusal_code=refusal.code if refusal else None,
        refusal_message=refusal.message if refusal else "",
    )
