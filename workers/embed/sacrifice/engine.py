"""Embeds what has cost processes their lives: alone, in a child that may die of it."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping

import msgspec
import numpy as np

from workers import framing
from workers.embed.items import (
    Embedded,
    EmbedRequest,
    Expired,
    PipelineNotHosted,
    Refusal,
    Source,
    TextSource,
)
from workers.embed.sacrifice import frames
from workers.embed.sacrifice.frames import Frame, Plan, Question, Ready, Row
from workers.surroundings import surroundings

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[-1])['sys_path'];"
    " from workers.embed.sacrifice.child import main; sys.exit(main())"
)
#: Loading torch and a model takes seconds, more on a busy machine.
_START_S = 120.0
#: One input alone takes a fraction of a second; see the watch over the worker's own device.
_ANSWER_S = 120.0
#: A child without work goes: it holds a model of its own.
_IDLE_S = 30.0


class Died(Exception):
    """The child died of an input.

    Attributes:
        index: which source of the request.
        how: what became of the child, for a person.
    """

    def __init__(self, index: int, how: str) -> None:
        super().__init__(f"input {index}: {how}")
        self.index = index
        self.how = how


class NotStarted(Exception):
    """No child could be started, which is no fault of the inputs."""


class _Ended(Exception):
    """The child's pipe is at its end, or it was silent for too long."""


class _Child:
    """One process, with one question at a time."""

    def __init__(self, process: asyncio.subprocess.Process, pipeline: str) -> None:
        if process.stdin is None or process.stdout is None:
            raise TypeError("a child without pipes")
        self._process = process
        self._input = process.stdin
        self._output = process.stdout
        self.pipeline = pipeline
        self.dimension: int | None = None

    @classmethod
    async def start(cls, plan: Plan) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _BOOT,
            msgspec.json.encode(plan).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=surroundings(os.environ),
            # Ctrl-C is for the worker, which lets the child finish.
            start_new_session=True,
        )
        child = cls(process, plan.pipeline)
        try:
            ready = await child._receive(_START_S)
        except _Ended as error:
            raise NotStarted(f"a process for {plan.pipeline}: {await child.bury()}") from error
        except BaseException:
            await child.bury()
            raise
        if isinstance(ready, Ready):
            child.dimension = ready.dimension
        return child

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    async def ask(self, question: Question) -> Row:
        """Return the answer to a question.

        Raises:
            _Ended: there will be none.
        """
        try:
            self._input.write(frames.pack(question))
            await self._input.drain()
        except OSError as error:
            raise _Ended from error
        answer = await self._receive(_ANSWER_S)
        if not isinstance(answer, Row):
            raise _Ended
        return answer

    async def bury(self) -> str:
        """Make sure that it has ended and say how."""
        if self._process.returncode is None:
            # One whose pipe has ended is ending; let it say how.
            try:
                async with asyncio.timeout(0.2):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        code = await self._process.wait()
        return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        """End it now."""
        if self._process.returncode is None:
            self._process.kill()

    async def _receive(self, timeout_s: float) -> Frame:
        try:
            async with asyncio.timeout(timeout_s):
                header = await self._output.readexactly(framing.HEADER_BYTES)
                raw = await self._output.readexactly(framing.length_of(header))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise _Ended from error
        except TimeoutError as error:
            self.kill()
            raise _Ended from error
        return frames.unpack(raw)


class SacrificialEngine:
    """Satisfies `workers.embed.items.Embedder`: one request at a time, input by input, in a child process.

    The child is started when it is needed and goes when it is not. A request that is cancelled, or that the
    child dies of, takes the child with it.
    """

    def __init__(self, loader: str, options: Mapping[str, int | str] | None = None) -> None:
        self._loader = loader
        self._options = dict(options or {})
        self._alone = asyncio.Lock()
        self._child: _Child | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Embed all inputs of a request.

        Raises:
            Died: the child died of one of them.
            NotStarted: there is no child, for a reason of its own.
            PipelineNotHosted: there is no such pipeline here.
            Expired: the deadline passed before the last input's turn came.
            Exception: whatever reading a source raised, other than `Refusal`.
        """
        async with self._alone:
            if self._idle is not None:
                self._idle.cancel()
            try:
                child = await self._child_for(request.pipeline)
                embedded = await _embed(child, request)
            except BaseException:
                await self._let_go()
                raise
            self._idle = asyncio.get_running_loop().call_later(_IDLE_S, child.kill)
            return embedded

    async def close(self) -> None:
        """End the child."""
        if self._idle is not None:
            self._idle.cancel()
        await self._let_go()

    async def _child_for(self, pipeline: str) -> _Child:
        if self._child is not None and (self._child.pipeline != pipeline or self._child.has_ended):
            await self._let_go()
        if self._child is None:
            plan = Plan(
                sys_path=sys.path,
                loader=self._loader,
                options=self._options,
                pipeline=pipeline,
                parent_pid=os.getpid(),
            )
            self._child = await _Child.start(plan)
        if self._child.dimension is None:
            raise PipelineNotHosted(pipeline)
        return self._child

    async def _let_go(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            child.kill()
            await child.bury()


async def _embed(child: _Child, request: EmbedRequest) -> Embedded:
    count = len(request.sources)
    embedded = Embedded(
        vectors=np.zeros((count, child.dimension or 0), dtype=np.float32),
        tokens=[0] * count,
        truncated=[False] * count,
        compute_s=[0.0] * count,
        refusals={},
    )
    for index, source in enumerate(request.sources):
        if request.deadline is not None and time.monotonic() >= request.deadline:
            raise Expired("the deadline passed")
        try:
            question = await _question(source)
        except Refusal as refusal:
            embedded.refusals[index] = refusal
            continue
        try:
            row = await child.ask(question)
        except _Ended as error:
            raise Died(index, await child.bury()) from error
        _take(embedded, index, row)
    return embedded


async def _question(source: Source) -> Question:
    if isinstance(source, TextSource):
        return Question(text=source.text)
    return Question(data=await source.read(), media_type=source.media_type)


def _take(embedded: Embedded, index: int, row: Row) -> None:
    embedded.tokens[index] = row.tokens
    embedded.truncated[index] = row.truncated
    embedded.compute_s[index] = row.compute_s
    if row.refusal_code is not None:
        embedded.refusals[index] = Refusal(row.refusal_code, row.refusal_message)
    else:
        embedded.vectors[index] = np.frombuffer(row.vector, dtype="<f4")
