-- Work that one worker does alone, in the train or the data lane: what the lanes need to know of a job.
CREATE TABLE lane_jobs (
    job_id uuid PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    lane text NOT NULL,
    pool text NOT NULL,
    -- Orders the jobs of one user; users are ordered by what they have had.
    priority integer NOT NULL DEFAULT 0,
    -- False while the job waits for its data set.
    is_ready boolean NOT NULL DEFAULT true,
    -- When a worker last got it.
    claimed_at timestamptz,
    -- The number of the newest report of the current attempt that is counted.
    last_number integer NOT NULL DEFAULT 0
);
CREATE INDEX lane_jobs_user_idx ON lane_jobs (lane, pool, user_id, claimed_at);

-- Data sets. The rows, ready for training, lie in the object store under datasets/<id>.
CREATE TABLE datasets (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name text NOT NULL,
    -- Counts the data sets of one name and user from 1.
    version integer NOT NULL,
    status text NOT NULL,
    -- Who looks at its rows; null once that job has gone.
    job_id uuid REFERENCES jobs (id) ON DELETE SET NULL,
    -- Where it comes from: an upload, or the name of a sample.
    file_id uuid,
    sample text,
    source bytea NOT NULL,
    -- What was found in it; all null or empty while it is being looked at.
    kind text,
    modality text,
    sha256 text,
    num_rows bigint,
    classes text[] NOT NULL DEFAULT '{}',
    class_counts bigint[] NOT NULL DEFAULT '{}',
    num_unlabelled bigint NOT NULL DEFAULT 0,
    facts bytea,
    num_issues bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (user_id, name, version)
);
CREATE INDEX datasets_user_id_idx ON datasets (user_id, id) WHERE deleted_at IS NULL;
CREATE INDEX datasets_job_id_idx ON datasets (job_id);

CREATE TABLE training_jobs (
    job_id uuid PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    name text NOT NULL,
    trainer text NOT NULL,
    dataset_id uuid NOT NULL REFERENCES datasets (id),
    spec bytea NOT NULL,
    -- The model whose weights it begins with.
    parent_id uuid,
    step integer NOT NULL DEFAULT 0,
    total_steps integer NOT NULL DEFAULT 0,
    metrics bytea,
    eta_s double precision,
    device text,
    -- Where the next attempt goes on.
    checkpoint bytea
);
CREATE INDEX training_jobs_dataset_id_idx ON training_jobs (dataset_id);

-- What trainings have made. A model stays when its job's history has gone.
CREATE TABLE models (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    job_id uuid NOT NULL REFERENCES jobs (id),
    name text NOT NULL,
    trainer text NOT NULL,
    modality text,
    dimension integer NOT NULL,
    sha256 text NOT NULL,
    generates text,
    metrics bytea NOT NULL,
    stored bytea NOT NULL,
    dataset_id uuid NOT NULL REFERENCES datasets (id),
    parent_id uuid REFERENCES models (id),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX models_user_id_idx ON models (user_id, id);
CREATE INDEX models_job_id_idx ON models (job_id);

-- Models that answer as pipelines: model/<name>, to their owner alone.
CREATE TABLE deployments (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name text NOT NULL,
    -- Counts what was ever deployed under the name.
    version integer NOT NULL,
    model_id uuid NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    deployed_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    UNIQUE (user_id, name)
);
CREATE INDEX deployments_user_id_idx ON deployments (user_id, id);
CREATE INDEX deployments_model_id_idx ON deployments (model_id);

CREATE TABLE generation_jobs (
    job_id uuid PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    model_id uuid NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    spec bytea NOT NULL,
    -- The files it has made, as uploads of its owner.
    file_ids uuid[] NOT NULL DEFAULT '{}'
);
CREATE INDEX generation_jobs_model_id_idx ON generation_jobs (model_id);
