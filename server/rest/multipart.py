"""One file out of a multipart body, as it comes in: nothing is spooled (RFC 7578)."""

from collections.abc import AsyncIterator
from email.message import Message
from typing import Final

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from server.errors import InvalidInput, PayloadTooLarge

#: Other parts and all headers together, in bytes.
_MAX_BESIDES: Final = 64 * 1024
_MAX_PARTS: Final = 8


class FilePart:
    """The file part of a request whose body is still coming in."""

    def __init__(self, name: str, events: AsyncIterator[MultipartSegment | bytearray | bytes | None]) -> None:
        self.name = name
        self._events = events

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content of the part.

        Raises:
            InvalidInput: the body ends in the middle, or is malformed further on.
            PayloadTooLarge: the body is over its ceiling.
        """
        async for event in self._events:
            if event is None:
                return
            if isinstance(event, bytes | bytearray):
                yield bytes(event)


async def open_file_part(
    content_type: str, body: AsyncIterator[bytes], *, field: str, max_bytes: int
) -> FilePart:
    """Read up to the content of the part called ``field``.

    Args:
        content_type: the request's header.
        body: the request's body.
        field: the name of the form field.
        max_bytes: ceiling of the file; the other parts have a small one of their own.

    Raises:
        InvalidInput: this is no multipart form, or there is no such part.
        PayloadTooLarge: what comes before the part is over its ceiling.
    """
    events = _events(_boundary_of(content_type), body, max_bytes + _MAX_BESIDES)
    async for event in events:
        if isinstance(event, MultipartSegment) and event.name == field:
            return FilePart(event.filename or "", events)
    raise InvalidInput(f"There is no part called `{field}`.", path=(field,))


async def drain(body: AsyncIterator[bytes], *, max_bytes: int) -> None:
    """Read on and throw away, so that a client that is still sending gets to see the answer."""
    count = 0
    async for chunk in body:
        count += len(chunk)
        if count > max_bytes:
            return


def _boundary_of(content_type: str) -> str:
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise InvalidInput("Send the file as multipart/form-data.", path=("file",))
    return boundary


async def _events(
    boundary: str, body: AsyncIterator[bytes], max_bytes: int
) -> AsyncIterator[MultipartSegment | bytearray | bytes | None]:
    received = 0
    try:
        with PushMultipartParser(boundary, max_segment_count=_MAX_PARTS) as parser:
            async for chunk in body:
                received += len(chunk)
                if received > max_bytes:
                    raise PayloadTooLarge(
                        f"A file may have {max_bytes - _MAX_BESIDES} bytes at most.", path=("file",)
                    )
                if not chunk:
                    continue
                for event in parser.parse(chunk):
                    yield event
    except (MultipartError, UnicodeError) as error:
        raise InvalidInput(f"The multipart body is malformed: {error}.") from error
