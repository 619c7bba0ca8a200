-- Folders of one priority take turns: what is due is looked up folder by folder.

DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (state, folder, priority DESC, available_at, id)
  WHERE state IN ('available', 'in_doubt', 'staged');
