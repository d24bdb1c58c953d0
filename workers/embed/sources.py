"""Inputs as messages carry them, to sources as the engine takes them."""

from collections.abc import Awaitable, Callable, Iterable

from bus.errors import ObjectNotFound
from bus.messages import Input, ObjectInput, TextInput
from bus.objects import ObjectStore
from workers.embed.items import BytesSource, Refusal, Source, TextSource


def to_sources(inputs: Iterable[Input], objects: ObjectStore) -> list[Source]:
    """Give a source for each input; bytes are fetched when the engine has room for them."""
    return [
        TextSource(item.text)
        if isinstance(item, TextInput)
        else BytesSource(item.media_type, _read(item, objects))
        for item in inputs
    ]


def _read(item: ObjectInput, objects: ObjectStore) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        try:
            return await objects.get(item.key)
        except ObjectNotFound as error:
            raise Refusal("NOT_FOUND", "The file has been deleted.") from error

    return read
