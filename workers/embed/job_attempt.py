"""One attempt at one embedding job: chunk by chunk, with heartbeats that carry the order to stop."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from enum import Enum, auto

import msgspec

from bus import subjects
from bus.errors import BusError, ObjectNotFound
from bus.messages import DeployedModel, Input, ItemsEmbedded, JobClaimed
from bus.messages.embedding import decode_inputs
from bus.objects import ObjectStore
from bus.port import Bus
from bus.requests import heartbeat
from workers.embed.answers import item_errors, row_bytes
from workers.embed.engine import Engine
from workers.embed.items import (
    Embedded,
    Embedder,
    EmbedRequest,
    Lane,
    ModelNotAtHand,
    ModelRefused,
    Source,
)
from workers.embed.models.shelf import ModelShelf
from workers.embed.sacrifice.engine import Died
from workers.embed.sources import to_sources

logger = logging.getLogger(__name__)

#: How late a cancellation may be seen whose broadcast is lost. A heartbeat costs a server one read.
_HEARTBEAT_EVERY_S = 1.0
#: How long work goes on before anything that may end it from outside is looked at.
_HEAD_START_S = 0.1
#: While one chunk is stored and reported, the next is prepared and computed.
_CHUNKS_AT_ONCE = 2
#: What the chunks in hand may still take once the worker stops. Another worker has the job within a second,
#: and computes again what was not reported by then.
_HANDOVER_S = 0.2


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What work on jobs needs."""

    bus: Bus
    engine: Engine
    #: Where jobs are embedded that processes have died of.
    alone: Embedder
    objects: ObjectStore
    worker_id: str
    #: Deployed models; None where none are served.
    models: ModelShelf | None = None
    heartbeat_every_s: float = _HEARTBEAT_EVERY_S
    handover_s: float = _HANDOVER_S

    def hosting(
        self,
        pipeline: str,
        model: DeployedModel | None,
        embedder: Embedder,
        *,
        deadline: float | None = None,
    ) -> AbstractAsyncContextManager[str]:
        """Give what to ask ``embedder`` for; a deployed model is at hand until the block ends.

        Raises:
            ModelNotAtHand: no models are served here.
            Exception: see `ModelShelf.borrowed`.
        """
        if model is None:
            return nullcontext(pipeline)
        if self.models is None:
            raise ModelNotAtHand(pipeline)
        if embedder is self.alone:
            return self.models.files_held(model, deadline=deadline)
        return self.models.borrowed(model, deadline=deadline)


class End(Enum):
    """How an attempt ended, if not with an exception."""

    #: Every chunk is reported.
    DONE = auto()
    #: The job is cancelled.
    CANCELLED = auto()
    #: A server said so: the attempt is somebody else's.
    SUPERSEDED = auto()
    #: The worker stops; chunks are left for another.
    DRAINED = auto()


class Hopeless(Exception):
    """Another attempt would fail as well.

    Attributes:
        code: an ErrorCode of the public contract.
    """

    def __init__(self, message: str, *, code: str = "INTERNAL") -> None:
        super().__init__(message)
        self.code = code


class DiedOf(Exception):
    """The process that was alone with an input of the job has died.

    Attributes:
        index: which input of the job.
        how: what became of the process, for a person.
    """

    def __init__(self, index: int, how: str) -> None:
        super().__init__(f"input {index}: the process {how}")
        self.index = index
        self.how = how


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What may end an attempt from outside."""

    #: The worker stops.
    draining: asyncio.Event
    #: The job is to be stopped.
    cancelled: asyncio.Event


class JobAttempt:
    """The work on a claimed job, by ``embedder``."""

    def __init__(self, tools: Tools, claim: JobClaimed, signals: Signals, embedder: Embedder) -> None:
        self._tools = tools
        self._claim = claim
        self._signals = signals
        self._embedder = embedder

    async def run(self) -> End:
        """Embed the chunks that no earlier attempt has delivered.

        Raises:
            Hopeless: the job's inputs are not there or can't be read.
            PipelineNotHosted: this worker has no such pipeline.
            DiedOf: an input has ended the process that embedded it.
            BusError: something could not be stored or reported.
        """
        working = asyncio.create_task(self._work())
        try:
            # Most short jobs are done by then, and have spared three tasks and two timers.
            await asyncio.wait({working}, timeout=_HEAD_START_S)
            return working.result() if working.done() else await self._watch(working)
        finally:
            working.cancel()
            await asyncio.wait({working})

    async def _watch(self, working: asyncio.Task[End]) -> End:
        """Wait for the end of the work, or for what ends it from outside."""
        watching = [
            asyncio.create_task(self._await_order()),
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._hand_over()),
        ]
        # In the order in which they count where several are done.
        tasks = (working, *watching)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task.done()).result()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _await_order(self) -> End:
        await self._signals.cancelled.wait()
        logger.info("job %s is cancelled", self._claim.job_id)
        return End.CANCELLED

    async def _hand_over(self) -> End:
        handover_s = self._tools.handover_s
        if self._signals.draining.is_set():
            # Perhaps since the beginning of the head start.
            handover_s = max(0.0, handover_s - _HEAD_START_S)
        await self._signals.draining.wait()
        await asyncio.sleep(handover_s)
        return End.DRAINED

    async def _read_inputs(self) -> list[Input]:
        spec = self._claim.spec
        try:
            inputs = decode_inputs(await self._tools.objects.get(spec.inputs_key))
        except (ObjectNotFound, msgspec.DecodeError) as error:
            raise Hopeless("The inputs of the job can't be read.") from error
        if len(inputs) != spec.item_count:
            raise Hopeless(f"The job has {spec.item_count} inputs, and {len(inputs)} were found.")
        return inputs

    async def _work(self) -> End:
        inputs = await self._read_inputs()
        spec = self._claim.spec
        num_chunks = -(-spec.item_count // spec.chunk_size)
        done = set(self._claim.done_chunks)
        pending: deque[asyncio.Task[None]] = deque()
        try:
            for chunk in (chunk for chunk in range(num_chunks) if chunk not in done):
                if self._signals.draining.is_set():
                    await asyncio.gather(*pending)
                    return End.DRAINED
                pending.append(asyncio.create_task(self._embed_chunk(chunk, inputs)))
                if len(pending) == _CHUNKS_AT_ONCE:
                    await pending[0]
                    pending.popleft()
            await asyncio.gather(*pending)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return End.DONE

    async def _embed_chunk(self, chunk: int, inputs: Sequence[Input]) -> None:
        claim, tools = self._claim, self._tools
        first_index = chunk * claim.spec.chunk_size
        items = inputs[first_index : first_index + claim.spec.chunk_size]
        try:
            embedded = await self._embed(to_sources(items, tools.objects))
        except Died as died:
            raise DiedOf(first_index + died.index, died.how) from died
        except ModelRefused as refused:
            raise Hopeless(refused.message, code=refused.code) from refused
        # Beside the inputs: a folder for each attempt would cost a small job more than its vectors.
        vectors_key = f"jobs/{claim.job_id}/{claim.attempt}-{chunk}.f32"
        await tools.objects.put(vectors_key, row_bytes(embedded.vectors))
        message = ItemsEmbedded(
            job_id=claim.job_id,
            attempt=claim.attempt,
            chunk=chunk,
            first_index=first_index,
            count=len(items),
            dimension=embedded.vectors.shape[1],
            vectors_key=vectors_key,
            truncated=embedded.truncated,
            failures=item_errors(embedded, range(len(items)), first_index),
            tokens=sum(embedded.tokens),
            compute_s=sum(embedded.compute_s),
        )
        await tools.bus.publish(
            subjects.job_event(claim.job_id), message, message_id=f"{claim.job_id}:{claim.attempt}:{chunk}"
        )

    async def _embed(self, sources: list[Source]) -> Embedded:
        # For each chunk: a long job must not keep other models from their room.
        spec = self._claim.spec
        async with self._tools.hosting(spec.pipeline, spec.model, self._embedder) as pipeline:
            return await self._embedder.embed(
                EmbedRequest(pipeline=pipeline, sources=sources, lane=Lane.BULK)
            )

    async def _listen(self) -> End:
        """Say that the attempt is alive until a server answers that it should not be."""
        claim, tools = self._claim, self._tools
        while True:
            await asyncio.sleep(tools.heartbeat_every_s)
            try:
                answer = await heartbeat(
                    tools.bus, claim.job_id, attempt=claim.attempt, worker_id=tools.worker_id
                )
            except BusError as error:
                logger.warning("the heartbeat of job %s was not heard, work goes on: %s", claim.job_id, error)
                continue
            if answer.verdict != "continue":
                logger.info("job %s is stopped: %s", claim.job_id, answer.verdict)
                return End.CANCELLED if answer.verdict == "cancel" else End.SUPERSEDED
