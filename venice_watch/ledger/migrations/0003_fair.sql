-- Whose turn it is, and what counts against the rate.

-- folders of one priority take turns: what is due is looked up folder by folder.

DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (state, folder, priority DESC, available_at, id)
  WHERE state IN ('available', 'in_doubt', 'staged');

-- free questions that the API counts against the rate, like any request
CREATE TABLE questions (
  asked_at  REAL NOT NULL
) STRICT;
CREATE INDEX questions_asked ON questions (asked_at);
