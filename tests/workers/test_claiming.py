"""How a worker asks for jobs."""

import asyncio
from collections.abc import Sequence

import pytest

from bus import subjects
from bus.envelope import Message
from bus.errors import NoAnswer
from bus.memory import MemoryBus
from bus.messages import (
    ClaimJob,
    ClaimSeveralJobs,
    EmbedJob,
    JobClaimed,
    JobClaimRefused,
    JobClaimsAnswered,
    JobSpec,
)
from workers.embed.claiming import Answer, Claiming

SPEC = JobSpec(pipeline="toy", inputs_key="inputs", item_count=1, chunk_size=1)


class Server:
    """Gives every job away, but for those that are ``over``, and of those ``unclear`` it says nothing."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.questions: list[list[str]] = []
        self.over: set[str] = set()
        self.unclear: set[str] = set()

    async def start(self, *, takes_several: bool) -> None:
        """Answer as this release does, or as one that takes one job at a time."""
        await self._bus.answer(subjects.JOB_CLAIM, self._on_one, group=subjects.SERVERS)
        if takes_several:
            await self._bus.answer(subjects.JOB_CLAIM_SEVERAL, self._on_several, group=subjects.SERVERS)

    async def _on_one(self, message: Message) -> Message:
        assert isinstance(message, ClaimJob)
        self.questions.append([message.job_id])
        return self._answer(message.job_id)

    async def _on_several(self, message: Message) -> Message:
        assert isinstance(message, ClaimSeveralJobs)
        self.questions.append(message.job_ids)
        answers = [self._answer(job_id) for job_id in message.job_ids if job_id not in self.unclear]
        return JobClaimsAnswered(
            claimed=[answer for answer in answers if isinstance(answer, JobClaimed)],
            refused=[answer for answer in answers if isinstance(answer, JobClaimRefused)],
        )

    def _answer(self, job_id: str) -> Answer:
        if job_id in self.over:
            return JobClaimRefused(job_id=job_id, reason="finished")
        return JobClaimed(job_id=job_id, attempt=1, spec=SPEC)


@pytest.fixture
def server(bus: MemoryBus) -> Server:
    return Server(bus)


@pytest.fixture
def claiming(bus: MemoryBus) -> Claiming:
    return Claiming(bus, "worker-1")


def _command(job_id: str, *, is_short: bool = True) -> EmbedJob:
    return EmbedJob(job_id=job_id, publish_number=1, is_short=is_short)


async def _claim(claiming: Claiming, job_ids: Sequence[str]) -> list[Answer | BaseException]:
    """Claim as the deliveries of one window do."""
    tasks = [asyncio.create_task(claiming.claim(_command(job_id))) for job_id in job_ids]
    async with asyncio.timeout(5):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_short_jobs_of_one_window_share_a_question_and_each_gets_its_own_answer(
    server: Server, claiming: Claiming
) -> None:
    await server.start(takes_several=True)
    server.over.add("2")

    answers = await _claim(claiming, ["1", "2", "3"])

    assert [["1", "2", "3"]] == server.questions
    assert ["1", "2", "3"] == [answer.job_id for answer in answers if not isinstance(answer, BaseException)]
    assert [JobClaimed, JobClaimRefused, JobClaimed] == [type(answer) for answer in answers]


async def test_one_job_and_a_long_job_are_asked_for_alone(server: Server, claiming: Claiming) -> None:
    await server.start(takes_several=True)

    await _claim(claiming, ["1"])
    await asyncio.gather(*(claiming.claim(_command(name, is_short=False)) for name in ("2", "3")))

    assert [["1"], ["2"], ["3"]] == sorted(server.questions)


async def test_two_deliveries_of_one_job_are_two_claims(server: Server, claiming: Claiming) -> None:
    await server.start(takes_several=True)

    answers = await _claim(claiming, ["1", "2", "1"])

    assert [["1"], ["1", "2"]] == sorted(server.questions)
    assert ["1", "2", "1"] == [answer.job_id for answer in answers if not isinstance(answer, BaseException)]


async def test_servers_of_an_earlier_release_are_asked_for_one_job_at_a_time(
    server: Server, claiming: Claiming
) -> None:
    await server.start(takes_several=False)

    answers = await _claim(claiming, ["1", "2", "3"])

    assert [["1"], ["2"], ["3"]] == sorted(server.questions)
    assert [JobClaimed] * 3 == [type(answer) for answer in answers]


async def test_a_job_that_nothing_is_said_of_fails_alone(server: Server, claiming: Claiming) -> None:
    await server.start(takes_several=True)
    server.unclear.add("2")

    answers = await _claim(claiming, ["1", "2", "3"])

    assert [JobClaimed, NoAnswer, JobClaimed] == [type(answer) for answer in answers]


async def test_without_a_server_every_claim_fails_and_the_next_is_asked_anew(
    bus: MemoryBus, server: Server, claiming: Claiming
) -> None:
    answers = await _claim(claiming, ["1", "2"])
    assert all(isinstance(answer, NoAnswer) for answer in answers)
    await server.start(takes_several=True)

    assert [JobClaimed] * 2 == [type(answer) for answer in await _claim(claiming, ["1", "2"])]


async def test_who_gives_up_takes_no_other_claim_with_it(server: Server, claiming: Claiming) -> None:
    await server.start(takes_several=True)
    claims = [asyncio.create_task(claiming.claim(_command(name))) for name in ("1", "2")]
    await asyncio.sleep(0)
    claims[0].cancel()

    async with asyncio.timeout(5):
        assert "2" == (await claims[1]).job_id
