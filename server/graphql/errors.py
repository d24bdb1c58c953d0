"""Errors as a client may see them: every one has ``extensions.code``, and a bug's text never leaves."""

import logging
import re
from collections.abc import Sequence
from uuid import uuid4

from graphql import GraphQLError

from server.disconnects import ClientGone
from server.errors import ErrorCode, ServiceError

INTERNAL_MESSAGE = "Something went wrong on our side."

_log = logging.getLogger("server.graphql")

#: How graphql-core says where in a variable's value the fault lies.
_VARIABLE = re.compile(r"Variable '\$(\w+)' has invalid value(?: at ([^:]*))?:")
_STEP = re.compile(r"\w+")
_UNDERSCORE = re.compile(r"_([a-z])")


def camel_case(name: str) -> str:
    """Write a field's name as the schema does; indices stay."""
    return _UNDERSCORE.sub(lambda match: match[1].upper(), name)


def field_path(error: ServiceError, *, inside: str | None = None) -> list[str]:
    """Translate where the fault lies from the services' names to the schema's.

    Args:
        error: what a service refused.
        inside: the argument that holds the service's fields, ``input`` for mutations.
    """
    return schema_path(error.path, inside=inside)


def schema_path(path: Sequence[str], *, inside: str | None = None) -> list[str]:
    """Translate a path of the services'; see ``field_path``."""
    steps = [camel_case(step) for step in path]
    return [inside, *steps] if inside and steps else steps


def public_errors(errors: Sequence[GraphQLError], *, limit: int) -> list[GraphQLError]:
    """Rewrite errors for the client, the first ``limit`` of them; log the bugs among them."""
    return [_public(error) for error in errors[:limit]]


def _public(error: GraphQLError) -> GraphQLError:
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, ServiceError):
        return _rewrite(error, cause.message, service_extensions(cause))
    if error.extensions and "code" in error.extensions:
        return error
    if isinstance(cause, ClientGone):
        # Nobody reads this.
        return _rewrite(error, "The client has gone.", {"code": ErrorCode.TIMEOUT.value})
    if _is_clients_fault(error, cause):
        return _rewrite(error, error.message, _input_extensions(error))
    return _masked(error, cause)


def service_extensions(error: ServiceError) -> dict[str, object]:
    """What a program may want to know about a refusal."""
    extensions: dict[str, object] = {"code": error.code.value}
    if error.path:
        extensions["path"] = field_path(error)
    if error.retry_after_s is not None:
        extensions["retryAfterSeconds"] = error.retry_after_s
    return extensions


def _is_clients_fault(error: GraphQLError, cause: Exception | None) -> bool:
    """Whether graphql-core itself refused the request: its syntax, its validity or a value in it.

    Without a response path nothing has run. With one, graphql-core complains about an argument when its
    complaint names nodes of the document, and otherwise about what our resolvers gave it.
    """
    if error.path is None:
        return cause is None or isinstance(cause, GraphQLError)
    return isinstance(cause, GraphQLError) and cause.nodes is not None


def _input_extensions(error: GraphQLError) -> dict[str, object]:
    extensions: dict[str, object] = {"code": ErrorCode.INVALID_INPUT.value}
    match = _VARIABLE.match(error.message)
    if match:
        extensions["path"] = [match[1], *_STEP.findall(match[2] or "")]
    return extensions


def _masked(error: GraphQLError, cause: Exception | None) -> GraphQLError:
    where = ".".join(str(step) for step in error.path or ())
    return _rewrite(error, INTERNAL_MESSAGE, log_incident(cause or error, where=where or "the request"))


def log_incident(error: Exception, *, where: str) -> dict[str, object]:
    """Write a bug down under an id of its own; return what a client may know of it."""
    incident = uuid4().hex
    _log.error("incident %s at %s", incident, where, exc_info=error)
    return {"code": ErrorCode.INTERNAL.value, "id": incident}


def _rewrite(error: GraphQLError, message: str, extensions: dict[str, object]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )
