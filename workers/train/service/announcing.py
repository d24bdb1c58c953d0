"""Saying that this train worker is there."""

import msgspec

from bus import subjects
from bus.messages import TrainersAnnounced
from bus.port import Bus
from workers.announcing import ANNOUNCE_EVERY_S, Announcing


class Announcer(Announcing):
    """Announces a train worker from `start` to `leave`."""

    told_on = subjects.TRAINERS_ANNOUNCED
    wanted_on = subjects.TRAINERS_WANTED

    def __init__(
        self, bus: Bus, announcement: TrainersAnnounced, *, every_s: float = ANNOUNCE_EVERY_S
    ) -> None:
        super().__init__(bus, every_s=every_s)
        self._said = announcement

    def announcement(self, *, leaving: bool) -> TrainersAnnounced:
        """The same as before, as a message of its own."""
        said = msgspec.structs.asdict(self._said)
        return TrainersAnnounced(
            **{name: said[name] for name in ("worker_id", "pool", "device", "samples")}, leaving=leaving
        )
