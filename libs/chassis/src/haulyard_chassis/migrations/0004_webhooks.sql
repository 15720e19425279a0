-- Secrets of users with which their webhooks are signed, and receivers that do not answer.

-- At most two of a user's are valid at a time: the current one, and the one before it until it expires.
CREATE TABLE webhook_secrets (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id    VARCHAR(255) NOT NULL,
  secret     VARCHAR(100) NOT NULL CHECK (secret LIKE 'whsec\_%'),
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  expires_at TIMESTAMPTZ                            -- NULL: the current one
);
CREATE UNIQUE INDEX webhook_secrets_current ON webhook_secrets (user_id) WHERE expires_at IS NULL;
CREATE INDEX webhook_secrets_of_user ON webhook_secrets (user_id);

ALTER TABLE webhook_deliveries
  ADD COLUMN user_id VARCHAR(255),                  -- NULL: written by a version before this; the job says it
  ADD COLUMN host VARCHAR(300) NOT NULL
    GENERATED ALWAYS AS (left(coalesce(lower(substring(url FROM '://([^/?#]*)')), ''), 300)) STORED,
  ADD COLUMN attempts_before INTEGER NOT NULL DEFAULT 0, -- those made before it was last asked to be delivered again
  ADD COLUMN attempted_at TIMESTAMPTZ,
  ADD COLUMN delivered_at TIMESTAMPTZ;
UPDATE webhook_deliveries delivery SET user_id = job.user_id FROM download_jobs job WHERE job.id = delivery.job_id;

-- Hosts that failed when they were last called for a user; one that answers again goes from here. For each user, because
-- many may have URLs at one host, and the bad one of one user must not keep the others' from being called.
CREATE TABLE webhook_hosts (
  user_id    VARCHAR(255) NOT NULL,
  host       VARCHAR(300) NOT NULL,                 -- with the port, if the URL has one
  failures   INTEGER NOT NULL CHECK (failures > 0), -- one after the other
  open_until TIMESTAMPTZ,                           -- until then it is not called at all
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, host)
);
