"""One attempt at one embedding job: chunk by chunk, with heartbeats that carry the order to stop."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

import msgspec

from bus import subjects
from bus.errors import BusError, ObjectNotFound
from bus.messages import Input, ItemsEmbedded, JobClaimed
from bus.messages.embedding import decode_inputs
from bus.objects import ObjectStore
from bus.port import Bus
from bus.requests import heartbeat
from workers.embed.answers import item_errors, row_bytes
from workers.embed.engine import Engine
from workers.embed.items import EmbedRequest, Lane
from workers.embed.sources import to_sources

logger = logging.getLogger(__name__)

_HEARTBEAT_EVERY_S = 3.0
#: While one chunk is stored and reported, the next is prepared and computed.
_CHUNKS_AT_ONCE = 2


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What work on jobs needs."""

    bus: Bus
    engine: Engine
    objects: ObjectStore
    worker_id: str
    heartbeat_every_s: float = _HEARTBEAT_EVERY_S


class End(Enum):
    """How an attempt ended, if not with an exception."""

    #: Every chunk is reported.
    DONE = auto()
    #: A server said so: the job is cancelled, or somebody else's.
    STOPPED = auto()
    #: The worker stops; chunks are left for another.
    DRAINED = auto()


class Hopeless(Exception):
    """Another attempt would fail as well."""


class JobAttempt:
    """The work on a claimed job."""

    def __init__(self, tools: Tools, claim: JobClaimed, draining: asyncio.Event) -> None:
        self._tools = tools
        self._claim = claim
        self._draining = draining

    async def run(self) -> End:
        """Embed the chunks that no earlier attempt has delivered.

        Raises:
            Hopeless: the job's inputs are not there or can't be read.
            PipelineNotHosted: this worker has no such pipeline.
            BusError: something could not be stored or reported.
        """
        inputs = await self._read_inputs()
        working = asyncio.create_task(self._work(inputs))
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else listening.result()
        finally:
            for task in (working, listening):
                task.cancel()
            await asyncio.gather(working, listening, return_exceptions=True)

    async def _read_inputs(self) -> list[Input]:
        spec = self._claim.spec
        try:
            inputs = decode_inputs(await self._tools.objects.get(spec.inputs_key))
        except (ObjectNotFound, msgspec.DecodeError) as error:
            raise Hopeless("The inputs of the job can't be read.") from error
        if len(inputs) != spec.item_count:
            raise Hopeless(f"The job has {spec.item_count} inputs, and {len(inputs)} were found.")
        return inputs

    async def _work(self, inputs: Sequence[Input]) -> End:
        spec = self._claim.spec
        num_chunks = -(-spec.item_count // spec.chunk_size)
        done = set(self._claim.done_chunks)
        pending: deque[asyncio.Task[None]] = deque()
        try:
            for chunk in (chunk for chunk in range(num_chunks) if chunk not in done):
                if self._draining.is_set():
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
        sources = to_sources(items, tools.objects)
        embedded = await tools.engine.embed(
            EmbedRequest(pipeline=claim.spec.pipeline, sources=sources, lane=Lane.BULK)
        )
        vectors_key = f"results/{claim.job_id}/{claim.attempt}/{chunk}.f32"
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
                return End.STOPPED
