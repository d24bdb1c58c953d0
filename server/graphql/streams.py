"""Results as server-sent events, until the credential that asked for them ends.

Protocol: https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md, distinct connections.
"""

from collections.abc import AsyncGenerator
from typing import cast

from graphql import located_error
from strawberry.http import GraphQLHTTPResponse, process_result
from strawberry.http.streaming import SSETransport, merge_stream_with_heartbeat
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.utils.aio import aclosing

from server.admitted import Admitted, StreamOver
from server.errors import ServiceError
from server.graphql.context import Context
from server.graphql.errors import public_errors
from server.graphql.execution import Results
from server.graphql.sharing import SharedResult
from server.graphql.wire import encode_json

EVENTS = SSETransport()


def shape(result: ExecutionResult) -> GraphQLHTTPResponse:
    """Write a result as an object; one of which nothing was run has no data."""
    if isinstance(result, SharedResult):
        # To the JSON encoder it is the object that it was made of.
        return cast("GraphQLHTTPResponse", result.encoded)
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
        RateLimited: the caller has too many sockets and streams.
    """
    async with aclosing(results):
        if context.principal is None:
            async for result in results:
                yield result
            return
        sockets = context.services.sockets
        async with Admitted(results, principal=context.principal, sockets=sockets) as admitted:
            while True:
                try:
                    result = await admitted.next()
                except StreamOver:
                    return
                yield result
