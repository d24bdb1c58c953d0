"""Conditions that have to be asked for, to wait on instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable


async def until_true(ask: Callable[[], Awaitable[object]], *, within_s: float = 10.0) -> None:
    """Return as soon as ``ask`` answers something true; fail after ``within_s``."""
    async with asyncio.timeout(within_s):
        while True:
            if await ask():
                return
            await asyncio.sleep(0.005)
