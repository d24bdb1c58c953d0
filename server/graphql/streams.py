"""Results as server-sent events, until the credential that asked for them ends.

Protocol: https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md, distinct connections.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from graphql import located_error
from strawberry.http import GraphQLHTTPResponse, process_result
from strawberry.http.streaming import SSETransport, merge_stream_with_heartbeat
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.utils.aio import aclosing

from server.errors import ServiceError
from server.graphql.context import Context
from server.graphql.errors import public_errors
from server.graphql.execution import Results
from server.graphql.wire import encode_json

EVENTS = SSETransport()


def shape(result: ExecutionResult) -> GraphQLHTTPResponse:
    """Write a result as an object; one of which nothing was run has no data."""
    if isinstance(result, PreExecutionError):
        return {"errors": [error.formatted for error in result.errors or ()]}
    return process_result(result)


def server_sent_events(results: Results, context: Context) -> AsyncGenerator[str, None]:
    """Write each result as an event, with a comment now and then while there are none."""

    async def events() -> AsyncGenerator[str, None]:
        try:
            async with aclosing(_until_revoked(results, context)) as admitted:
                async for result in admitted:
                    yield EVENTS.encode_next(shape(result), _encode_text)
        except ServiceError as error:
            refused = public_errors([located_error(error)], limit=1)
            yield EVENTS.encode_next(shape(PreExecutionError(data=None, errors=refused)), _encode_text)
        yield EVENTS.encode_complete()

    return merge_stream_with_heartbeat(
        events,
        lambda: EVENTS.heartbeat_message(_encode_text),
        EVENTS.heartbeat_interval,
        send_initial_heartbeat=False,
    )()


def _encode_text(data: object) -> str:
    return encode_json(data).decode()


async def _until_revoked(results: Results, context: Context) -> Results:
    """Pass results on until the caller's credential ends, as a socket would.

    Raises:
        Unauthenticated: it has ended already.
    """
    revoked = asyncio.Event()

    async def end(_code: int, _reason: str) -> None:
        revoked.set()

    async with aclosing(results):
        if context.principal is None:
            async for result in results:
                yield result
            return
        sockets = context.services.sockets
        handle = await sockets.admit(context.principal, end)
        try:
            async for result in _until(revoked, results):
                yield result
        finally:
            sockets.release(handle)


async def _until(over: asyncio.Event, results: Results) -> Results:
    ended = asyncio.create_task(over.wait(), name="stream revocation")
    upcoming: asyncio.Future[ExecutionResult] | None = None
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(results))
            await asyncio.wait({upcoming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return
            try:
                result = upcoming.result()
            except StopAsyncIteration:
                return
            yield result
    finally:
        ended.cancel()
        if upcoming is not None:
            upcoming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await upcoming
