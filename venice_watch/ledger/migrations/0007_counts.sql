-- How many jobs stand where, kept in the same transactions: to ask must not take longer with every
-- image that was ever done.

CREATE TABLE counts (
  folder        TEXT    NOT NULL,
  state         TEXT    NOT NULL,
  code          TEXT    NOT NULL,                -- '': none
  put_away      INTEGER NOT NULL,                -- 1: the original lies where it was put
  jobs          INTEGER NOT NULL,
  frames_ahead  INTEGER NOT NULL,                -- behind the one in work of each
  PRIMARY KEY (folder, state, code, put_away)
) STRICT, WITHOUT ROWID;

INSERT INTO counts
  SELECT folder, state, ifnull(code, ''), original_path IS NOT NULL, count(*),
         sum(frames - frame - 1)
  FROM jobs GROUP BY 1, 2, 3, 4;

CREATE TRIGGER counts_come AFTER INSERT ON jobs BEGIN
  INSERT INTO counts VALUES (
    NEW.folder, NEW.state, ifnull(NEW.code, ''), NEW.original_path IS NOT NULL, 1,
    NEW.frames - NEW.frame - 1
  ) ON CONFLICT DO UPDATE SET
    jobs = jobs + 1, frames_ahead = frames_ahead + excluded.frames_ahead;
END;

CREATE TRIGGER counts_go AFTER DELETE ON jobs BEGIN
  UPDATE counts
  SET jobs = jobs - 1, frames_ahead = frames_ahead - (OLD.frames - OLD.frame - 1)
  WHERE folder = OLD.folder AND state = OLD.state AND code = ifnull(OLD.code, '')
    AND put_away = (OLD.original_path IS NOT NULL);
END;

CREATE TRIGGER counts_change
AFTER UPDATE OF folder, state, code, original_path, frame, frames ON jobs
WHEN OLD.folder IS NOT NEW.folder OR OLD.state IS NOT NEW.state OR OLD.code IS NOT NEW.code
  OR (OLD.original_path IS NULL) IS NOT (NEW.original_path IS NULL)
  OR OLD.frames - OLD.frame IS NOT NEW.frames - NEW.frame
BEGIN
  UPDATE counts
  SET jobs = jobs - 1, frames_ahead = frames_ahead - (OLD.frames - OLD.frame - 1)
  WHERE folder = OLD.folder AND state = OLD.state AND code = ifnull(OLD.code, '')
    AND put_away = (OLD.original_path IS NOT NULL);
  INSERT INTO counts VALUES (
    NEW.folder, NEW.state, ifnull(NEW.code, ''), NEW.original_path IS NOT NULL, 1,
    NEW.frames - NEW.frame - 1
  ) ON CONFLICT DO UPDATE SET
    jobs = jobs + 1, frames_ahead = frames_ahead + excluded.frames_ahead;
END;

-- the oldest that waits in a folder
CREATE INDEX jobs_waiting ON jobs (folder, created_at) WHERE state IN ('available', 'in_doubt');
