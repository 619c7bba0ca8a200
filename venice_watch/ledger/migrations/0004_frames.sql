-- Files with several frames: one job, whose frames are worked on one after another.

ALTER TABLE jobs ADD COLUMN frame INTEGER NOT NULL DEFAULT 0;        -- in work, from 0
ALTER TABLE jobs ADD COLUMN frames INTEGER NOT NULL DEFAULT 1;       -- of the file that are wanted
ALTER TABLE attempts ADD COLUMN frame INTEGER NOT NULL DEFAULT 0;    -- of its job, when it was sent

-- results in the outbox of frames before the one in work; the last one's is in the job itself
CREATE TABLE deliveries (
  job_id         INTEGER NOT NULL REFERENCES jobs (id),
  frame          INTEGER NOT NULL,
  work_key       BLOB    NOT NULL,
  spool_name     TEXT    NOT NULL,
  result_path    BLOB    NOT NULL,                                   -- absolute
  result_width   INTEGER NOT NULL,
  result_height  INTEGER NOT NULL,
  PRIMARY KEY (job_id, frame)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_work ON deliveries (work_key);
