"""The child's ends of the two pipes."""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import IO

from workers.train.service.child.place import Place, open_orders, open_relays
from workers.train.service.frames import Failed, Order, Stop, Task, Told, pack, read_order

Tell = Callable[[Told], None]


class Voice:
    """Writes frames; any thread may."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._one_frame = threading.Lock()

    def tell(self, frame: Told) -> None:
        """Say one thing."""
        raw = pack(frame)
        with self._one_frame:
            self._stream.write(raw)
            self._stream.flush()

    def tell_failure(self, frame: Told) -> None:
        """Say one thing if it is a failure, which may be of this process alone; the first one tells the rest.

        A frame of this size is written as one piece, whatever others write into the pipe.
        """
        if isinstance(frame, Failed):
            self.tell(frame)


class Ear:
    """Reads orders on a thread of its own. The process ends when nobody can give any more."""

    def __init__(self, stream: IO[bytes], relays: Sequence[IO[bytes]] = ()) -> None:
        """Listen to ``stream`` and pass everything on to ``relays``."""
        self._stream = stream
        self._relays = relays
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.stop = threading.Event()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def next_task(self) -> Task:
        """Wait for something to do."""
        return self._tasks.get()

    def _listen(self) -> None:
        while (order := read_order(self._stream)) is not None:
            self._pass_on(order)
            if isinstance(order, Stop):
                self.stop.set()
            else:
                self._tasks.put(order)
        os._exit(0)

    def _pass_on(self, order: Order) -> None:
        for relay in self._relays:
            try:
                relay.write(pack(order))
                relay.flush()
            except BrokenPipeError:
                # It has ended, because this training has no part for it, or the rest will be ended as well.
                continue


def take_pipes() -> tuple[IO[bytes], Voice]:
    """Take standard input and output for the frames; what libraries print goes where the log goes.

    Standard input is the first process's to read.
    """
    orders = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, Voice(answers)


def listen(orders: IO[bytes], place: Place) -> Ear:
    """Listen to the worker, or to the first process of a crew; waits until all of the crew are ready."""
    return Ear(orders, open_relays(place)) if place.is_first else Ear(open_orders(place))
