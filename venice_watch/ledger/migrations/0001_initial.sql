-- Jobs: one version of one file each. Attempts: one request that may cost money each.
-- Paths are bytes: file names need not be UTF-8. Money is in millionths of a US dollar.

CREATE TABLE jobs (
  id             INTEGER PRIMARY KEY,
  folder         TEXT    NOT NULL,
  path           BLOB    NOT NULL,               -- relative to the inbox
  state          TEXT    NOT NULL,
  generation     INTEGER NOT NULL DEFAULT 0,     -- +1 with every step: the fencing token
  priority       INTEGER NOT NULL DEFAULT 0,
  available_at   REAL    NOT NULL,               -- not before; 9e12 while a staged one is in hand
  attempts       INTEGER NOT NULL DEFAULT 0,     -- those that count
  device         INTEGER NOT NULL,
  inode          INTEGER NOT NULL,
  size_bytes     INTEGER NOT NULL,
  mtime_ns       INTEGER NOT NULL,
  ctime_ns       INTEGER NOT NULL,
  incomplete     INTEGER NOT NULL DEFAULT 0,     -- its end never came
  present        INTEGER NOT NULL DEFAULT 1,     -- the file is in the inbox, as far as we know
  retire         TEXT,                           -- what becomes of the original
  rules_digest   TEXT,                           -- of the rules by which it was skipped
  preset         TEXT,
  parameters     TEXT,
  source_sha256  BLOB,
  work_key       BLOB,
  code           TEXT,
  message        TEXT,
  spool_name     TEXT,
  result_path    BLOB,                           -- absolute: its name in the outbox
  result_width   INTEGER,
  result_height  INTEGER,
  result_scale   REAL,                           -- what it really came to
  original_path  BLOB,                           -- absolute: archive or quarantine
  created_at     REAL    NOT NULL,
  updated_at     REAL    NOT NULL
) STRICT;

-- one job on its way for a path; the next version waits until it has ended
CREATE UNIQUE INDEX jobs_active ON jobs (folder, path)
  WHERE state IN ('available', 'executing', 'in_doubt', 'staged');
CREATE INDEX jobs_due ON jobs (priority DESC, available_at, id)
  WHERE state IN ('available', 'in_doubt', 'staged');
CREATE INDEX jobs_present ON jobs (folder) WHERE present = 1;
CREATE INDEX jobs_staged_result ON jobs (result_path) WHERE state = 'staged';
CREATE INDEX jobs_quarantined ON jobs (source_sha256)
  WHERE state = 'discarded' AND original_path IS NOT NULL;
CREATE INDEX jobs_updated ON jobs (updated_at);

CREATE TABLE attempts (
  id          INTEGER PRIMARY KEY,
  job_id      INTEGER NOT NULL REFERENCES jobs (id),
  work_key    BLOB    NOT NULL,
  folder      TEXT    NOT NULL,
  preset      TEXT    NOT NULL,
  started_at  REAL    NOT NULL,                  -- durable before the first byte leaves
  ended_at    REAL,
  charge      TEXT    NOT NULL,                  -- reserved, none, charged, unknown, lost
  microusd    INTEGER NOT NULL,                  -- reserved, then what it came to
  outcome     TEXT,
  status      INTEGER,
  request_id  TEXT,
  message     TEXT
) STRICT;

CREATE INDEX attempts_job ON attempts (job_id);
CREATE INDEX attempts_started ON attempts (started_at);
CREATE INDEX attempts_open ON attempts (id) WHERE ended_at IS NULL;
CREATE INDEX attempts_doubts ON attempts (work_key) WHERE charge IN ('unknown', 'lost');
