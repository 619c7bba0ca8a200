-- What a person lets wait, over restarts too.

CREATE TABLE pauses (
  folder  TEXT PRIMARY KEY,                      -- '': every folder, whatever it is called
  by      TEXT NOT NULL,                         -- the user who said so
  since   REAL NOT NULL
) STRICT, WITHOUT ROWID;
