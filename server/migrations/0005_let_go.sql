-- Attempts whose worker lived to say that it has stopped. All others before the current one were lost with
-- their process, perhaps because of the job.
ALTER TABLE jobs ADD COLUMN let_go integer[] NOT NULL DEFAULT '{}';
