"""Passwords are hashed with argon2id in a small pool of threads that says when it is full."""

import asyncio
import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from server.auth.password_rules import is_hashable
from server.errors import Busy

T = TypeVar("T")

#: The OWASP minimum for argon2id: 19 MiB, two passes, one lane; about 40 ms.
_MEMORY_KIB = 19 * 1024
_TIME_COST = 2
_PARALLELISM = 1

#: A well-formed hash of nobody's password, with today's parameters: checking against it takes as long.
_NOBODY = (
    f"$argon2id$v=19$m={_MEMORY_KIB},t={_TIME_COST},p={_PARALLELISM}"
    f"${base64.b64encode(bytes(16)).decode().rstrip('=')}${base64.b64encode(bytes(32)).decode().rstrip('=')}"
)

#: One hash takes about 40 ms, so a queue is a second old at most.
_RETRY_AFTER_S = 1.0


class Passwords:
    """Hashes and verifies, ``threads`` at a time.

    A thread's work takes 19 MiB and a core: what exceeds ``threads`` running and ``queue`` waiting is
    refused with Busy, so that a flood of log-ins can't starve everything else.
    """

    def __init__(self, *, threads: int, queue: int) -> None:
        self._hasher = PasswordHasher(time_cost=_TIME_COST, memory_cost=_MEMORY_KIB, parallelism=_PARALLELISM)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._room = threading.BoundedSemaphore(threads + queue)

    async def hash(self, password: str) -> str:
        """Return the encoded hash of a password that has passed ``check_new_password``.

        Raises:
            Busy: the pool is full.
        """
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether ``stored`` is the hash of the password, exactly as received.

        Pass None for a user who does not exist: it takes as long and answers False.

        Raises:
            Busy: the pool is full.
        """
        return await self._run(lambda: self._verify(password, stored))

    def needs_rehash(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, stored: str | None) -> bool:
        if not is_hashable(password):
            return False
        try:
            matches = self._hasher.verify(stored or _NOBODY, password)
        except VerificationError:
            return False
        return matches and stored is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise Busy(
                "Too many passwords are being checked; try again shortly.", retry_after_s=_RETRY_AFTER_S
            )
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            self._room.release()
            raise Busy("The server is shutting down.", retry_after_s=_RETRY_AFTER_S) from error
        # A caller who leaves frees nothing while the thread still works for them.
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)
