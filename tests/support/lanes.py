"""A server that answers about long work: claims, heartbeats, letting go; and that counts reports."""

import asyncio
from typing import Literal

import msgspec

from bus import subjects
from bus.envelope import Message
from bus.messages import (
    Checkpoint,
    CheckpointSaved,
    ClaimWork,
    HeartbeatAnswered,
    HeartbeatJob,
    LetGoWork,
    TrainersAnnounced,
    TrainingWork,
    TrainModel,
    ValidateDataset,
    WorkClaimed,
    WorkLetGo,
    WorkRefused,
)
from bus.messages.work import Lane, Work, WorkReport
from bus.port import Bus
from bus.topology import PROJECTION
from tests.support.waiting import until_true

OWNER = "owner-1"


class OpenJob:
    """What a server knows of one job."""

    def __init__(self, lane: Lane, work: Work) -> None:
        self.lane = lane
        self.work = work
        self.attempt = 0
        self.num_lost = 0
        #: Whether a claim would get it.
        self.is_waiting = True
        self.is_over = False
        self.checkpoint: Checkpoint | None = None
        self.reports: list[WorkReport] = []


class LaneServer:
    """Hands out jobs in the order in which they came; those that are let go, or lost, go first."""

    def __init__(self, bus: Bus, *, pool: str = "default") -> None:
        self._bus = bus
        self._pool = pool
        self.jobs: dict[str, OpenJob] = {}
        self.verdict: Literal["continue", "cancel", "superseded"] = "continue"
        #: Refuses instead of claiming where it is set.
        self.refuse: Literal["nothing", "later"] | None = None
        #: So often letting go is answered with ``later``.
        self.num_later = 0
        self.claims: list[ClaimWork] = []
        self.heartbeats: list[HeartbeatJob] = []
        self.let_go: list[LetGoWork] = []
        self.announcements: list[TrainersAnnounced] = []
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer and read from now on."""
        for subject, responder in (
            (subjects.WORK_CLAIM, self._claim),
            (subjects.JOB_HEARTBEAT, self._heartbeat),
            (subjects.WORK_LET_GO, self._let_go),
        ):
            await self._bus.answer(subject, responder, group=subjects.SERVERS)
        await self._bus.follow(subjects.TRAINERS_ANNOUNCED, self._hear)
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def open(self, job_id: str, work: Work, *, num_lost: int = 0) -> OpenJob:
        """Take a job and put a token for it on the bus."""
        lane: Lane = "train" if isinstance(work, TrainingWork) else "data"
        job = self.jobs[job_id] = OpenJob(lane, work)
        job.num_lost = num_lost
        await self.put_token(job_id)
        return job

    async def put_token(self, job_id: str, *, publish_number: int = 1) -> None:
        """Say that there is something to do."""
        if self.jobs[job_id].lane == "train":
            subject = subjects.train_job(self._pool, job_id)
            token: Message = TrainModel(job_id=job_id, publish_number=publish_number)
        else:
            subject = subjects.data_job(self._pool, job_id)
            token = ValidateDataset(job_id=job_id, publish_number=publish_number)
        await self._bus.publish(subject, token, message_id=f"{job_id}:{publish_number}")

    def lose(self, job_id: str) -> None:
        """Notice that the worker of a job has fallen silent."""
        job = self.jobs[job_id]
        job.is_waiting = True
        job.num_lost += 1

    async def wait_for(self, job_id: str, kind: type[WorkReport], *, within_s: float = 60.0) -> WorkReport:
        """Return the first counted report of a kind."""
        job = self.jobs[job_id]

        async def find() -> bool:
            return any(isinstance(report, kind) for report in job.reports)

        await until_true(find, within_s=within_s)
        return next(report for report in job.reports if isinstance(report, kind))

    async def _claim(self, message: Message) -> Message:
        assert isinstance(message, ClaimWork)
        self.claims.append(message)
        if self.refuse is not None:
            return WorkRefused(job_id=message.job_id, reason=self.refuse)
        for job_id, job in self.jobs.items():
            if job.lane == message.lane and job.is_waiting and not job.is_over:
                job.is_waiting = False
                job.attempt += 1
                job.reports.clear()
                work = job.work
                if isinstance(work, TrainingWork) and job.checkpoint is not None:
                    work = msgspec.structs.replace(work, checkpoint=job.checkpoint)
                return WorkClaimed(
                    job_id=job_id, attempt=job.attempt, owner_id=OWNER, work=work, num_lost=job.num_lost
                )
        is_open = any(job.lane == message.lane and not job.is_over for job in self.jobs.values())
        return WorkRefused(job_id=message.job_id, reason="later" if is_open else "nothing")

    async def _heartbeat(self, message: Message) -> Message:
        assert isinstance(message, HeartbeatJob)
        self.heartbeats.append(message)
        return HeartbeatAnswered(job_id=message.job_id, verdict=self.verdict)

    async def _let_go(self, message: Message) -> Message:
        assert isinstance(message, LetGoWork)
        self.let_go.append(message)
        job = self.jobs[message.job_id]
        is_counted = len(job.reports) >= message.num_reports
        if not is_counted or len(self.let_go) <= self.num_later:
            return WorkLetGo(job_id=message.job_id, verdict="later")
        job.is_waiting = True
        return WorkLetGo(job_id=message.job_id, verdict="done")

    async def _hear(self, message: Message) -> None:
        assert isinstance(message, TrainersAnnounced)
        self.announcements.append(message)

    async def _read(self) -> None:
        """Count reports as the projection does: of the current attempt, in the order of their numbers."""
        puller = self._bus.puller(PROJECTION)
        while True:
            for delivery in await puller.fetch(limit=1, wait_s=1.0):
                report = delivery.message
                assert isinstance(report, WorkReport)
                job = self.jobs[report.job_id]
                if report.attempt != job.attempt or report.number <= len(job.reports):
                    await delivery.ack()
                elif report.number == len(job.reports) + 1:
                    job.reports.append(report)
                    if isinstance(report, CheckpointSaved):
                        job.checkpoint = report.checkpoint
                    job.is_over = type(report).__name__ in _LAST
                    await delivery.ack()
                else:
                    await delivery.nak(delay_s=0.2)


_LAST = {"ModelExported", "DatasetValidated", "SamplesMade", "WorkStopped", "WorkFailed"}
