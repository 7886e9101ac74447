-- Documents: what was read from a bundle, cut into chunks that can be found by word and by meaning.
CREATE TABLE memory_document (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    idx      TEXT NOT NULL,            -- the index: the top folder under documents/
    path     TEXT NOT NULL,            -- relative to that folder, with /
    digest   BLOB NOT NULL,            -- SHA-256 of the file's bytes
    label    TEXT NOT NULL,            -- JSON
    embedder BLOB NOT NULL,            -- SHA-256 of the weights that made the vectors
    UNIQUE (idx, path)
) STRICT;

CREATE TABLE memory_chunk (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,  -- also the id in the vector index, so never used twice
    document INTEGER NOT NULL REFERENCES memory_document (id) ON DELETE CASCADE,
    place    TEXT NOT NULL,            -- headings, or lines
    text     TEXT NOT NULL,
    vector   BLOB NOT NULL             -- f32, little endian, length 1
) STRICT;
CREATE INDEX memory_chunk_document ON memory_chunk (document);

-- Full text over the chunks, without a second copy of them. The stemmer is for English and leaves other words alone.
CREATE VIRTUAL TABLE memory_text USING fts5 (
    text, place, content = 'memory_chunk', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER memory_chunk_inserted AFTER INSERT ON memory_chunk BEGIN
    INSERT INTO memory_text (rowid, text, place) VALUES (new.id, new.text, new.place);
END;
CREATE TRIGGER memory_chunk_deleted AFTER DELETE ON memory_chunk BEGIN
    INSERT INTO memory_text (memory_text, rowid, text, place) VALUES ('delete', old.id, old.text, old.place);
END;
