-- A job that was deleted does not come back, however late its request is delivered once more.

CREATE TABLE deleted_jobs (
  id         VARCHAR(50) PRIMARY KEY,
  deleted_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX deleted_jobs_age ON deleted_jobs (deleted_at);

CREATE FUNCTION remember_deleted_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(OLD.id, 0));
  INSERT INTO deleted_jobs (id) VALUES (OLD.id) ON CONFLICT DO NOTHING;
  RETURN OLD;
END;
$$;
CREATE TRIGGER remember_deleted_job BEFORE DELETE ON download_jobs
FOR EACH ROW EXECUTE FUNCTION remember_deleted_job();

-- For whoever inserts it is as if the job were recorded already, as it is for a request that comes twice. The lock is for
-- one that comes while the job is being deleted: its insert would wait for the row to go, and go on then.
CREATE FUNCTION skip_deleted_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(NEW.id, 0));
  IF EXISTS (SELECT FROM deleted_jobs WHERE id = NEW.id) THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END;
$$;
CREATE TRIGGER skip_deleted_job BEFORE INSERT ON download_jobs FOR EACH ROW EXECUTE FUNCTION skip_deleted_job();

-- Jobs that were accepted while the broker was away (the gateway marks them so).
CREATE INDEX download_jobs_parked ON download_jobs (id) WHERE status = 'queued' AND checked_at = 'epoch';
