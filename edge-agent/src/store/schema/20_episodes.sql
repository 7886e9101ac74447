-- Episodes: what happened in past runs, as examples for others. One is a kept text that says what the situation was
-- (`memory_document.remembered` is 2), and this.
CREATE TABLE memory_episode (
    document INTEGER PRIMARY KEY REFERENCES memory_document (id) ON DELETE CASCADE,
    outcome  TEXT NOT NULL,
    details  TEXT NOT NULL             -- JSON, an object
) STRICT;

-- A full index is counted by what is kept: episodes and texts take no room from each other.
DROP INDEX memory_document_kept;
CREATE INDEX memory_document_kept ON memory_document (idx, remembered, bytes) WHERE remembered;

-- Runs that have ended and of which an episode is to be kept.
CREATE TABLE episode_due (
    run   TEXT PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    tries INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
