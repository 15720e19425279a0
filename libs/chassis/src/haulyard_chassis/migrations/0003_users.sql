-- Lists of a user's jobs, and users who wish to be forgotten.

-- Pages of a user's jobs, the newest first. It takes the place of idx_user_id, which a later release removes.
CREATE INDEX download_jobs_of_user ON download_jobs (user_id, created_at DESC, id DESC);

-- Receipts. They say that somebody was forgotten, and not who: the hash has a key, and without it nobody is found by it.
CREATE TABLE erasures (
  id           VARCHAR(50) PRIMARY KEY,
  user_hash    VARCHAR(64) NOT NULL,                -- HMAC-SHA-256 of the user's id
  requested_at TIMESTAMPTZ NOT NULL,
  completed_at TIMESTAMPTZ,
  counts       JSONB NOT NULL DEFAULT '{}'          -- what was deleted: {"jobs": 3, "files": 2, …}
);
