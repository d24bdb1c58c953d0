"""What every kind of worker process shares: settings, threads, signals, draining, readiness, exit codes."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import uvloop
from msgspec import Meta

from bus.errors import BusError
from bus.exporting import exporting_traces
from bus.settings import Count, ProcessSettings, SettingsError, load

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE = 0, 1, 2

PoolName = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,62}$", examples=["default"])]


class WorkerSettings(ProcessSettings, frozen=True, kw_only=True):
    """What an operator may set for any worker."""

    worker_pool: Annotated[
        PoolName, Meta(description="The pool the worker belongs to; all of a pool host the same.")
    ] = "default"
    worker_threads: Annotated[Count, Meta(description="Threads that compute one batch (or step).")] = 1
    worker_wait_policy: Annotated[
        Literal["PASSIVE", "ACTIVE"],
        Meta(description="ACTIVE lets computing threads spin; only where no other process needs the cores."),
    ] = "PASSIVE"
    worker_ready_file: Annotated[
        Path | None, Meta(description="A file that exists while the worker is ready, for probes.")
    ] = None


S = TypeVar("S", bound=WorkerSettings)
W = TypeVar("W")


class WorkerFailed(Exception):
    """A worker can't go on; its message is the one line an operator reads."""


def run_worker(
    settings: type[S], serve: Callable[[S, asyncio.Event], Awaitable[None]], environ: Mapping[str, str]
) -> int:
    """Run a worker until it is told to stop; give the exit code.

    Args:
        settings: the struct to read from ``environ``.
        serve: works until the event is set, then drains and returns. It must not import torch before it is
            called: threads are set here, and torch reads them when it is loaded.
        environ: the environment.
    """
    try:
        loaded = load(settings, environ)
        configure_logging(loaded.log_level)
        use_threads(loaded.worker_threads, loaded.worker_wait_policy)
        with (
            exporting_traces(loaded.otlp_endpoint, service=f"towhee-api worker {loaded.worker_pool}"),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_until_told(loaded, serve))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG_USE
    except (WorkerFailed, BusError) as error:
        logger.error("%s", error)  # noqa: TRY400  these say all there is to say
        return EXIT_FAILED
    return EXIT_DONE


def configure_logging(level: str) -> None:
    """Log to standard error, one line an event."""
    logging.basicConfig(
        level=level, stream=sys.stderr, force=True, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def use_threads(threads: int, wait_policy: str) -> None:
    """Fix how many threads compute. Only has an effect before torch is imported.

    Waiting threads that spin take the cores from whatever shares the machine, and torch by itself takes as
    many threads as there are cores in each process; so both are said on purpose.
    """
    os.environ.update(
        OMP_NUM_THREADS=str(threads),
        MKL_NUM_THREADS=str(threads),
        OMP_WAIT_POLICY=wait_policy,
        # Tokenising has threads of its own that would come on top.
        TOKENIZERS_PARALLELISM="false",
    )


def give_up(reason: str) -> NoReturn:
    """End the process at once. For a thread that hangs: everything else would wait for it for ever."""
    logger.critical("%s", reason)
    logging.shutdown()
    os._exit(EXIT_FAILED)


class ReadyFile:
    """Exists while the worker is ready."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        if self._path is not None:
            self._path.touch()

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


async def start_unless_told(starting: Coroutine[Any, Any, W], stop: asyncio.Event) -> W | None:
    """Start a worker; None if it is told to stop before it has started, which is then broken off."""
    task = asyncio.create_task(starting)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


async def _until_told(settings: S, serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)
