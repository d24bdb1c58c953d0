"""Bring one stream or consumer into the state the table asks for."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from bus.connection import Connection
from bus.errors import BusUnavailable, TopologyRefused
from bus.jetstream import ApiRefused, call

#: "stream not found" and "consumer not found".
_NOT_FOUND = frozenset({10059, 10014})
#: "No suitable peers for placement": a cluster that has elected a leader, and whose last node is on its way.
_NO_PEERS = 10005
#: A server that has just started, or elects a leader, answers later.
_PATIENCE_S = 20.0
_PAUSE_S = 0.1
#: Without a leader a question is not refused but lost, so it is asked again.
_ATTEMPT_S = 3.0
#: Whoever only looks does not wait for a leader.
_LOOK_S = 1.5
_DURATIONS = frozenset({"max_age", "duplicate_window", "ack_wait"})


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One stream or consumer: how to ask for it, and what it should be."""

    label: str
    summary: str
    info: str
    create: str
    update: str
    config: dict[str, Any]
    #: Consumers travel inside of an envelope that names their stream; streams travel bare.
    envelope: Mapping[str, Any] | None = None

    def body(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the API wants to be sent."""
        return dict(config) if self.envelope is None else {**self.envelope, "config": dict(config)}


async def ensure(connection: Connection, resource: Resource, *, dry_run: bool) -> str | None:
    """Create or update what differs; return a line that says so, or None when all is as it should be.

    Raises:
        TopologyRefused: the server says no.
        BusUnavailable: the server did not answer in 20 s.
    """
    try:
        present = (await _ask(connection, resource.info, {}))["config"]
    except ApiRefused as error:
        if error.err_code not in _NOT_FOUND:
            raise TopologyRefused(f"{resource.label}: {error}") from error
        present = None
    if present is None:
        operation, config = resource.create, resource.config
        line = f"create {resource.label} ({resource.summary})"
    else:
        differences = {key: value for key, value in resource.config.items() if present.get(key) != value}
        if not differences:
            return None
        # What the table does not speak about stays as it is.
        operation, config = resource.update, {**present, **differences}
        told = ", ".join(_describe(key, present.get(key), value) for key, value in differences.items())
        line = f"update {resource.label}: {told}"
    if not dry_run:
        try:
            await _ask(connection, operation, resource.body(config))
        except ApiRefused as error:
            raise TopologyRefused(f"{line}: {error}") from error
    return line


async def is_there(connection: Connection, info: str) -> bool:
    """Ask once whether a stream or consumer exists.

    Raises:
        BusUnavailable: the server does not say.
    """
    try:
        await call(connection, info, {}, timeout_s=_LOOK_S)
    except ApiRefused as error:
        if error.err_code in _NOT_FOUND:
            return False
        raise BusUnavailable(str(error)) from error
    return True


async def _ask(connection: Connection, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Call the API until it answers; management calls may be repeated, they set a state."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while True:
        try:
            return await call(
                connection, operation, body, timeout_s=max(0.1, min(_ATTEMPT_S, deadline - loop.time()))
            )
        except (BusUnavailable, ApiRefused) as error:
            may_pass = isinstance(error, BusUnavailable) or error.err_code == _NO_PEERS
            if not may_pass or loop.time() + _PAUSE_S >= deadline:
                raise
        await asyncio.sleep(_PAUSE_S)


def _describe(key: str, before: object, after: object) -> str:
    return f"{key} {_readable(key, before)} -> {_readable(key, after)}"


def _readable(key: str, value: object) -> str:
    if value is None:
        return "unset"
    if key in _DURATIONS and isinstance(value, int):
        return f"{value / 1_000_000_000:g} s"
    return str(value)
