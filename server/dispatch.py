"""How new jobs of the lanes are let in and sent off."""

from collections.abc import Callable

import msgspec

from server.backlog import Backlog
from server.trainers import Trainers


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """What every service that makes such jobs needs: who could take them, whether there is room, a bell."""

    trainers: Trainers
    backlog: Backlog
    #: Called after each commit that put something into the outbox.
    wake: Callable[[], None]
