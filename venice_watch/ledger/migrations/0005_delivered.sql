-- What a result is finished with after a restart, and what was really put into the outbox.

ALTER TABLE jobs ADD COLUMN source_kind   TEXT;      -- the original's format
ALTER TABLE jobs ADD COLUMN source_width  INTEGER;   -- pixels, upright
ALTER TABLE jobs ADD COLUMN source_height INTEGER;
ALTER TABLE jobs ADD COLUMN sent_width    INTEGER;   -- what was sent of it
ALTER TABLE jobs ADD COLUMN sent_height   INTEGER;

-- of the delivered file, where it is not the result with a block of metadata in it
ALTER TABLE jobs ADD COLUMN delivered_sha256     BLOB;
ALTER TABLE jobs ADD COLUMN delivered_size_bytes INTEGER;
ALTER TABLE deliveries ADD COLUMN delivered_sha256     BLOB;
ALTER TABLE deliveries ADD COLUMN delivered_size_bytes INTEGER;
