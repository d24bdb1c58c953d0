-- What is open is counted for each new job, and what is over is looked for by the sweep.
CREATE INDEX jobs_open_user_idx ON jobs (user_id) WHERE state IN ('QUEUED', 'RUNNING', 'CANCELLING');
CREATE INDEX jobs_finished_idx ON jobs (finished_at, id) WHERE finished_at IS NOT NULL;
CREATE INDEX files_deleted_idx ON files (deleted_at) WHERE deleted_at IS NOT NULL;
