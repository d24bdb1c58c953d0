"""Loading models when they are deployed, so that the first call finds them."""

from bus import subjects
from bus.envelope import Message
from bus.messages import PreloadModel
from bus.port import Bus, Subscription
from workers.embed.models.shelf import ModelShelf


class Preloading:
    """Follows what is deployed for one pool, from `start` to `close`."""

    def __init__(self, bus: Bus, shelf: ModelShelf, *, pool: str) -> None:
        self._bus = bus
        self._shelf = shelf
        self._pool = pool
        self._following: Subscription | None = None

    async def start(self) -> None:
        """Follow from now on."""
        self._following = await self._bus.follow(subjects.MODEL_PRELOAD, self._hear)

    async def close(self) -> None:
        """Follow no more."""
        if self._following is not None:
            await self._following.close()

    async def _hear(self, message: Message) -> None:
        if isinstance(message, PreloadModel) and message.pool == self._pool:
            self._shelf.preload(message.model)
