-- A job that its user has deleted does not come back, however late its request is delivered once more.

CREATE TABLE deleted_jobs (
  id         VARCHAR(50) PRIMARY KEY,
  deleted_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX deleted_jobs_age ON deleted_jobs (deleted_at);

-- For whoever inserts it is as if the job were recorded already, as it is for a request that comes twice.
CREATE FUNCTION skip_deleted_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM deleted_jobs WHERE id = NEW.id) THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END;
$$;
CREATE TRIGGER skip_deleted_job BEFORE INSERT ON download_jobs FOR EACH ROW EXECUTE FUNCTION skip_deleted_job();
