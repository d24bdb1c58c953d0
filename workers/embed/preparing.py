"""Reading, decoding and tokenising beside the device."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from workers.embed.hosting import Pipeline
from workers.embed.items import BytesSource, Prepared, Refusal, Source, TextSource

#: Called with the index of a source as soon as it is ready, or known to be refused.
Ready = Callable[[int, Prepared | Refusal], None]

#: Below this many characters a hop to another thread costs more than tokenising here.
_INLINE_CHARS = 2000
#: Texts that are tokenised in one go; the device can start on them while the next are tokenised.
_TEXTS_AT_ONCE = 128


class Preparer:
    """Turns sources into what pipelines take, a bounded number at a time."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        # One file a thread and one more on its way: this bounds the memory that encoded files take.
        self._files = asyncio.Semaphore(threads + 1)

    async def prepare(self, pipeline: Pipeline, sources: Sequence[Source], ready: Ready) -> None:
        """Prepare all sources; ``ready`` is called once for each, in the event loop.

        Raises:
            Exception: whatever reading a source raised, other than `Refusal`.
        """
        texts = [
            (index, source.text) for index, source in enumerate(sources) if isinstance(source, TextSource)
        ]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            await self._prepare_texts(pipeline, texts[start : start + _TEXTS_AT_ONCE], ready)
        files = [(index, source) for index, source in enumerate(sources) if isinstance(source, BytesSource)]
        tasks = [
            asyncio.create_task(self._prepare_file(pipeline, index, source, ready)) for index, source in files
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _prepare_texts(self, pipeline: Pipeline, texts: list[tuple[int, str]], ready: Ready) -> None:
        contents = [text for _, text in texts]
        if sum(map(len, contents)) <= _INLINE_CHARS:
            prepared = pipeline.prepare_texts(contents)
        else:
            loop = asyncio.get_running_loop()
            prepared = await loop.run_in_executor(self._threads, pipeline.prepare_texts, contents)
        for (index, _), result in zip(texts, prepared, strict=True):
            ready(index, result)

    async def _prepare_file(self, pipeline: Pipeline, index: int, source: BytesSource, ready: Ready) -> None:
        loop = asyncio.get_running_loop()
        async with self._files:
            try:
                data = await source.read()
            except Refusal as refusal:
                ready(index, refusal)
                return
            result = await loop.run_in_executor(
                self._threads, pipeline.prepare_bytes, data, source.media_type
            )
        ready(index, result)
