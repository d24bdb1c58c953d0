"""The tables as Piccolo sees them. The migrations make them; a test holds the two together.

Two tables have a key of two columns, which Piccolo cannot say: it is told the first of the two, because
it would invent a column otherwise.
"""

from piccolo.columns import (
    UUID,
    Array,
    BigInt,
    Boolean,
    Bytea,
    DoublePrecision,
    ForeignKey,
    Integer,
    Text,
    Timestamptz,
)
from piccolo.table import Table


class Users(Table, tablename="users"):
    """Accounts."""

    id = UUID(primary_key=True)
    email = Text()
    password_hash = Text()
    created_at = Timestamptz()


class Sessions(Table, tablename="sessions"):
    """Log-ins."""

    id = UUID(primary_key=True)
    user_id = ForeignKey(Users, null=False)
    token_digest = Bytea()
    created_at = Timestamptz()
    last_seen_at = Timestamptz()
    expires_at = Timestamptz()
    ended_at = Timestamptz(null=True)
    ip_address = Text(null=True)
    user_agent = Text(null=True)
    device_name = Text(null=True)


class ApiKeys(Table, tablename="api_keys"):
    """API keys, without their secrets."""

    id = UUID(primary_key=True)
    user_id = ForeignKey(Users, null=False)
    name = Text()
    prefix = Text()
    secret_digest = Bytea()
    scopes = Array(base_column=Text())
    created_at = Timestamptz()
    expires_at = Timestamptz(null=True)
    last_used_at = Timestamptz(null=True)
    revoked_at = Timestamptz(null=True)


class Files(Table, tablename="files"):
    """Uploads."""

    id = UUID(primary_key=True)
    user_id = ForeignKey(Users, null=False)
    name = Text()
    media_type = Text()
    modality = Text(null=True)
    confidence = DoublePrecision()
    reason = Text()
    byte_size = BigInt()
    sha256 = Text()
    object_key = Text()
    created_at = Timestamptz()
    deleted_at = Timestamptz(null=True)


class Pipelines(Table, tablename="pipelines"):
    """Every pipeline ever announced."""

    id = UUID(primary_key=True)
    name = Text()
    version = Text()
    modality = Text()
    dimension = Integer()
    pool = Text()
    max_tokens = Integer(null=True)
    auto_rank = Integer(null=True)
    description = Text()
    first_seen_at = Timestamptz()


class Jobs(Table, tablename="jobs"):
    """What every job has, whatever its kind."""

    id = UUID(primary_key=True)
    user_id = ForeignKey(Users, null=False)
    kind = Text()
    state = Text()
    attempt = Integer()
    worker_id = Text(null=True)
    heartbeat_at = Timestamptz(null=True)
    publish_number = Integer()
    last_seq = BigInt()
    idempotency_key = Text(null=True)
    request_digest = Bytea(null=True)
    error_code = Text(null=True)
    error_message = Text(null=True)
    created_at = Timestamptz()
    started_at = Timestamptz(null=True)
    finished_at = Timestamptz(null=True)
    let_go = Array(base_column=Integer())
    claim_id = Text(null=True)


class EmbeddingJobs(Table, tablename="embedding_jobs"):
    """What only an embedding job has."""

    job_id = ForeignKey(Jobs, null=False, primary_key=True)
    pipeline_name = Text()
    inputs_key = Text()
    item_count = Integer()
    chunk_size = Integer()
    completed_count = Integer()
    failed_count = Integer()
    dimension = Integer(null=True)
    model = Bytea(null=True)
    model_id = UUID(null=True)
    dataset_id = UUID(null=True)
    pool = Text(null=True)


class JobEvents(Table, tablename="job_events"):
    """The history of a job, by job and sequence number."""

    job_id = ForeignKey(Jobs, null=False, primary_key=True)
    seq = BigInt()
    attempt = Integer()
    kind = Text()
    item_key = Text(null=True)
    payload = Bytea()
    at = Timestamptz()


class Outbox(Table, tablename="outbox"):
    """Work on its way to the bus."""

    id = BigInt(primary_key=True)
    job_id = ForeignKey(Jobs, null=False)
    subject = Text()
    message_id = Text()
    message = Bytea()
    created_at = Timestamptz()
    sent_at = Timestamptz(null=True)
    traceparent = Text(null=True)


class UsageHours(Table, tablename="usage_hours"):
    """What a user consumed, by user and hour."""

    user_id = ForeignKey(Users, null=False, primary_key=True)
    hour = Timestamptz()
    requests = BigInt()
    items = BigInt()
    tokens = BigInt()
    bytes = BigInt()
    compute_s = DoublePrecision()


class LaneJobs(Table, tablename="lane_jobs"):
    """What the lanes of long work need to know of a job."""

    job_id = ForeignKey(Jobs, null=False, primary_key=True)
    user_id = ForeignKey(Users, null=False)
    lane = Text()
    pool = Text()
    priority = Integer()
    is_ready = Boolean()
    claimed_at = Timestamptz(null=True)
    last_number = Integer()


class Datasets(Table, tablename="datasets"):
    """Data sets, without their rows."""

    id = UUID(primary_key=True)
    user_id = ForeignKey(Users, null=False)
    name = Text()
    version = Integer()
    status = Text()
    job_id = ForeignKey(Jobs, null=True)
    file_id = UUID(null=True)
    sample = Text(null=True)
    source = Bytea()
    kind = Text(null=True)
    modality = Text(null=True)
    sha256 = Text(null=True)
    num_rows = BigInt(null=True)
    classes = Array(base_column=Text())
    class_counts = Array(base_column=BigInt())
    num_unlabelled = BigInt()
    facts = Bytea(null=True)
    num_issues = BigInt()
    created_at = Timestamptz()
    deleted_at = Timestamptz(null=True)
    object_key = Text(null=True)
    emptied_at = Timestamptz(null=True)


class TrainingJobs(Table, tablename="training_jobs"):
    """What only a training has."""

    job_id = ForeignKey(Jobs, null=False, primary_key=True)
    name = Text()
    trainer = Text()
    dataset_id = ForeignKey(Datasets, null=False)
    spec = Bytea()
    parent_id = UUID(null=True)
    step = Integer()
    total_steps = Integer()
    metrics = Bytea(null=True)
    eta_s = DoublePrecision(null=True)
    device = Text(null=True)
    checkpoint = Bytea(null=True)


class Models(Table, tablename="models"):
    """What trainings have made."""

    id = UUID(primary_key=True)
    user_id = ForeignKey(Users, null=False)
    job_id = ForeignKey(Jobs, null=False)
    name = Text()
    trainer = Text()
    modality = Text(null=True)
    dimension = Integer()
    sha256 = Text()
    generates = Text(null=True)
    metrics = Bytea()
    stored = Bytea()
    dataset_id = ForeignKey(Datasets, null=False)
    parent_id: ForeignKey["Models"] = ForeignKey("self", null=True)
    created_at = Timestamptz()
    deleted_at = Timestamptz(null=True)
    emptied_at = Timestamptz(null=True)


class Deployments(Table, tablename="deployments"):
    """Models that answer as pipelines."""

    id = UUID(primary_key=True)
    user_id = ForeignKey(Users, null=False)
    name = Text()
    version = Integer()
    model_id = ForeignKey(Models, null=False)
    deployed_at = Timestamptz()
    retired_at = Timestamptz(null=True)


class GenerationJobs(Table, tablename="generation_jobs"):
    """What only a generation has."""

    job_id = ForeignKey(Jobs, null=False, primary_key=True)
    model_id = ForeignKey(Models, null=False)
    spec = Bytea()
    file_ids = Array(base_column=UUID())
