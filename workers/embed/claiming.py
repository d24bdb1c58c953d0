"""Asking servers for jobs: short ones that are asked for at the same moment share a question."""

import asyncio

from bus.errors import BusError, NoAnswer, NobodyThere, NotPermitted
from bus.messages import EmbedJob, JobClaimed, JobClaimRefused
from bus.port import Bus
from bus.requests import claim, claim_several
from bus.tasks import Tasks

Answer = JobClaimed | JobClaimRefused


class Claiming:
    """Claims jobs for one worker; those of one turn of the loop share a question, so none is kept waiting."""

    def __init__(self, bus: Bus, worker_id: str) -> None:
        self._bus = bus
        self._worker_id = worker_id
        # Bounded by the room of the lane.
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._tasks = Tasks()

    async def claim(self, command: EmbedJob) -> Answer:
        """Ask any server for a job.

        Raises:
            NoAnswer: no server answered, or none could.
            UnexpectedAnswer: what answered speaks of something else.
        """
        job_id = command.job_id
        # What is said of a long job can be long; and asked for twice, a job is claimed twice.
        if not command.is_short or job_id in self._waiting:
            return await self._claim_alone(job_id)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[job_id] = answer
        if len(self._waiting) == 1:
            # Its turn comes after all that is ready now, such as the other deliveries of the window.
            self._tasks.spawn(self._ask(), "claim")
        return await answer

    async def _ask(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if len(waiting) > 1:
            try:
                answers = await claim_several(self._bus, list(waiting), worker_id=self._worker_id)
            except (NobodyThere, NotPermitted):
                # Servers, or a credential, of a release that takes one at a time.
                pass
            except BusError as error:
                for answer in waiting.values():
                    _fail(answer, error)
                return
            else:
                for job_id, answer in waiting.items():
                    _settle(answer, answers.get(job_id))
                return
        await asyncio.gather(*(self._ask_alone(job_id, answer) for job_id, answer in waiting.items()))

    async def _ask_alone(self, job_id: str, answer: "asyncio.Future[Answer]") -> None:
        try:
            _settle(answer, await self._claim_alone(job_id))
        except BusError as error:
            _fail(answer, error)

    async def _claim_alone(self, job_id: str) -> Answer:
        return await claim(self._bus, job_id, worker_id=self._worker_id)


def _settle(waiting: "asyncio.Future[Answer]", answer: Answer | None) -> None:
    if answer is None:
        _fail(waiting, NoAnswer("the server that was asked could not answer for this job"))
    elif not waiting.done():
        waiting.set_result(answer)


def _fail(waiting: "asyncio.Future[Answer]", error: BusError) -> None:
    # Done already: whoever asked has gone.
    if not waiting.done():
        waiting.set_exception(error)
