"""Short questions over core NATS, with the answers they can have."""

from bus import subjects
from bus.errors import UnexpectedAnswer
from bus.messages import ClaimJob, HeartbeatAnswered, HeartbeatJob, JobClaimed, JobClaimRefused
from bus.port import Bus

ASK_TIMEOUT_S = 2.0


async def claim(
    bus: Bus, job_id: str, *, worker_id: str, timeout_s: float = ASK_TIMEOUT_S
) -> JobClaimed | JobClaimRefused:
    """Ask any server for a job.

    Raises:
        NoAnswer: no server answered.
        UnexpectedAnswer: what answered speaks of something else.
    """
    question = ClaimJob(job_id=job_id, worker_id=worker_id)
    answer = await bus.ask(subjects.JOB_CLAIM, question, timeout_s=timeout_s)
    if not isinstance(answer, JobClaimed | JobClaimRefused):
        raise UnexpectedAnswer(f"a claim was answered with {type(answer).__name__}")
    return answer


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
