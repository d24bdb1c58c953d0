"""The only place where a subject is spelled: ``<area>.<kind>.<id>``, lower case."""

#: Every worker's pipelines, every 2 s (core).
PIPELINES_ANNOUNCED = "registry.announced"
#: A server that starts asks for them (core).
PIPELINES_WANTED = "registry.wanted"
#: A session or key has ended (core).
ACCESS_REVOKED = "access.revoked"
#: Any server answers these (core, queue group SERVERS).
JOB_CLAIM = "job.ask.claim"
JOB_HEARTBEAT = "job.ask.heartbeat"

#: The queue group of all server replicas.
SERVERS = "servers"

INTERACTIVE_ALL = "embed.interactive.>"
EMBED_JOBS_ALL = "job.embed.>"
JOB_EVENTS_ALL = "event.job.>"


def interactive(pool: str) -> str:
    """Commands of the interactive lane for one pool of embedding workers."""
    return f"embed.interactive.{pool}"


def embed_job(pool: str, job_id: str) -> str:
    """An embedding job in the bulk lane of one pool."""
    return f"job.embed.{pool}.{job_id}"


def embed_jobs(pool: str) -> str:
    """All embedding jobs of one pool."""
    return f"job.embed.{pool}.*"


def job_event(job_id: str) -> str:
    """What workers report about a job; the projection reads it."""
    return f"event.job.{job_id}"


def job_nudged(job_id: str) -> str:
    """Servers tell each other that a job has new history (core)."""
    return f"nudge.job.{job_id}"


def inbox(replica_id: str) -> str:
    """Where one server replica receives the answers of the interactive lane (core)."""
    return f"reply.{replica_id}"
