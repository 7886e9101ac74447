-- Records that workflows keep: rows of JSON in collections, each under a key of its own.
CREATE TABLE record (
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    row        TEXT NOT NULL,            -- JSON, an object
    label      TEXT NOT NULL,            -- JSON: of the run that wrote it
    written_at INTEGER NOT NULL,         -- microseconds since 1970
    PRIMARY KEY (collection, key)
) STRICT, WITHOUT ROWID;
