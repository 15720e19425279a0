-- Copying inside the store, preparations, compression, other sources, and archives that several jobs share.

-- A file's source is an object in the store, or what an origin serves under a URL.
ALTER TABLE files
  ALTER COLUMN bucket DROP NOT NULL,
  ALTER COLUMN key DROP NOT NULL,
  ADD COLUMN url TEXT,
  ADD COLUMN modified_at TIMESTAMPTZ,               -- of the object, as the store says; the entry's date in archives
  ADD CHECK ((url IS NULL) = (bucket IS NOT NULL)),
  ADD CHECK ((bucket IS NULL) = (key IS NULL));

-- A finished archive in the store. Jobs that ask for the same entries share one; it goes when the last of them goes.
CREATE TABLE archives (
  id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  digest      VARCHAR(64),                          -- SHA-256 over entries and options: equal digests, equal bytes
  bucket      VARCHAR(63) NOT NULL,
  key         VARCHAR(1024) NOT NULL,
  size_bytes  BIGINT NOT NULL,
  created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
  expires_at  TIMESTAMPTZ NOT NULL
);
CREATE INDEX archives_digest ON archives (digest, expires_at) WHERE digest IS NOT NULL;
CREATE INDEX archives_expire ON archives (expires_at);
CREATE INDEX archives_key ON archives (key);

ALTER TABLE download_jobs
  ADD COLUMN compression VARCHAR(10) NOT NULL DEFAULT 'store' CHECK (compression IN ('store', 'deflate')),
  ADD COLUMN on_missing VARCHAR(10) NOT NULL DEFAULT 'skip' CHECK (on_missing IN ('skip', 'fail')),
  ADD COLUMN retry_of VARCHAR(50),
  ADD COLUMN archive_id BIGINT REFERENCES archives (id) ON DELETE SET NULL,
  ADD COLUMN digest VARCHAR(64),                    -- of the archive that it is building or has
  ADD COLUMN follows VARCHAR(50),                   -- the job that builds the same archive; this one waits for it
  ADD COLUMN archive_crc32 BOOLEAN NOT NULL DEFAULT false, -- the upload was created with CRC-32
  ADD COLUMN missing_text BYTEA,                    -- MISSING-FILES.txt, the last entry, if there is one
  ADD COLUMN missing_name VARCHAR(1024),
  ADD COLUMN missing_mtime BIGINT,
  ADD COLUMN preparing_at TIMESTAMPTZ,              -- when its preparations were sent, if it needs any
  ADD COLUMN prepared_at TIMESTAMPTZ,               -- when all that had to be known before was known
  ADD COLUMN planned_at TIMESTAMPTZ,                -- when the archive was laid out
  ADD COLUMN built_at TIMESTAMPTZ,                  -- when the last part was in the store
  ADD COLUMN staged BOOLEAN NOT NULL DEFAULT false, -- there may be staging objects of it
  ADD COLUMN bytes_copied BIGINT NOT NULL DEFAULT 0,
  ADD COLUMN bytes_through BIGINT NOT NULL DEFAULT 0;
CREATE INDEX download_jobs_archive_key ON download_jobs (archive_key) WHERE status IN ('queued', 'processing');
CREATE INDEX download_jobs_archive ON download_jobs (archive_id) WHERE archive_id IS NOT NULL;
CREATE INDEX download_jobs_running ON download_jobs (user_id) WHERE status = 'processing';
CREATE INDEX download_jobs_followers ON download_jobs (follows) WHERE follows IS NOT NULL;
-- One job at a time builds an archive; others with the same digest follow it.
CREATE UNIQUE INDEX download_jobs_builder ON download_jobs (digest)
  WHERE digest IS NOT NULL AND follows IS NULL AND status = 'processing';
CREATE INDEX download_jobs_expire ON download_jobs (expires_at) WHERE status IN ('completed', 'failed', 'cancelled');
CREATE INDEX download_jobs_expired ON download_jobs (expires_at) WHERE status = 'expired';

ALTER TABLE download_job_files
  ADD COLUMN mtime BIGINT,                          -- Unix seconds, as in the entry's headers
  ADD COLUMN packed_bytes BIGINT,                   -- of its deflated data; NULL: it is stored as it is
  ADD COLUMN source BYTEA,                          -- where the entry's data is read from, as in tasks
  ADD COLUMN prepared BOOLEAN NOT NULL DEFAULT false, -- its preparations are done, for the version in etag
  ADD COLUMN confirmed BOOLEAN NOT NULL DEFAULT true; -- the source was looked at; false: the catalogue was believed

-- Preparations are tasks like parts: sent, counted, tried again alike.
ALTER TABLE download_job_parts
  ADD COLUMN phase VARCHAR(10) NOT NULL DEFAULT 'build' CHECK (phase IN ('prepare', 'build')),
  ADD COLUMN result BYTEA,                          -- of a preparation
  ADD COLUMN checksum BIGINT,                       -- of the part, where the upload was created with CRC-32
  ADD COLUMN bytes_copied BIGINT,
  DROP CONSTRAINT download_job_parts_status_check,  -- ready: could be sent, but its user has enough under way
  ADD CHECK (status IN ('waiting', 'ready', 'queued', 'retrying', 'done')),
  DROP CONSTRAINT download_job_parts_pkey,
  ADD PRIMARY KEY (job_id, phase, number),
  DROP CONSTRAINT download_job_parts_size_bytes_check,
  ADD CHECK (phase = 'prepare' OR size_bytes > 0);
