-- Budgets, results that serve for the same work again, and what a person has seen to.

ALTER TABLE attempts ADD COLUMN day TEXT NOT NULL DEFAULT '';          -- local, of started_at
ALTER TABLE attempts ADD COLUMN pardoned INTEGER NOT NULL DEFAULT 0;   -- a person lets it be resent
UPDATE attempts SET day = date(started_at, 'unixepoch', 'localtime');

-- sums over attempts, kept in the same transactions: a budget must be told within milliseconds
CREATE TABLE spending (
  day       TEXT    NOT NULL,
  folder    TEXT    NOT NULL,
  preset    TEXT    NOT NULL,
  charge    TEXT    NOT NULL,                    -- as in attempts
  requests  INTEGER NOT NULL,
  microusd  INTEGER NOT NULL,
  PRIMARY KEY (day, folder, preset, charge)
) STRICT, WITHOUT ROWID;
INSERT INTO spending
  SELECT day, folder, preset, charge, count(*), sum(microusd) FROM attempts GROUP BY 1, 2, 3, 4;

-- paid results by the work they are of; the newest of a work comes first
CREATE TABLE results (
  spool_name  TEXT    PRIMARY KEY,
  work_key    BLOB    NOT NULL,
  sha256      BLOB    NOT NULL,
  size_bytes  INTEGER NOT NULL,
  kept        INTEGER NOT NULL,                  -- 1: its file is in the spool
  width       INTEGER NOT NULL,
  height      INTEGER NOT NULL,
  scale       REAL    NOT NULL,                  -- what it really came to
  used_at     REAL    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX results_work ON results (work_key);
CREATE INDEX results_kept ON results (used_at, size_bytes) WHERE kept = 1;

-- where a folder's file system was mounted when it was last used: an empty mount point is no folder
CREATE TABLE mounts (
  path         BLOB PRIMARY KEY,
  mount_point  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_work_open ON attempts (work_key) WHERE ended_at IS NULL;
CREATE INDEX jobs_spooled ON jobs (spool_name) WHERE state = 'staged';
CREATE INDEX jobs_work ON jobs (work_key) WHERE state = 'completed';
CREATE INDEX jobs_parked ON jobs (work_key) WHERE state = 'available' AND available_at = 8e12;
DROP INDEX jobs_present;
CREATE INDEX jobs_present ON jobs (folder, path) WHERE present = 1;
DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (state, priority DESC, available_at)
  WHERE state IN ('available', 'in_doubt', 'staged');
