"""Deployed models, loaded when they are asked for, as many as there is room for.

A model that has to make room is no longer found at once, so nobody new holds on to it; it goes when the last
who uses it is done. Everything that makes room or takes it happens one model after the other.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

from bus.messages import DeployedModel
from bus.tasks import Tasks
from workers.embed.hosting import Pipeline
from workers.embed.items import Expired, ModelNotAtHand, ModelRefused
from workers.embed.models.alone import alone_name
from workers.embed.models.files import ModelFiles, name_of, no_such_model

logger = logging.getLogger(__name__)

#: Rebuilds the model in a folder, with vectors of a dimension; blocking. Raises `ModelRefused`.
Load = Callable[[Path, int], Pipeline]

#: Who asks for a model that could not be loaded hears the same for so long: one that is damaged costs a
#: download each time.
_FAILED_FOR_S = 1.0


class _Shelved:
    """A loaded model."""

    def __init__(self, key: str, owner_id: str, num_bytes: int) -> None:
        self.key = key
        self.owner_id = owner_id
        self.num_bytes = num_bytes
        self.num_users = 0
        #: False once it has to make room.
        self.is_found = True


class _Flight:
    """A model on its way here, and how many wait for it."""

    def __init__(self) -> None:
        self.num_waiting = 0
        #: With a use of it for each who waits.
        self.landed: _Shelved | None = None
        self.task: asyncio.Task[None]


class ModelShelf:
    """Lends deployed models to requests. Create it inside the event loop; `close` it."""

    def __init__(self, files: ModelFiles, load: Load, pipelines: MutableMapping[str, Pipeline]) -> None:
        """Nothing is loaded yet.

        Args:
            files: where the artifacts are kept on this machine; this shelf's alone. What they may take,
                the models that are loaded may take again.
            load: rebuilds a model; runs on a thread of its own.
            pipelines: what the engine has; loaded models are put there, under names of their own.
        """
        self._files = files
        self._load = load
        self._pipelines = pipelines
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._one_at_a_time = asyncio.Lock()
        self._has_opened = False
        self._freed = asyncio.Event()
        self._numbers = count(1)
        #: By `name_of`; the first was used longest ago.
        self._found: dict[str, _Shelved] = {}
        #: By `name_of` and the owner it is asked for: only the true one's lands.
        self._flights: dict[tuple[str, str], _Flight] = {}
        #: Also of those that are not found any more.
        self._num_bytes = 0
        self._tasks = Tasks()

    @property
    def num_bytes(self) -> int:
        """Bytes of the models that are loaded."""
        return self._num_bytes

    @asynccontextmanager
    async def borrowed(self, model: DeployedModel, *, deadline: float | None = None) -> AsyncIterator[str]:
        """Give the engine's name for a model, which is loaded until the block ends.

        Raises:
            ModelRefused: there is no such model of this owner, or it can't embed.
            ModelNotAtHand: it can't be loaded now.
            ObjectStoreError: the object store fails.
            Expired: it was not loaded at the deadline (of ``time.monotonic``).
        """
        shelved = await self._take(model, deadline)
        try:
            yield shelved.key
        finally:
            self._give_back(shelved)

    @asynccontextmanager
    async def files_held(self, model: DeployedModel, *, deadline: float | None = None) -> AsyncIterator[str]:
        """Give the name by which a process of its own finds the files of a model, there until the block ends.

        Raises:
            ModelRefused, ModelNotAtHand, ObjectStoreError, Expired: like `borrowed`.
        """
        with ExitStack() as stack:
            async with _until(deadline), self._one_at_a_time:
                await self._fetch(model)
                stack.enter_context(self._files.held(model))
            yield alone_name(name_of(model), model.dimension)

    def preload(self, model: DeployedModel) -> None:
        """Begin to load a model that somebody may ask for soon."""
        self._tasks.spawn(self._preload(model), f"preloading of model {model.model_id}")

    async def close(self) -> None:
        """Load nothing more."""
        await self._tasks.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _preload(self, model: DeployedModel) -> None:
        try:
            async with self.borrowed(model):
                pass
        except (ModelRefused, ModelNotAtHand) as error:
            logger.warning("model %s was not loaded beforehand: %s", model.model_id, error)

    # Use.

    async def _take(self, model: DeployedModel, deadline: float | None) -> _Shelved:
        name = name_of(model)
        shelved = self._found.get(name)
        if shelved is None:
            flight = self._flights.get((name, model.owner_id)) or self._launch(model, name)
            return await self._wait_for(flight, deadline)
        if shelved.owner_id != model.owner_id:
            # As if there were none, in what it costs as well.
            await self._files.check_owner(model)
            raise no_such_model()
        self._found[name] = self._found.pop(name)
        shelved.num_users += 1
        return shelved

    async def _wait_for(self, flight: _Flight, deadline: float | None) -> _Shelved:
        flight.num_waiting += 1
        try:
            async with _until(deadline):
                # Whoever gives up leaves the others their model.
                await asyncio.shield(flight.task)
        except BaseException:
            flight.num_waiting -= 1
            if flight.landed is not None:
                self._give_back(flight.landed)
            raise
        if flight.landed is None:
            raise RuntimeError("a model was loaded and is nowhere")
        return flight.landed

    def _give_back(self, shelved: _Shelved) -> None:
        shelved.num_users -= 1
        self._remove_unused(shelved)

    def _remove_unused(self, shelved: _Shelved) -> None:
        if shelved.num_users == 0 and not shelved.is_found:
            del self._pipelines[shelved.key]
            self._num_bytes -= shelved.num_bytes
            self._freed.set()

    # Loading.

    def _launch(self, model: DeployedModel, name: str) -> _Flight:
        flight = _Flight()
        self._flights[name, model.owner_id] = flight
        flight.task = self._tasks.spawn(self._fly(model, name, flight), f"loading of model {model.model_id}")
        return flight

    async def _fly(self, model: DeployedModel, name: str, flight: _Flight) -> None:
        asked = (name, model.owner_id)
        try:
            async with self._one_at_a_time:
                began = time.monotonic()
                shelved = await self._bring(model)
            # From here on in one turn of the loop: nobody makes room of what somebody has waited for.
            shelved.num_users = flight.num_waiting
            self._found[name] = flight.landed = shelved
        except BaseException:
            asyncio.get_running_loop().call_later(_FAILED_FOR_S, self._flights.pop, asked, None)
            raise
        del self._flights[asked]
        took_s = time.monotonic() - began
        logger.info("loaded model %s, %d bytes, in %.2f s", model.model_id, shelved.num_bytes, took_s)

    async def _bring(self, model: DeployedModel) -> _Shelved:
        was_fetched = await self._fetch(model)
        num_bytes = self._files.size_of(model)
        with self._files.held(model):
            await self._make_room(num_bytes)
            try:
                pipeline = await self._open(model)
            except ModelRefused as refused:
                if was_fetched or refused.code != "INTERNAL":
                    raise
                logger.warning("model %s was damaged on this machine's disk", model.model_id)
                await self._files.drop(model)
                await self._fetch(model)
                pipeline = await self._open(model)
        shelved = _Shelved(f"{name_of(model)}#{next(self._numbers)}", model.owner_id, num_bytes)
        self._pipelines[shelved.key] = pipeline
        self._num_bytes += num_bytes
        return shelved

    async def _fetch(self, model: DeployedModel) -> bool:
        if not self._has_opened:
            try:
                await asyncio.to_thread(self._files.open)
            except OSError as error:
                raise ModelNotAtHand(f"the folder for models can't be used: {error}") from error
            self._has_opened = True
        await self._files.check_owner(model)
        return await self._files.fetch(model)

    async def _open(self, model: DeployedModel) -> Pipeline:
        folder = self._files.folder / name_of(model)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(self._load, folder, model.dimension))

    async def _make_room(self, num_bytes: int) -> None:
        """Let models go, those nobody uses first, and wait until so many bytes are free."""
        room = self._files.max_bytes - num_bytes
        staying = sum(shelved.num_bytes for shelved in self._found.values())
        # Sorting keeps the order of use among equals.
        for name, shelved in sorted(self._found.items(), key=lambda found: found[1].num_users > 0):
            if staying <= room:
                break
            staying -= shelved.num_bytes
            shelved.is_found = False
            del self._found[name]
            self._remove_unused(shelved)
        while self._num_bytes > room:
            self._freed.clear()
            await self._freed.wait()


@asynccontextmanager
async def _until(deadline: float | None) -> AsyncIterator[None]:
    """Raise `Expired` within the block at a deadline of ``time.monotonic``."""
    left_s = None if deadline is None else deadline - time.monotonic()
    try:
        async with asyncio.timeout(left_s):
            yield
    except TimeoutError as error:
        raise Expired("the model was not loaded in time") from error
