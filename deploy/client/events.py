"""A job's server-sent events, each once, over as many connections as it takes.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from deploy.client.api import Api, Unanswered, pauses
from deploy.errors import CommandFailed

_NO_CONTENT = 204
#: A server that is away for longer will not come back by itself.
_PATIENCE_S = 300.0


class Event(msgspec.Struct, frozen=True):
    """What happened; ``id`` is where a new connection goes on."""

    id: str
    name: str
    data: dict[str, Any]


def follow(api: Api, path: str, *, pause: Callable[[float], None] = time.sleep) -> Iterator[Event]:
    """Give each event of a job from the first one on, until it has ended.

    Raises:
        CommandFailed: the server refuses, or is away for minutes.
    """
    last_id: str | None = None
    tries = pauses(_PATIENCE_S)
    while True:
        reason = f"{api.server} ends the stream of events at once"
        try:
            headers = {"accept": "text/event-stream"} | (
                {} if last_id is None else {"last-event-id": last_id}
            )
            with api.stream(path, headers) as response:
                if response.status_code == _NO_CONTENT:
                    return
                for event in read_events(response.iter_bytes()):
                    if event.id == last_id:
                        continue
                    last_id = event.id
                    tries = pauses(_PATIENCE_S)
                    yield event
        except Unanswered as unanswered:
            reason = str(unanswered)
        pause_s = next(tries, None)
        if pause_s is None:
            raise CommandFailed(reason)
        pause(pause_s)


def read_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Read events; one that is cut off at the end is none.

    Raises:
        CommandFailed: one is not as our servers write them.
    """
    rest = b""
    for chunk in chunks:
        rest += chunk
        # Not at what Python takes for the end of a line: that may stand within JSON.
        while (end := rest.find(b"\n\n")) >= 0:
            block, rest = rest[:end], rest[end + 2 :]
            fields = dict(_field(line) for line in block.split(b"\n") if not line.startswith(b":"))
            if b"data" in fields:
                yield _event(fields)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


def _event(fields: dict[bytes, bytes]) -> Event:
    try:
        data = msgspec.json.decode(fields[b"data"], type=dict[str, Any])
        return Event(fields[b"id"].decode(), fields[b"event"].decode(), data)
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError) as error:
        raise CommandFailed(
            "the server sends events that can't be read: it may be another release"
        ) from error
