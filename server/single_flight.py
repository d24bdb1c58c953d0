"""Every vector is computed once: known ones come from the cache, those on their way are shared."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from bus.messages import Input, TextInput
from server.errors import ErrorCode, ServiceError, TimedOut
from server.interactive import Flight, InteractiveLane
from server.records import ItemFailureRecord, PipelineRecord
from server.vector_cache import CachedVector, VectorCache

#: Ceilings of one command. Several workers share a big request by its commands, so these are small: about
#: half a second of work on one CPU core.
_MAX_COMMAND_BYTES: Final = 200_000
_MAX_TEXTS: Final = 32
_MAX_OBJECTS: Final = 8


class Rows(msgspec.Struct, kw_only=True):
    """One row an input: ``vectors`` has shape (count, dimension), float32; failed rows are zero."""

    vectors: npt.NDArray[np.float32]
    cached: list[bool]
    truncated: list[bool]
    tokens: list[int]
    failures: list[ItemFailureRecord]
    compute_s: float = 0.0


class _Work(msgspec.Struct, kw_only=True):
    """What one caller asked for. ``missing`` maps the key of each row that is still to come to its places."""

    pipeline: PipelineRecord
    keys: Sequence[bytes]
    inputs: Sequence[Input]
    deadline: float
    missing: dict[bytes, list[int]]
    rows: Rows


class _Leg(msgspec.Struct):
    """The part of one flight that one caller waits for: rows of the flight and their keys."""

    flight: Flight
    is_ours: bool
    rows: list[int] = msgspec.field(default_factory=list)
    keys: list[bytes] = msgspec.field(default_factory=list)


class SingleFlight:
    """Answers with rows, and sends to the workers only what nobody has computed or asked for yet."""

    def __init__(self, lane: InteractiveLane, cache: VectorCache) -> None:
        self._lane = lane
        self._cache = cache
        #: Keys on their way: the flight and the row in it. As many as the lane's pending commands carry.
        self._in_flight: dict[bytes, tuple[Flight, int]] = {}
        #: Inputs that the cache had, and that it had not.
        self.num_known = 0
        self.num_unknown = 0

    async def rows(
        self, pipeline: PipelineRecord, keys: Sequence[bytes], inputs: Sequence[Input], *, deadline: float
    ) -> Rows:
        """Give the row of every input, in order.

        Args:
            pipeline: what computes them.
            keys: a digest an input, over pipeline, version and content.
            inputs: as many as keys.
            deadline: in the running loop's time.

        Raises:
            TimedOut: not everything was there by the deadline.
            Busy: the lane takes no more for now.
            ServiceError: a worker refused a command.
        """
        work = self._look_up(pipeline, keys, inputs, deadline)
        while work.missing:
            legs = self._board(work)
            try:
                await _wait(legs, work.deadline)
                for leg in legs:
                    if leg.flight.error is None:
                        _take(leg, work)
            finally:
                for leg in legs:
                    self._lane.leave(leg.flight)
        work.rows.failures.sort(key=lambda failure: failure.index)
        return work.rows

    def _look_up(
        self, pipeline: PipelineRecord, keys: Sequence[bytes], inputs: Sequence[Input], deadline: float
    ) -> _Work:
        count = len(keys)
        rows = Rows(
            vectors=np.zeros((count, pipeline.dimension), dtype=np.float32),
            cached=[False] * count,
            truncated=[False] * count,
            tokens=[0] * count,
            failures=[],
        )
        missing: dict[bytes, list[int]] = {}
        for index, key in enumerate(keys):
            found = self._cache.find(key)
            if found is None:
                self.num_unknown += 1
                missing.setdefault(key, []).append(index)
                continue
            self.num_known += 1
            rows.vectors[index] = found.vector
            rows.cached[index] = True
            rows.truncated[index] = found.truncated
            rows.tokens[index] = found.tokens
        return _Work(
            pipeline=pipeline, keys=keys, inputs=inputs, deadline=deadline, missing=missing, rows=rows
        )

    def _board(self, work: _Work) -> list[_Leg]:
        """Join the flights that carry what is missing, and launch others for the rest."""
        commands = list(_split([key for key in work.missing if key not in self._in_flight], work))
        # Before anything is joined or launched, so that nothing has to be left again.
        self._lane.require_room(len(commands))
        joined: dict[int, _Leg] = {}
        for key in work.missing:
            seat = self._in_flight.get(key)
            if seat is None:
                continue
            flight, row = seat
            leg = joined.get(id(flight))
            if leg is None:
                leg = joined[id(flight)] = _Leg(flight, is_ours=False)
                flight.waiters += 1
            leg.rows.append(row)
            leg.keys.append(key)
        launched = [self._launch(work, keys) for keys in commands]
        return [*joined.values(), *launched]

    def _launch(self, work: _Work, keys: list[bytes]) -> _Leg:
        def land(flight: Flight) -> None:
            self._land(keys, flight)

        inputs = [work.inputs[work.missing[key][0]] for key in keys]
        flight = self._lane.launch(work.pipeline, inputs, deadline=work.deadline, on_end=land)
        self._in_flight.update((key, (flight, row)) for row, key in enumerate(keys))
        return _Leg(flight, is_ours=True, rows=list(range(len(keys))), keys=keys)

    def _land(self, keys: list[bytes], flight: Flight) -> None:
        for key in keys:
            self._in_flight.pop(key, None)
        if flight.error is not None:
            return
        rows = flight.assembly
        for row, key in enumerate(keys):
            if row not in rows.failures:
                # A copy: a view would keep the vectors of the whole command in memory.
                vector = rows.vectors[row].copy()
                self._cache.put(key, CachedVector(vector, rows.truncated[row], rows.tokens[row]))


def _again(error: ServiceError) -> ServiceError:
    """Copy an error for one of those who wait: raising a shared one would mix their tracebacks."""
    return type(error)(error.message, path=error.path, retry_after_s=error.retry_after_s)


def _split(keys: list[bytes], work: _Work) -> Iterator[list[bytes]]:
    """Cut new keys into the contents of commands."""
    command: list[bytes] = []
    size = 0
    limit = _MAX_TEXTS
    for key in keys:
        item = work.inputs[work.missing[key][0]]
        if isinstance(item, TextInput):
            # UTF-8 has at most 4 bytes a character; exact sizes would cost an encoding each.
            item_bytes = len(item.text) if item.text.isascii() else 4 * len(item.text)
        else:
            item_bytes, limit = len(item.key) + len(item.media_type), _MAX_OBJECTS
        if command and (size + item_bytes > _MAX_COMMAND_BYTES or len(command) >= limit):
            yield command
            command, size = [], 0
        command.append(key)
        size += item_bytes
    if command:
        yield command


async def _wait(legs: list[_Leg], deadline: float) -> None:
    """Return when all have landed.

    Raises:
        ServiceError: one failed, and there is no use in asking again.
    """
    waiting = {leg.flight.landed for leg in legs}
    while waiting:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for leg in legs:
            error = leg.flight.error
            if error is not None and not _is_worth_another(leg, error, deadline):
                raise _again(error) from error


def _is_worth_another(leg: _Leg, error: ServiceError, deadline: float) -> bool:
    # A shared flight ends at the deadline of whoever launched it, which may be long before ours.
    return not leg.is_ours and isinstance(error, TimedOut) and asyncio.get_running_loop().time() < deadline


def _take(leg: _Leg, work: _Work) -> None:
    assembly = leg.flight.assembly
    rows: list[int] = []
    places: list[int] = []
    for row, key in zip(leg.rows, leg.keys, strict=True):
        for place in work.missing.pop(key):
            rows.append(row)
            places.append(place)
            work.rows.truncated[place] = assembly.truncated[row]
            work.rows.tokens[place] = assembly.tokens[row]
            failure = assembly.failures.get(row)
            if failure is not None:
                code = ErrorCode(failure.code) if failure.code in _CODES else ErrorCode.INTERNAL
                work.rows.failures.append(ItemFailureRecord(index=place, code=code, message=failure.message))
    if len(rows) == 1:
        work.rows.vectors[places[0]] = assembly.vectors[rows[0]]
    else:
        work.rows.vectors[places] = assembly.vectors[rows]
    if leg.is_ours:
        work.rows.compute_s += assembly.compute_s


_CODES: Final = frozenset(code.value for code in ErrorCode)
