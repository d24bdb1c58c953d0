"""One execution, and one encoding, of an event for all subscribers who would be given the same.

Each subscriber reads its history by itself, at its own pace and from its own cursor: a slow one holds up
nobody, and nothing is queued for it. What is shared is only the price of the answer, while it is fresh.
"""

import asyncio
import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import msgspec
import orjson
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    Node,
    OperationDefinitionNode,
    VariableNode,
    Visitor,
    visit,
)
from strawberry.http import process_result
from strawberry.types.execution import ExecutionResult

from server.graphql.wire import encode_json

#: Subscribers of one server are this close together, unless one of them lags.
_FRESH_S = 1.0
_MAX_RESULTS = 512


@runtime_checkable
class Shareable(Protocol):
    """An event that any number of subscribers may see."""

    def identity(self) -> Hashable:
        """Return what is the same for the same event, and for no other."""


@dataclasses.dataclass
class SharedResult(ExecutionResult):
    """A result that several subscribers get."""

    @cached_property
    def encoded(self) -> orjson.Fragment:
        """The answer as JSON, written once."""
        return orjson.Fragment(encode_json(process_result(self)))


class _Entry(msgspec.Struct, frozen=True, eq=False):
    """What an event came to, or will."""

    result: asyncio.Future[ExecutionResult]
    stale_at: float


class SharedExecutions:
    """Remembers for a moment what events came to, where more than one subscriber asks the same."""

    def __init__(self, *, fresh_s: float = _FRESH_S, max_results: int = _MAX_RESULTS) -> None:
        self._fresh_s = fresh_s
        self._max_results = max_results
        self._subscribers: Counter[Hashable] = Counter()
        self._results: OrderedDict[Hashable, _Entry] = OrderedDict()

    @contextmanager
    def joined(self, question: Hashable) -> Iterator[None]:
        """Count a subscriber who asks this for as long as it does."""
        self._subscribers[question] += 1
        try:
            yield
        finally:
            self._subscribers[question] -= 1
            if not self._subscribers[question]:
                del self._subscribers[question]

    async def answer(
        self, question: Hashable, event: object, execute: Callable[[], Awaitable[ExecutionResult]]
    ) -> ExecutionResult:
        """Return what an event comes to for whoever asks ``question``.

        Args:
            question: everything else that the answer depends on.
            event: what has happened.
            execute: finds the answer.
        """
        if self._subscribers[question] < 2 or not isinstance(event, Shareable):  # noqa: PLR2004, it is alone
            return await execute()
        now = asyncio.get_running_loop().time()
        key = (question, event.identity())
        entry = self._results.get(key)
        if entry is None or entry.stale_at < now:
            # A task of its own: whoever asks first may leave first.
            entry = _Entry(asyncio.ensure_future(execute()), now + self._fresh_s)
            self._remember(key, entry, now)
        if entry.result.done():
            return entry.result.result()
        return await asyncio.shield(entry.result)

    def _remember(self, key: Hashable, entry: _Entry, now: float) -> None:
        while self._results and next(iter(self._results.values())).stale_at < now:
            self._results.popitem(last=False)
        self._results[key] = entry
        self._results.move_to_end(key)
        if len(self._results) > self._max_results:
            self._results.popitem(last=False)


class _Variables(Visitor):
    """Collects the names of variables."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_variable(self, node: VariableNode, *_: Any) -> None:  # noqa: ANN401, graphql-core's
        """Take a name."""
        self.names.add(node.name.value)


def variables_below(document: DocumentNode, operation: OperationDefinitionNode) -> frozenset[str]:
    """Return the variables that answers depend on: not those that only choose which events there are.

    Those stand in the arguments of the operation's own field alone.
    """
    parts: list[Node] = [part for part in document.definitions if isinstance(part, FragmentDefinitionNode)]
    for selection in operation.selection_set.selections:
        if isinstance(selection, FieldNode):
            parts += selection.directives or ()
            parts += [selection.selection_set] if selection.selection_set else []
        else:
            parts.append(selection)
    found = _Variables()
    for part in parts:
        visit(part, found)
    return frozenset(found.names)
