-- Files and folders of this machine that were added and are followed.
CREATE TABLE memory_followed (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    idx     TEXT NOT NULL,
    source  TEXT NOT NULL,
    path    TEXT NOT NULL,             -- from the root
    subject TEXT,
    label   TEXT NOT NULL,             -- JSON
    UNIQUE (idx, path)
) STRICT;

-- What is known of each file, so that one that did not change is not read.
CREATE TABLE memory_file (
    followed INTEGER NOT NULL REFERENCES memory_followed (id) ON DELETE CASCADE,
    id       TEXT NOT NULL,            -- that its text is kept under
    changed  INTEGER NOT NULL,         -- nanoseconds since 1970
    bytes    INTEGER NOT NULL,
    device   INTEGER NOT NULL,         -- that it lay on
    digest   BLOB NOT NULL,            -- SHA-256 of its bytes
    missed   INTEGER NOT NULL DEFAULT 0,
    dropped  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (followed, id)
) STRICT, WITHOUT ROWID;
