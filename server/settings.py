"""Settings of the server process, read once from the environment."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from bus.messages import TrainingSpec
from bus.settings import Count, Port, ProcessSettings, Seconds, load


class Settings(ProcessSettings, frozen=True, kw_only=True):
    """Everything an operator may set. Sizes in bytes, durations in seconds."""

    database_url: Annotated[
        str,
        Meta(
            pattern="^postgres(ql)?://.",
            examples=["postgresql://user:password@host/name"],
            description="Address of the PostgreSQL database.",
        ),
    ]
    host: Annotated[str, Meta(description="Address to listen on; `up` only takes loopback.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on.")] = 8000
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Host header values that are served; DNS rebinding ends here."),
    ] = ("127.0.0.1", "localhost", "[::1]")
    secure_cookies: Annotated[
        bool, Meta(description="Secure cookies with the `__Host-` prefix; off only on loopback HTTP.")
    ] = False
    leave_notice_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="How long a server that is told to stop still takes clients while `/health/ready` "
            "refuses, in seconds; longer than a load balancer takes to notice.",
        ),
    ] = 0.0
    embed_timeout_s: Annotated[
        Seconds, Meta(description="How long an `embed` call may wait for its vectors, in seconds.")
    ] = 30.0
    max_inputs: Annotated[Count, Meta(description="Inputs in one `embed` call.")] = 2048
    max_text_bytes: Annotated[Count, Meta(description="Bytes (UTF-8) of one text.")] = 100_000
    max_job_inputs: Annotated[Count, Meta(description="Inputs in one embedding job.")] = 100_000
    max_open_jobs_per_user: Annotated[
        Count, Meta(description="Unfinished jobs of one user; more are answered BUSY.")
    ] = 10_000
    max_open_jobs_per_pool: Annotated[
        Count, Meta(description="Unfinished jobs for one pool of workers; more are answered BUSY.")
    ] = 100_000
    max_datasets_per_user: Annotated[
        Count, Meta(description="Data sets of one user; more are answered QUOTA_EXCEEDED.")
    ] = 1000
    max_open_trainings_per_user: Annotated[
        Count, Meta(description="Unfinished trainings of one user; more are answered QUOTA_EXCEEDED.")
    ] = 100
    max_training_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=TrainingSpec.MAX_SECONDS,
            description="How long one attempt at a training may take, in seconds; it ends there as if its "
            "steps were done.",
        ),
    ] = 24 * 3600
    max_sockets_per_user: Annotated[
        Count,
        Meta(description="Open sockets and event streams of one user on one server; more are RATE_LIMITED."),
    ] = 1000
    job_retention_s: Annotated[
        Seconds,
        Meta(description="A job that ended goes after this long, with its events and vectors, in seconds."),
    ] = 30 * 24 * 3600.0
    max_upload_bytes: Annotated[Count, Meta(description="Bytes of one uploaded file.")] = 32 * 1024 * 1024
    max_body_bytes: Annotated[Count, Meta(description="Bytes of one request body that is no upload.")] = (
        8 * 1024 * 1024
    )
    session_lifetime_s: Annotated[
        Seconds, Meta(description="A session ends this long after log-in, in seconds.")
    ] = 30 * 24 * 3600.0
    session_idle_s: Annotated[
        Seconds, Meta(description="A session ends when unused for this long, in seconds.")
    ] = 7 * 24 * 3600.0
    password_threads: Annotated[Count, Meta(description="Passwords that are hashed at the same time.")] = 2
    password_queue: Annotated[
        Count, Meta(description="Passwords that may wait to be hashed; more are answered BUSY.")
    ] = 16
    cache_bytes: Annotated[
        int, Meta(ge=0, description="Bytes of vectors the server remembers; 0 turns the cache off.")
    ] = 64 * 1024 * 1024


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the server's settings.

    Raises:
        SettingsError: a variable is missing or can't be used.
    """
    return load(Settings, environ)
