"""An embed worker on a bus, and what stands around it: a caller, and a server that answers claims."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from bus import subjects
from bus.envelope import Message
from bus.messages import (
    ClaimJob,
    DeployedModel,
    EmbeddingRefused,
    EmbedJob,
    EmbedNow,
    HeartbeatAnswered,
    HeartbeatJob,
    Input,
    ItemsEmbedded,
    JobAttemptFailed,
    JobClaimed,
    JobClaimRefused,
    JobSpec,
    TextInput,
    VectorsComputed,
)
from bus.messages.embedding import encode_inputs
from bus.objects import ObjectStore
from bus.port import Bus, Subscription
from bus.topology import PROJECTION
from workers.embed.engine import Engine
from workers.embed.job_attempt import Tools
from workers.embed.models.shelf import ModelShelf
from workers.embed.registry import Announcer
from workers.embed.sacrifice.engine import SacrificialEngine
from workers.embed.serving import EmbedWorker, ServeSettings

POOL = "default"
REPLICA = "replica-1"
DEADLINE_S = 20.0
T = TypeVar("T")


async def soon(probe: Callable[[], T | None], *, within_s: float = DEADLINE_S) -> T:
    """Return the first true answer of ``probe``."""
    async with asyncio.timeout(within_s):
        while not (answer := probe()):  # noqa: ASYNC110  what is probed has no event to wait for
            await asyncio.sleep(0.005)
    return answer


class RunningWorker:
    """A worker that serves until it is told to stop."""

    def __init__(
        self,
        bus: Bus,
        engine: Engine,
        objects: ObjectStore,
        *,
        stuck_s: float = DEADLINE_S,
        heartbeat_every_s: float = 0.02,
        models: ModelShelf | None = None,
        alone: SacrificialEngine | None = None,
    ) -> None:
        self.alone = alone or SacrificialEngine("tests.workers.poison:load")
        tools = Tools(
            bus=bus,
            engine=engine,
            alone=self.alone,
            objects=objects,
            worker_id="worker-1",
            models=models,
            heartbeat_every_s=heartbeat_every_s,
        )
        self._stop = asyncio.Event()
        self.given_up: list[str] = []
        settings = ServeSettings(pool=POOL, drain_s=10.0, stuck_s=stuck_s, give_up=self.given_up.append)
        announcer = Announcer(bus, "worker-1", [], models_pool=POOL if models else None)
        self._worker = EmbedWorker(tools, announcer, settings)
        self.task = asyncio.create_task(self._worker.serve(self._stop))

    def tell_to_stop(self) -> None:
        """Do what SIGTERM does."""
        self._stop.set()

    async def stop(self) -> None:
        """Tell it to stop and wait until it has drained."""
        self.tell_to_stop()
        async with asyncio.timeout(DEADLINE_S):
            await self.task
        await self.alone.close()


class Caller:
    """A server replica that asks in the interactive lane and collects what comes to its inbox."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.inbox: list[Message] = []

    async def listen(self) -> None:
        """Follow the inbox."""
        await self._bus.follow(subjects.inbox(REPLICA), self._receive)

    async def ask(self, inputs: Sequence[Input | str], **fields: object) -> EmbedNow:
        """Publish a command; texts may be plain strings."""
        command = EmbedNow(
            **{  # type: ignore[arg-type]
                "request_id": "request-1",
                "pipeline": "toy",
                "inputs": as_inputs(inputs),
                "reply_to": subjects.inbox(REPLICA),
                "deadline_at": datetime.now(UTC) + timedelta(seconds=30),
            }
            | fields
        )
        await self._bus.publish(subjects.interactive(POOL), command)
        return command

    async def answers(self, num_rows: int, *, within_s: float = DEADLINE_S) -> list[VectorsComputed]:
        """Wait until answers for so many rows are in, in order of their rows."""

        def find() -> list[VectorsComputed] | None:
            found = [message for message in self.inbox if isinstance(message, VectorsComputed)]
            return found if sum(answer.count for answer in found) >= num_rows else None

        return sorted(await soon(find, within_s=within_s), key=lambda answer: answer.first_index)

    async def refusal(self) -> EmbeddingRefused:
        """Wait for a refusal of a whole command."""
        found = await soon(
            lambda: [message for message in self.inbox if isinstance(message, EmbeddingRefused)]
        )
        return found[0]

    async def _receive(self, message: Message) -> None:
        self.inbox.append(message)


class JobServer:
    """A server that answers claims and heartbeats of jobs it knows, and reads what workers report."""

    def __init__(self, bus: Bus, objects: ObjectStore, *, pipeline: str = "toy") -> None:
        self._bus = bus
        self._objects = objects
        self._pipeline = pipeline
        self._specs: dict[str, JobSpec] = {}
        #: What the jobs that are created from now on are embedded by.
        self.model: DeployedModel | None = None
        self._attempts: dict[str, int] = {}
        self.refuse: Literal["cancelled", "finished", "unknown"] | None = None
        self.verdict: Literal["continue", "cancel", "superseded"] = "continue"
        self.done_chunks: list[int] = []
        self.num_lost = 0
        self.heartbeats: list[HeartbeatJob] = []
        self.reports: list[Message] = []
        self._hearing: Subscription | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer and read from now on."""
        await self._bus.answer(subjects.JOB_CLAIM, self._claim, group=subjects.SERVERS)
        self._hearing = await self._bus.answer(
            subjects.JOB_HEARTBEAT, self._heartbeat, group=subjects.SERVERS
        )
        self._reading = asyncio.create_task(self._read())

    async def go_deaf(self) -> None:
        """Answer no more heartbeats."""
        assert self._hearing is not None
        await self._hearing.close()

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def create(self, job_id: str, inputs: Sequence[Input | str], *, chunk_size: int) -> None:
        """Store a job's inputs and put it on the bus."""
        inputs_key = f"inputs/{job_id}"
        await self._objects.put(inputs_key, encode_inputs(as_inputs(inputs)))
        self._specs[job_id] = JobSpec(
            pipeline=self._pipeline,
            inputs_key=inputs_key,
            item_count=len(inputs),
            chunk_size=chunk_size,
            model=self.model,
        )
        await self.publish(job_id)

    async def publish(self, job_id: str) -> None:
        """Put a job on the bus."""
        await self._bus.publish(subjects.embed_job(POOL, job_id), EmbedJob(job_id=job_id, publish_number=1))

    def chunks(self, job_id: str) -> list[ItemsEmbedded]:
        """Give the reported chunks in order."""
        found = [report for report in self.reports if isinstance(report, ItemsEmbedded)]
        return sorted(
            (report for report in found if report.job_id == job_id), key=lambda report: report.chunk
        )

    async def wait_for_chunks(
        self, job_id: str, num_chunks: int, *, within_s: float = DEADLINE_S
    ) -> list[ItemsEmbedded]:
        """Wait until so many chunks are reported."""

        def find() -> list[ItemsEmbedded] | None:
            return found if len(found := self.chunks(job_id)) >= num_chunks else None

        return await soon(find, within_s=within_s)

    async def wait_for_failure(self) -> JobAttemptFailed:
        """Wait until an attempt is given up."""
        found = await soon(
            lambda: [report for report in self.reports if isinstance(report, JobAttemptFailed)]
        )
        return found[0]

    async def _claim(self, message: Message) -> Message:
        assert isinstance(message, ClaimJob)
        if self.refuse is not None:
            return JobClaimRefused(job_id=message.job_id, reason=self.refuse)
        attempt = self._attempts[message.job_id] = self._attempts.get(message.job_id, 0) + 1
        return JobClaimed(
            job_id=message.job_id,
            attempt=attempt,
            spec=self._specs[message.job_id],
            num_lost=self.num_lost,
            done_chunks=[*self.done_chunks, *(report.chunk for report in self.chunks(message.job_id))],
        )

    async def _heartbeat(self, message: Message) -> Message:
        assert isinstance(message, HeartbeatJob)
        self.heartbeats.append(message)
        return HeartbeatAnswered(job_id=message.job_id, verdict=self.verdict)

    async def _read(self) -> None:
        puller = self._bus.puller(PROJECTION)
        while True:
            for delivery in await puller.fetch(limit=100, wait_s=1.0):
                self.reports.append(delivery.message)
                await delivery.ack()


def as_inputs(inputs: Sequence[Input | str]) -> list[Input]:
    """Turn plain strings into text inputs."""
    return [TextInput(text=item) if isinstance(item, str) else item for item in inputs]


def rows(raw: bytes, dimension: int) -> npt.NDArray[np.float32]:
    """Read vectors as messages and result objects carry them."""
    return np.frombuffer(raw, dtype="<f4").reshape(-1, dimension)
