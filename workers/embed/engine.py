"""From inputs to vectors: prepare beside the device, batch, compute, and let a bad input fail alone.

Three places of work: the event loop, which only moves things; a few threads that decode and tokenise; and the
device thread, which runs one pipeline at a time. There is no timer that waits for a batch to fill: an idle
device takes what is there, and batches grow by themselves while it is busy.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import msgspec
import numpy as np

from workers.embed.batching import Batch, BatchLimits, Unit, Window
from workers.embed.device import Computed, compute
from workers.embed.hosting import Pipeline
from workers.embed.items import Embedded, EmbedRequest, Expired, Matrix, PipelineNotHosted, Prepared, Refusal
from workers.embed.preparing import Preparer


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine works."""

    limits: BatchLimits = BatchLimits()
    prepare_threads: int = 1


class Engine:
    """Embeds requests of both lanes on one device. Create it inside the event loop; `close` it."""

    def __init__(self, pipelines: Mapping[str, Pipeline], settings: EngineSettings) -> None:
        self._pipelines = pipelines
        self._window = Window(settings.limits)
        self._preparer = Preparer(settings.prepare_threads)
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._arrivals = count()
        self._in_flight = 0
        self._busy_since: float | None = None
        self._changed = asyncio.Event()
        self._driver = asyncio.create_task(self._drive(), name="engine")

    @property
    def busy_s(self) -> float:
        """For how long the device has been without a result, while it has work."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Embed all inputs of a request; a cancelled call takes its waiting inputs with it.

        Raises:
            PipelineNotHosted: there is no such pipeline here.
            Expired: the deadline passed before the last input's turn came.
            Exception: whatever reading a source raised, other than `Refusal`.
        """
        pipeline = self._pipelines.get(request.pipeline)
        if pipeline is None:
            raise PipelineNotHosted(request.pipeline)
        group = _Group(len(request.sources), pipeline.dimension, request.deadline)
        try:
            await self._preparer.prepare(pipeline, request.sources, partial(self._ready, request, group))
            await group.done
        finally:
            group.done.cancel()
        return group.embedded

    async def close(self) -> None:
        """Finish what the device works on; drop what waits."""
        self._driver.cancel()
        await asyncio.gather(self._driver, return_exceptions=True)
        self._preparer.close()
        await asyncio.to_thread(self._device.shutdown, cancel_futures=True)

    def _ready(self, request: EmbedRequest, group: "_Group", index: int, result: Prepared | Refusal) -> None:
        if isinstance(result, Refusal):
            group.take(index, result, 0.0)
            return
        group.embedded.tokens[index] = result.tokens
        group.embedded.truncated[index] = result.truncated
        unit = Unit(prepared=result, owner=group, index=index, arrived=next(self._arrivals))
        self._window.add(request.pipeline, request.lane, unit)
        self._changed.set()

    async def _drive(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._may_cut():
                batch, dropped = self._window.next_batch(time.monotonic())
                for unit in dropped:
                    unit.owner.expire()
                if batch is None:
                    break
                self._begin(batch)

    def _may_cut(self) -> bool:
        # One batch computes and one may wait for it, so that the device never waits for this loop. The second
        # is only cut when it is full: a batch cut later is a larger one.
        return self._in_flight == 0 or (self._in_flight == 1 and self._window.has_full_batch)

    def _begin(self, batch: Batch) -> None:
        self._in_flight += 1
        if self._busy_since is None:
            self._busy_since = time.monotonic()
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._device, compute, self._pipelines[batch.pipeline], batch.units)
        running.add_done_callback(self._finish)

    def _finish(self, running: "asyncio.Future[list[Computed]]") -> None:
        self._in_flight -= 1
        self._busy_since = time.monotonic() if self._in_flight else None
        self._changed.set()
        if running.cancelled():
            return
        for computed in running.result():
            computed.unit.owner.take(computed.unit.index, computed.row, computed.compute_s)


class _Group:
    """The inputs of one request on their way, and the rows that have come back."""

    def __init__(self, num_inputs: int, dimension: int, deadline: float | None) -> None:
        self.embedded = Embedded(
            vectors=np.zeros((num_inputs, dimension), dtype=np.float32),
            tokens=[0] * num_inputs,
            truncated=[False] * num_inputs,
            compute_s=[0.0] * num_inputs,
            refusals={},
        )
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deadline = deadline
        self._remaining = num_inputs
        self._settle(0)

    def is_wanted(self, now: float) -> bool:
        """Whether the caller still waits."""
        return not self.done.done() and (self._deadline is None or now < self._deadline)

    def take(self, index: int, row: Matrix | Refusal, compute_s: float) -> None:
        """Put a row where it belongs."""
        self.embedded.compute_s[index] = compute_s
        if isinstance(row, Refusal):
            self.embedded.refusals[index] = row
        else:
            self.embedded.vectors[index] = row
        self._settle(1)

    def expire(self) -> None:
        """Give the request up."""
        if not self.done.done():
            self.done.set_exception(Expired("the deadline passed"))

    def _settle(self, num_rows: int) -> None:
        self._remaining -= num_rows
        if self._remaining == 0 and not self.done.done():
            self.done.set_result(None)
