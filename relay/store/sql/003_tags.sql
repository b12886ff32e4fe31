-- A JSON array of texts.
ALTER TABLE keys ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
