"""The only place where a subject is spelled: ``<area>.<kind>.<id>``, lower case."""

#: Every worker's pipelines, every 2 s (core).
PIPELINES_ANNOUNCED = "registry.announced"
#: A server that starts asks for them (core).
PIPELINES_WANTED = "registry.wanted"
#: Every train worker, every 2 s (core).
TRAINERS_ANNOUNCED = "registry.trainers.announced"
#: A server that starts asks for them (core).
TRAINERS_WANTED = "registry.trainers.wanted"
#: Embedding workers hear of models that were deployed (core).
MODEL_PRELOAD = "registry.models.preload"
#: A session or key has ended (core).
ACCESS_REVOKED = "access.revoked"
#: Any server answers these (core, queue group SERVERS).
JOB_CLAIM = "job.ask.claim"
JOB_CLAIM_SEVERAL = "job.ask.claim_several"
JOB_HEARTBEAT = "job.ask.heartbeat"
WORK_CLAIM = "job.ask.work.claim"
WORK_LET_GO = "job.ask.work.let_go"

#: Workers hear of every job that is to be stopped (core).
JOB_CANCELS_ALL = "cancel.job.*"

#: Copies of messages that were given up.
DEAD_LETTERS_ALL = "dead.>"
#: What the server itself tells of messages that were given up (its own subjects).
LIMITS_REACHED = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"
TERMINATIONS = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"

#: The queue group of all server replicas.
SERVERS = "servers"

INTERACTIVE_ALL = "embed.interactive.>"
EMBED_JOBS_ALL = "job.embed.>"
TRAIN_JOBS_ALL = "job.train.>"
DATA_JOBS_ALL = "job.data.>"
JOB_EVENTS_ALL = "event.job.>"


#: What spans and metrics are named after: everything before the first token that varies.
_FAMILIES = (
    PIPELINES_ANNOUNCED,
    PIPELINES_WANTED,
    TRAINERS_ANNOUNCED,
    TRAINERS_WANTED,
    MODEL_PRELOAD,
    ACCESS_REVOKED,
    JOB_CLAIM,
    JOB_CLAIM_SEVERAL,
    JOB_HEARTBEAT,
    WORK_CLAIM,
    WORK_LET_GO,
    "embed.interactive",
    "job.embed",
    "job.train",
    "job.data",
    "event.job",
    "nudge.job",
    "cancel.job",
    "dead",
    "reply",
)


def interactive(pool: str) -> str:
    """Commands of the interactive lane for one pool of embedding workers."""
    return f"embed.interactive.{pool}"


def embed_job(pool: str, job_id: str) -> str:
    """An embedding job in the bulk lane of one pool."""
    return f"job.embed.{pool}.{job_id}"


def embed_jobs(pool: str) -> str:
    """All embedding jobs of one pool."""
    return f"job.embed.{pool}.*"


def train_job(pool: str, job_id: str) -> str:
    """A training in the train lane of one pool."""
    return f"job.train.{pool}.{job_id}"


def train_jobs(pool: str) -> str:
    """All trainings of one pool."""
    return f"job.train.{pool}.*"


def data_job(pool: str, job_id: str) -> str:
    """A validation or a generation in the data lane of one pool."""
    return f"job.data.{pool}.{job_id}"


def data_jobs(pool: str) -> str:
    """The whole data lane of one pool."""
    return f"job.data.{pool}.*"


def job_event(job_id: str) -> str:
    """What workers report about a job; the projection reads it."""
    return f"event.job.{job_id}"


def job_nudged(job_id: str) -> str:
    """Servers tell each other that a job has new history (core)."""
    return f"nudge.job.{job_id}"


def job_cancel(job_id: str) -> str:
    """Tells whoever works on a job to stop (core)."""
    return f"cancel.job.{job_id}"


def dead_letter(subject: str) -> str:
    """Where the copy of a message goes that was published on ``subject`` and given up."""
    return f"dead.{subject}"


def inbox(replica_id: str) -> str:
    """Where one server replica receives the answers of the interactive lane (core)."""
    return f"reply.{replica_id}"


def family(subject: str) -> str:
    """Return the part of a subject that names its kind and holds no id."""
    for name in _FAMILIES:
        if subject == name or subject.startswith(f"{name}."):
            return name
    return "other"


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject falls under a pattern with NATS wildcards: ``*`` one token, ``>`` all that follow."""
    wanted = pattern.split(".")
    tokens = subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))
