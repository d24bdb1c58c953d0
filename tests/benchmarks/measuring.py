"""What a measurement needs: CPU seconds of many processes, medians, and what else the machine was doing."""

import os
import statistics
import time
from collections.abc import Awaitable, Callable

import msgspec
import psutil

from tests.support.stack import RunningStack


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One round of one way to embed."""

    num_texts: int
    cpu_s: float
    wall_s: float

    @property
    def texts_per_cpu_s(self) -> float:
        """How much one second of a core gives."""
        return self.num_texts / self.cpu_s


def stack_cpu_s(stack: RunningStack) -> float:
    """CPU seconds that all processes of a stack have used so far, the supervisor's own included."""
    total = 0.0
    for process in [psutil.Process(stack.pid), *stack.processes()]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


async def read_stack(stack: RunningStack, num_texts: int, work: Callable[[], Awaitable[None]]) -> Reading:
    """Measure what the stack spends on ``work``."""
    cpu_s, wall_s = stack_cpu_s(stack), time.perf_counter()
    await work()
    wall_s = time.perf_counter() - wall_s
    return Reading(num_texts=num_texts, cpu_s=stack_cpu_s(stack) - cpu_s, wall_s=wall_s)


def read_self(num_texts: int, work: Callable[[], object]) -> Reading:
    """Measure what this process spends on ``work``."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    work()
    return Reading(
        num_texts=num_texts, cpu_s=time.process_time() - cpu_s, wall_s=time.perf_counter() - wall_s
    )


def median_ratio(ours: list[Reading], reference: list[Reading]) -> float:
    """Median over rounds of texts per CPU-second, ours to the reference of the same round."""
    return statistics.median(
        mine.texts_per_cpu_s / theirs.texts_per_cpu_s for mine, theirs in zip(ours, reference, strict=True)
    )


def surroundings() -> str:
    """Say what else was running: figures from a busy machine mean less."""
    one, five, _ = os.getloadavg()
    steal = getattr(psutil.cpu_times_percent(interval=0.2), "steal", 0.0)
    return f"{os.cpu_count()} cores, load {one:.1f} (1 min) {five:.1f} (5 min), steal {steal:.0f} %"
