"""Short questions over core NATS, with the answers they can have."""

from contextlib import suppress

from bus import subjects
from bus.envelope import Message
from bus.errors import AnswerLate, UnexpectedAnswer
from bus.messages import ClaimJob, HeartbeatAnswered, HeartbeatJob, JobClaimed, JobClaimRefused
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
    answer = await _ask_until_answered(bus, question, timeout_s)
    if not isinstance(answer, JobClaimed | JobClaimRefused):
        raise UnexpectedAnswer(f"a claim was answered with {type(answer).__name__}")
    return answer


async def _ask_until_answered(bus: Bus, question: ClaimJob, timeout_s: float) -> Message:
    for _ in range(CLAIM_TRIES - 1):
        with suppress(AnswerLate):
            return await bus.ask(subjects.JOB_CLAIM, question, timeout_s=timeout_s)
    return await bus.ask(subjects.JOB_CLAIM, question, timeout_s=timeout_s)


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
