"""Runs operations for every transport.

Strawberry's own ``Schema`` enters a stack of extension hooks for each request and leaves limits, caching
and masking to extensions that overwrite one another's findings. Here they are steps of one function.
"""

import dataclasses
from collections.abc import AsyncGenerator, Hashable, Iterable
from http import HTTPStatus
from inspect import isawaitable
from typing import Any, cast

import orjson
import strawberry
from graphql import ExecutionResult as CoreResult
from graphql import located_error
from graphql.execution import (
    Executor,
    create_source_event_stream,
    execute,
    execute_subscription_event,
)
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.utils.aio import aclosing
from typing_extensions import override

from server.errors import ErrorCode
from server.graphql.config import GraphQLConfig
from server.graphql.documents import Document, Documents, Refused, refusal
from server.graphql.errors import public_errors
from server.graphql.sharing import SharedExecutions, SharedResult, variables_below

#: The results of one operation, errors among them; strawberry's stream without incremental delivery.
Results = AsyncGenerator[ExecutionResult, None]


@dataclasses.dataclass
class RequestRefused(PreExecutionError):
    """Nothing was run. ``status`` is what HTTP says to it."""

    status: int = HTTPStatus.BAD_REQUEST


@dataclasses.dataclass(frozen=True)
class _Call:
    """What graphql-core is called with."""

    document: Document
    text: str
    operation_name: str | None
    operation_type: OperationType
    arguments: dict[str, Any]

    @property
    def question(self) -> Hashable:
        """All that the answer to an event depends on, but for the event; None where that can't be said."""
        principal = getattr(self.arguments["context_value"], "principal", None)
        operation = self.document.find_operation(self.operation_name)
        if principal is None or operation is None:
            return None
        given = self.arguments["variable_values"] or {}
        used = variables_below(self.document.node, operation)
        try:
            variables = orjson.dumps({name: given[name] for name in sorted(used & given.keys())})
        except TypeError:
            return None
        return (self.text, self.operation_name, variables, principal.user_id, principal.scopes)


class ApiSchema(strawberry.Schema):
    """A schema whose operations are limited, remembered and masked."""

    def configure(self, config: GraphQLConfig) -> "ApiSchema":
        """Set the limits; called once, before the first operation."""
        self._limits = config.limits
        self._documents = Documents(self._schema, config.limits, max_tokens=config.cached_tokens)
        self._shared = SharedExecutions()
        return self

    @override
    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Run a query or a mutation and return its one result; nothing is raised."""
        arguments = _arguments(variable_values, context_value, root_value, operation_extensions)
        try:
            call = self._prepare(query, operation_name, allowed_operation_types, arguments)
        except Refused as refused:
            return self._refused(refused)
        if call.operation_type is OperationType.SUBSCRIPTION:
            hint = "A subscription needs a WebSocket or the header Accept: text/event-stream."
            return self._refused(Refused([refusal(hint, ErrorCode.INVALID_INPUT)]))
        return await self._run(call)

    @override
    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any = None,
        root_value: Any = None,
        operation_name: str | None = None,
        operation_extensions: dict[str, Any] | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
    ) -> Results:
        """Run any operation and return its results one by one; nothing is raised."""
        arguments = _arguments(variable_values, context_value, root_value, operation_extensions)
        try:
            call = self._prepare(query, operation_name, allowed_operation_types, arguments)
        except Refused as refused:
            return _only(self._refused(refused))
        if call.operation_type is OperationType.SUBSCRIPTION:
            return self._subscribe(call)
        return _only(await self._run(call))

    def is_subscription(self, query: str | None, operation_name: str | None) -> bool:
        """Whether a request is a valid one for a subscription."""
        try:
            call = self._prepare(query, operation_name, None, {})
        except Refused:
            return False
        return call.operation_type is OperationType.SUBSCRIPTION

    def _prepare(
        self,
        query: str | None,
        operation_name: str | None,
        allowed: Iterable[OperationType] | None,
        arguments: dict[str, Any],
    ) -> _Call:
        if not query:
            raise Refused([refusal("There is no query in the request.", ErrorCode.INVALID_INPUT)])
        document = self._documents.prepare(query)
        operation = document.find_operation(operation_name)
        if operation is None:
            message = "Name one of the document's operations in operationName."
            raise Refused([refusal(message, ErrorCode.INVALID_INPUT)])
        operation_type = OperationType(operation.operation.value)
        if allowed is not None and operation_type not in allowed:
            message = f"A {operation_type.value} can't be sent this way."
            raise Refused([refusal(message, ErrorCode.INVALID_INPUT)], status=HTTPStatus.METHOD_NOT_ALLOWED)
        return _Call(document, query, operation_name or None, operation_type, arguments)

    def _refused(self, refused: Refused) -> RequestRefused:
        errors = public_errors(refused.errors, limit=self._limits.errors)
        return RequestRefused(data=None, errors=errors, status=refused.status)

    async def _run(self, call: _Call) -> ExecutionResult:
        result = execute(
            self._schema,
            call.document.node,
            operation_name=call.operation_name,
            executor_class=StrawberryGraphQLCoreExecutionContext,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
            max_coercion_errors=self._limits.errors,
            **call.arguments,
        )
        return self._result(await result if isawaitable(result) else result)

    async def _subscribe(self, call: _Call) -> Results:
        arguments = dict(call.arguments)
        executor = StrawberryGraphQLCoreExecutionContext.build(
            self._schema,
            call.document.node,
            raw_variable_values=arguments.pop("variable_values"),
            operation_name=call.operation_name,
            max_coercion_errors=self._limits.errors,
            **arguments,
        )
        if isinstance(executor, list):
            yield self._refused(Refused(executor))
            return
        source = create_source_event_stream(executor)
        if isawaitable(source):
            source = await source
        if isinstance(source, CoreResult):
            # No event was made yet, whatever field of the subscription it was that refused.
            yield self._refused(Refused(source.errors or []))
            return
        question = call.question
        async with aclosing(cast("AsyncGenerator[object, None]", source)):
            with self._shared.joined(question):
                try:
                    async for event in source:
                        yield await self._answer(executor, question, event)
                except Exception as error:  # noqa: BLE001, a bug in an event source must reach the client as an error
                    yield self._result(CoreResult(None, [located_error(error)]))

    async def _answer(self, executor: Executor[Any], question: Hashable, event: object) -> ExecutionResult:
        """Return what an event comes to, found for all who ask the same at once."""

        async def execute_event() -> ExecutionResult:
            result = execute_subscription_event(executor.build_per_event_executor(event))
            found = self._result(await result if isawaitable(result) else result)
            return SharedResult(data=found.data, errors=found.errors)

        if question is None:
            return await execute_event()
        return await self._shared.answer(question, event, execute_event)

    def _result(self, result: CoreResult) -> ExecutionResult:
        if not result.errors:
            return ExecutionResult(data=result.data, errors=None)
        errors = public_errors(result.errors, limit=self._limits.errors)
        if result.data is None and all(error.path is None for error in result.errors):
            # Nothing has run: the variables did not fit.
            return RequestRefused(data=None, errors=errors)
        return ExecutionResult(data=result.data, errors=errors)


def _arguments(
    variables: dict[str, Any] | None,
    context: object,
    root: object,
    extensions: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "variable_values": variables,
        "context_value": context,
        "root_value": root,
        "operation_extensions": extensions,
    }


async def _only(result: ExecutionResult) -> Results:
    yield result
