"""The child's ends of the two pipes."""

import os
import queue
import threading
from collections.abc import Callable
from typing import IO

from workers.train.service.frames import Stop, Task, Told, pack, read_order

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


class Ear:
    """Reads orders on a thread of its own. The process ends when nobody can give any more."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.stop = threading.Event()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def next_task(self) -> Task:
        """Wait for something to do."""
        return self._tasks.get()

    def _listen(self) -> None:
        while (order := read_order(self._stream)) is not None:
            if isinstance(order, Stop):
                self.stop.set()
            else:
                self._tasks.put(order)
        os._exit(0)


def take_pipes() -> tuple[Ear, Voice]:
    """Take standard input and output for the frames; what libraries print goes where the log goes."""
    orders = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Ear(orders), Voice(answers)
