-- Which question the current attempt answers: the same one asked again, for want of an answer in time, gets the
-- same attempt.
ALTER TABLE jobs ADD COLUMN claim_id text;
