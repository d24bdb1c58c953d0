"""Measured on the event loop that servers and workers run on."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what is measured on uvloop."""
    return {"uvloop": uvloop.new_event_loop}
