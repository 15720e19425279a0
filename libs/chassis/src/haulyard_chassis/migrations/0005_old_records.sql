-- What is asked every few seconds, or for each page of a list, takes as long with 100,000 finished jobs as with none.

-- Jobs under way, the oldest first: those that take longer than a job may.
CREATE INDEX download_jobs_overdue ON download_jobs (created_at) WHERE status IN ('queued', 'processing');
-- Jobs under way by when they last moved or were last looked at. It takes the place of idx_status, which a later release
-- removes.
CREATE INDEX download_jobs_stale ON download_jobs ((greatest(checked_at, updated_at)))
  WHERE status IN ('queued', 'processing');

-- Pages of a user's jobs of one status.
CREATE INDEX download_jobs_of_user_by_status ON download_jobs (user_id, status, created_at DESC, id DESC);
-- download_jobs_of_user is in its place since migration 3; the version before this one does without it, too.
DROP INDEX idx_user_id;
