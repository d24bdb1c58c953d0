"""What a task costs."""

import time

from workers.train.service.proc import computed, family


class Meter:
    """Reads what a process, and all that it has started, has computed since now."""

    def __init__(self, pid: int, num_gpus: int) -> None:
        self._pid = pid
        self._num_gpus = num_gpus
        self._began_at = time.monotonic()
        self._before_s = self._read()
        self._elapsed_s = 0.0
        #: Seconds of processors as of the last look.
        self.cpu_s = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds of GPUs, where there are any, or else of processors, as of the last look."""
        return self._elapsed_s * self._num_gpus or self.cpu_s

    def look(self) -> None:
        """Read anew. A process that has ended has nothing to read: what was read before stays."""
        self._elapsed_s = time.monotonic() - self._began_at
        self.cpu_s = max(self.cpu_s, self._read() - self._before_s)

    def _read(self) -> float:
        return sum(map(computed, family(self._pid)))
