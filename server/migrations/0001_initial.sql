-- Accounts.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Addresses are compared without case; they are stored as their owner typed them.
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_digest bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    ip_address text,
    user_agent text,
    device_name text
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id, id) WHERE ended_at IS NULL;

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name text NOT NULL,
    prefix text NOT NULL,
    secret_digest bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_keys_user_id_idx ON api_keys (user_id, id);

-- Uploads. The bytes lie in the object store under object_key, which is made of their digest.
CREATE TABLE files (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name text NOT NULL,
    media_type text NOT NULL,
    modality text,
    confidence double precision NOT NULL,
    reason text NOT NULL,
    byte_size bigint NOT NULL,
    sha256 text NOT NULL,
    object_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX files_user_id_idx ON files (user_id, id) WHERE deleted_at IS NULL;

-- Every pipeline ever announced, so that old jobs still resolve.
CREATE TABLE pipelines (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    version text NOT NULL,
    modality text NOT NULL,
    dimension integer NOT NULL,
    pool text NOT NULL,
    max_tokens integer,
    auto_rank integer,
    description text NOT NULL DEFAULT '',
    first_seen_at timestamptz NOT NULL DEFAULT now()
);

-- What every job has, whatever its kind. Claims, events and the outbox know only this table.
CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind text NOT NULL,
    state text NOT NULL,
    -- How often the job was claimed; the fence for everything a worker reports.
    attempt integer NOT NULL DEFAULT 0,
    worker_id text,
    heartbeat_at timestamptz,
    -- How often the job was put on the bus; half of its message id.
    publish_number integer NOT NULL DEFAULT 1,
    -- The sequence number of the newest row in job_events, given out under this row's lock.
    last_seq bigint NOT NULL DEFAULT 0,
    idempotency_key text,
    -- What the key was first used for, to tell a repeat from a mistake.
    request_digest bytea,
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE UNIQUE INDEX jobs_idempotency_key ON jobs (user_id, kind, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_user_id_idx ON jobs (user_id, kind, id);
CREATE INDEX jobs_open_idx ON jobs (heartbeat_at) WHERE state IN ('QUEUED', 'RUNNING', 'CANCELLING');

CREATE TABLE embedding_jobs (
    job_id uuid PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    pipeline_name text NOT NULL,
    inputs_key text NOT NULL,
    item_count integer NOT NULL,
    chunk_size integer NOT NULL,
    completed_count integer NOT NULL DEFAULT 0,
    failed_count integer NOT NULL DEFAULT 0,
    dimension integer
);

-- The history of a job: written by the projection (and by the transaction that creates the job) alone.
CREATE TABLE job_events (
    job_id uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq bigint NOT NULL,
    attempt integer NOT NULL,
    kind text NOT NULL,
    -- What may happen only once in the life of the job, e.g. 'chunk:7'; null where repeats are fine.
    item_key text,
    payload bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, seq)
);
CREATE UNIQUE INDEX job_events_item_key ON job_events (job_id, item_key) WHERE item_key IS NOT NULL;

-- Work on its way to the bus, written in the transaction that creates it.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    subject text NOT NULL,
    message_id text NOT NULL UNIQUE,
    message bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz
);
CREATE INDEX outbox_unsent_idx ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_job_id_idx ON outbox (job_id);

CREATE TABLE usage_hours (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hour timestamptz NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    items bigint NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    compute_s double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, hour)
);
