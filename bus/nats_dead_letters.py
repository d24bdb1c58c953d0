"""Dead letters on JetStream, and the mover that follows what the server tells of given-up messages."""

import base64
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from bus import subjects
from bus.connection import Connection
from bus.dead_letters import MAX_DELIVERIES, DeadLetter, Death, NoSuchLetter, Store, headers_of, letter_of
from bus.delivery import MESSAGE_ID
from bus.jetstream import ApiRefused, call
from bus.port import Delivery
from bus.pull import NatsPuller
from bus.topology import DLQ, INTERACTIVE, JOB_EVENTS, JOBS, WORK

_log = logging.getLogger(__name__)

_API_S = 5.0
_STORE_S = 10.0
#: Advisories in hand: each takes a few requests, and all of it one ack wait at most.
_WINDOW = 16
#: "no message found", and "stream not found": a table from before there were dead letters.
_NONE = frozenset({10037, 10059})
#: "message not found" by a delete.
_GONE = frozenset({10037, 10043, 10057, 10059})
_OURS = frozenset({JOBS, INTERACTIVE, JOB_EVENTS, WORK})


class _Advisory(msgspec.Struct):
    """What the server tells (ADR-8 of NATS' advisories): a limit reached, or a message terminated."""

    type: str
    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0
    reason: str = ""

    @property
    def is_limit(self) -> bool:
        return self.type.endswith(".max_deliver")


class NatsDeadLetters:
    """Satisfies `bus.dead_letters.DeadLetters`."""

    def __init__(
        self, connection: Connection, store: Store, open_advisories: Callable[[], NatsPuller]
    ) -> None:
        self._connection = connection
        self._store = store
        self._open_advisories = open_advisories
        self._advisories: NatsPuller | None = None

    async def read(self, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return letters with a larger id than ``after``, oldest first."""
        letters: list[DeadLetter] = []
        while len(letters) < limit:
            question = {"seq": after + 1, "next_by_subj": subjects.DEAD_LETTERS_ALL}
            found = await self._find(DLQ, question)
            if found is None:
                break
            letters.append(_letter(found))
            after = letters[-1].id
        return letters

    async def get(self, letter_id: int) -> DeadLetter:
        """Return one letter."""
        found = await self._find(DLQ, {"seq": letter_id}) if letter_id > 0 else None
        if found is None:
            raise NoSuchLetter(f"there is no dead letter {letter_id}")
        return _letter(found)

    async def send_again(self, letter: DeadLetter) -> None:
        """Publish the bytes where they were published before, as a new message."""
        headers = {**letter.headers, MESSAGE_ID: uuid4().hex}
        await self._store(letter.subject, letter.raw, headers, _STORE_S)

    async def drop(self, letter_id: int) -> None:
        """Forget a letter."""
        await self._remove(DLQ, letter_id)

    async def move(self, *, wait_s: float) -> int:
        """Take what the server has told and act on it."""
        if self._advisories is None:
            self._advisories = self._open_advisories()
        num_moved = 0
        for told in await self._advisories.fetch(limit=_WINDOW, wait_s=wait_s):
            num_moved += await self._act_on(told)
            await told.ack()
        return num_moved

    async def _act_on(self, told: Delivery) -> int:
        try:
            advisory = msgspec.json.decode(told.raw, type=_Advisory)
        except msgspec.DecodeError as error:
            _log.warning("%s: unreadable: %s", told.subject, error)
            return 0
        if advisory.stream not in _OURS:
            return 0
        if not advisory.is_limit:
            # Whoever terminates a message of ours has copied it before; the work queue has removed it.
            _log.info("message %d of %s: %s", advisory.stream_seq, advisory.stream, advisory.reason)
            return 0
        return await self._bury(advisory)

    async def _bury(self, advisory: _Advisory) -> int:
        found = await self._find(advisory.stream, {"seq": advisory.stream_seq})
        if found is None:
            return 0
        subject, raw, headers = found["subject"], _data(found), _headers(found)
        death = Death(code=MAX_DELIVERIES, reason=f"Delivered {advisory.deliveries} times and never settled.")
        stored = headers_of(headers, subject=subject, num_delivered=advisory.deliveries, death=death)
        # The time, too: a stream that is made anew counts from 1 again.
        stored[MESSAGE_ID] = f"dead:{advisory.stream}:{advisory.stream_seq}:{found['time']}"
        await self._store(subjects.dead_letter(subject), raw, stored, _STORE_S)
        await self._remove(advisory.stream, advisory.stream_seq)
        _log.warning("%s is a dead letter: %s", subject, death.reason)
        return 1

    async def _find(self, stream: str, question: dict[str, Any]) -> dict[str, Any] | None:
        try:
            answer = await call(self._connection, f"STREAM.MSG.GET.{stream}", question, timeout_s=_API_S)
        except ApiRefused as error:
            if error.err_code in _NONE:
                return None
            raise
        message: dict[str, Any] = answer["message"]
        return message

    async def _remove(self, stream: str, seq: int) -> None:
        body = {"seq": seq, "no_erase": True}
        try:
            await call(self._connection, f"STREAM.MSG.DELETE.{stream}", body, timeout_s=_API_S)
        except ApiRefused as error:
            if error.err_code not in _GONE:
                raise


def _letter(found: dict[str, Any]) -> DeadLetter:
    # Nine digits of a second; datetime takes six.
    at = datetime.fromisoformat(found["time"].rstrip("Z").ljust(26, "0")[:26] + "+00:00")
    return letter_of(found["seq"], at, _headers(found), _data(found))


def _data(found: dict[str, Any]) -> bytes:
    return base64.b64decode(found.get("data", ""))


def _headers(found: dict[str, Any]) -> dict[str, str]:
    """Read a block of headers as the server stores it: a line of version, then a line each."""
    _, *lines = base64.b64decode(found.get("hdrs", "")).decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
