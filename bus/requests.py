"""Short questions over core NATS, with the answers they can have."""

from collections.abc import Sequence
from contextlib import suppress

from bus import subjects
from bus.envelope import Message
from bus.errors import AnswerLate, UnexpectedAnswer
from bus.messages import (
    ClaimJob,
    ClaimSeveralJobs,
    HeartbeatAnswered,
    HeartbeatJob,
    JobClaimed,
    JobClaimRefused,
    JobClaimsAnswered,
    LetGoWork,
    WorkClaimed,
    WorkLetGo,
    WorkRefused,
)
from bus.messages.work import ClaimWork, Lane
from bus.port import Bus

ASK_TIMEOUT_S = 2.0
#: How often a claim is asked while the answers are late, the first time included.
CLAIM_TRIES = 3


async def claim(
    bus: Bus, job_id: str, *, worker_id: str, timeout_s: float = ASK_TIMEOUT_S
) -> JobClaimed | JobClaimRefused:
    """Ask any server for a job; while an answer is late, ask the same question again.

    Servers know it by its id: however often it is asked, it uses up one attempt. Each time waits for up to
    ``timeout_s``, `CLAIM_TRIES` times at most.

    Raises:
        NoAnswer: no server answered.
        UnexpectedAnswer: what answered speaks of something else.
    """
    question = ClaimJob(job_id=job_id, worker_id=worker_id)
    answer = await _ask_until_answered(bus, subjects.JOB_CLAIM, question, timeout_s)
    if not isinstance(answer, JobClaimed | JobClaimRefused):
        raise UnexpectedAnswer(f"a claim was answered with {type(answer).__name__}")
    return answer


async def claim_several(
    bus: Bus, job_ids: Sequence[str], *, worker_id: str, timeout_s: float = ASK_TIMEOUT_S
) -> dict[str, JobClaimed | JobClaimRefused]:
    """Ask any server for different jobs with one question; else as `claim`.

    A job that no answer could be given for is left out.

    Raises:
        NobodyThere: no server that can be asked so.
        NoAnswer: no server answered.
        UnexpectedAnswer: what answered speaks of something else.
    """
    question = ClaimSeveralJobs(job_ids=list(job_ids), worker_id=worker_id)
    answer = await _ask_until_answered(bus, subjects.JOB_CLAIM_SEVERAL, question, timeout_s)
    if not isinstance(answer, JobClaimsAnswered):
        raise UnexpectedAnswer(f"claims were answered with {type(answer).__name__}")
    answers: list[JobClaimed | JobClaimRefused] = [*answer.claimed, *answer.refused]
    return {one.job_id: one for one in answers}


async def claim_work(
    bus: Bus, job_id: str, *, lane: Lane, pool: str, worker_id: str, timeout_s: float = ASK_TIMEOUT_S
) -> WorkClaimed | WorkRefused:
    """Ask any server for the job that is next in a lane; ``job_id`` is the one the message in hand names.

    While an answer is late the same question is asked again, as `claim` does.

    Raises:
        NoAnswer: no server answered.
        UnexpectedAnswer: what answered speaks of something else.
    """
    question = ClaimWork(job_id=job_id, lane=lane, pool=pool, worker_id=worker_id)
    answer = await _ask_until_answered(bus, subjects.WORK_CLAIM, question, timeout_s)
    if not isinstance(answer, WorkClaimed | WorkRefused):
        raise UnexpectedAnswer(f"a claim was answered with {type(answer).__name__}")
    return answer


async def let_go_work(
    bus: Bus,
    job_id: str,
    *,
    attempt: int,
    num_reports: int,
    worker_id: str,
    timeout_s: float = ASK_TIMEOUT_S,
) -> WorkLetGo:
    """Ask any server to let another worker go on; asked again while the answer is late, as `claim`.

    Raises:
        NoAnswer: no server answered.
        UnexpectedAnswer: what answered speaks of something else.
    """
    question = LetGoWork(job_id=job_id, attempt=attempt, num_reports=num_reports, worker_id=worker_id)
    answer = await _ask_until_answered(bus, subjects.WORK_LET_GO, question, timeout_s)
    if not isinstance(answer, WorkLetGo):
        raise UnexpectedAnswer(f"letting go was answered with {type(answer).__name__}")
    return answer


async def _ask_until_answered(bus: Bus, subject: str, question: Message, timeout_s: float) -> Message:
    for _ in range(CLAIM_TRIES - 1):
        with suppress(AnswerLate):
            return await bus.ask(subject, question, timeout_s=timeout_s)
    return await bus.ask(subject, question, timeout_s=timeout_s)


async def heartbeat(
    bus: Bus, job_id: str, *, attempt: int, worker_id: str, timeout_s: float = ASK_TIMEOUT_S
) -> HeartbeatAnswered:
    """Tell any server that an attempt goes on, and hear whether it should.

    Raises:
        NoAnswer: no server answered.
        UnexpectedAnswer: what answered speaks of something else.
    """
    question = HeartbeatJob(job_id=job_id, attempt=attempt, worker_id=worker_id)
    answer = await bus.ask(subjects.JOB_HEARTBEAT, question, timeout_s=timeout_s)
    if not isinstance(answer, HeartbeatAnswered):
        raise UnexpectedAnswer(f"a heartbeat was answered with {type(answer).__name__}")
    return answer
