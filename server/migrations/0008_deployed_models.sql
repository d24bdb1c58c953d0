-- What an embedding job was given when it was created, and keeps: the deployed model, the data set whose rows
-- it embeds, and the pool that works on it. All null for jobs of public pipelines of earlier releases.
ALTER TABLE embedding_jobs
    ADD COLUMN model bytea,
    ADD COLUMN model_id uuid,
    ADD COLUMN dataset_id uuid,
    ADD COLUMN pool text;

-- The object of the upload that a data set is made of, which stays as long as this says so; and when the objects
-- of what was deleted have gone, too.
ALTER TABLE datasets
    ADD COLUMN object_key text,
    ADD COLUMN emptied_at timestamptz;
CREATE INDEX datasets_object_key_idx ON datasets (object_key) WHERE object_key IS NOT NULL;
CREATE INDEX datasets_to_empty_idx ON datasets (id) WHERE deleted_at IS NOT NULL AND emptied_at IS NULL;

ALTER TABLE models
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN emptied_at timestamptz;
CREATE INDEX models_to_empty_idx ON models (id) WHERE deleted_at IS NOT NULL AND emptied_at IS NULL;

-- A model answers under one name at a time.
CREATE UNIQUE INDEX deployments_live_model_key ON deployments (model_id) WHERE retired_at IS NULL;
