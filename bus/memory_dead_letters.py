"""Dead letters inside one process."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from bus import subjects
from bus.dead_letters import MAX_DELIVERIES, DeadLetter, Death, NoSuchLetter, headers_of, letter_of
from bus.delivery import MESSAGE_ID
from bus.memory_streams import MemoryStream
from bus.topology import DLQ, ConsumerSpec


class MemoryDeadLetters:
    """Satisfies `bus.dead_letters.DeadLetters`."""

    def __init__(self, streams: Mapping[str, MemoryStream], consumers: Sequence[ConsumerSpec]) -> None:
        self._streams = streams
        self._consumers = consumers

    async def read(self, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return letters with a larger id than ``after``, oldest first."""
        stored = self._streams[DLQ].items()
        # Nobody asks when: it is the time of reading here.
        letters = [letter_of(seq, datetime.now(UTC), one.headers, one.raw) for seq, one in stored]
        return [letter for letter in letters if letter.id > after][:limit]

    async def get(self, letter_id: int) -> DeadLetter:
        """Return one letter."""
        found = await self.read(after=letter_id - 1, limit=1)
        if not found or found[0].id != letter_id:
            raise NoSuchLetter(f"there is no dead letter {letter_id}")
        return found[0]

    async def send_again(self, letter: DeadLetter) -> None:
        """Publish the bytes where they were published before, as a new message."""
        for stream in self._streams.values():
            if stream.spec.takes(letter.subject):
                stream.store(letter.subject, letter.raw, {**letter.headers, MESSAGE_ID: uuid4().hex})

    async def drop(self, letter_id: int) -> None:
        """Forget a letter."""
        self._streams[DLQ].remove(letter_id)

    async def move(self, *, wait_s: float) -> int:  # noqa: ARG002 - what is there is there at once
        """Copy and remove what has reached its consumer's limit."""
        num_moved = 0
        for spec in self._consumers:
            stream = self._streams[spec.stream]
            for seq, one in stream.given_up(spec):
                death = Death(
                    code=MAX_DELIVERIES, reason=f"Delivered {one.num_delivered} times and never settled."
                )
                headers = headers_of(
                    one.headers, subject=one.subject, num_delivered=one.num_delivered, death=death
                )
                self._streams[DLQ].store(subjects.dead_letter(one.subject), one.raw, headers)
                stream.remove(seq)
                num_moved += 1
        return num_moved
