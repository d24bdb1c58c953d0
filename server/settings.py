"""Settings of the server process, read once from the environment."""

from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator may set. Sizes in bytes, durations in seconds."""

    database_url: str
    nats_url: str
    object_store_url: str
    host: str = "127.0.0.1"
    port: int = 8000
    #: Host header values that are served; DNS rebinding ends here.
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    #: Secure cookies with the __Host- prefix; off only on loopback HTTP.
    secure_cookies: bool = False
    embed_timeout_s: float = 30.0
    max_inputs: int = 2048
    max_text_bytes: int = 100_000
    max_job_inputs: int = 100_000
    max_upload_bytes: int = 32 * 1024 * 1024
    max_body_bytes: int = 8 * 1024 * 1024
    session_lifetime_s: float = 30 * 24 * 3600.0
    session_idle_s: float = 7 * 24 * 3600.0
    password_threads: int = 2
    password_queue: int = 16
    #: Memory for computed vectors in each replica; 0 keeps none.
    cache_bytes: int = 64 * 1024 * 1024
    log_level: str = "INFO"
    nats_credentials: Path | None = None
