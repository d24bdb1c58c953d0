"""Calls under way: each is ended by its reply, or by the server's refusal of its subject.

A refusal belongs to no request: the server names the subject, and nothing else. So whoever has something
under way on that subject hears of it.
"""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nats.aio.msg import Msg

from bus.errors import NotPermitted

_Waiting = asyncio.Future[Msg]


class Pending:
    """Futures by reply subject and by subject."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._numbers = itertools.count()
        # Both hold what is under way: each entry goes with its call, which has a deadline.
        self._by_reply: dict[str, _Waiting] = {}
        self._by_subject: dict[str, set[_Waiting]] = {}

    @property
    def replies(self) -> str:
        """The pattern under which every reply arrives."""
        return f"{self._inbox}.*"

    @contextmanager
    def expect(self, subject: str) -> Iterator[tuple[str, _Waiting]]:
        """Give a reply subject and the future of what arrives there; it fails when ``subject`` is refused."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        with self.watch(subject) as waiting:
            self._by_reply[reply] = waiting
            try:
                yield reply, waiting
            finally:
                del self._by_reply[reply]

    @contextmanager
    def watch(self, subject: str) -> Iterator[_Waiting]:
        """Give a future that fails with `NotPermitted` when the server refuses the subject."""
        # nats-py hands the server's text over in lower case.
        key = subject.lower()
        waiting: _Waiting = asyncio.get_running_loop().create_future()
        self._by_subject.setdefault(key, set()).add(waiting)
        try:
            yield waiting
        finally:
            waiting.add_done_callback(retrieve)
            waiting.cancel()
            self._by_subject[key].discard(waiting)
            if not self._by_subject[key]:
                del self._by_subject[key]

    async def answer(self, message: Msg) -> None:
        """Give a reply to whoever waits for it; one that comes too late is dropped."""
        waiting = self._by_reply.get(message.subject)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def refuse(self, subject: str) -> None:
        """Fail everything that is under way on a subject."""
        for waiting in self._by_subject.get(subject, ()):
            if not waiting.done():
                waiting.set_exception(NotPermitted(f"the bus refuses {subject} to this credential"))


def retrieve(future: asyncio.Future[Any]) -> None:
    """Look at an outcome, so that asyncio does not report it as unseen."""
    if not future.cancelled():
        future.exception()
