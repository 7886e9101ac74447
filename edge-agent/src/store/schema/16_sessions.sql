-- Conversations that workflows keep, and what was said in them: the newest turns alone.
CREATE TABLE memory_session (
    name   TEXT PRIMARY KEY,
    spoken INTEGER NOT NULL            -- its last turn
) STRICT, WITHOUT ROWID;
CREATE INDEX memory_session_spoken ON memory_session (spoken);

CREATE TABLE memory_turn (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    session TEXT NOT NULL REFERENCES memory_session (name) ON DELETE CASCADE,
    key     TEXT NOT NULL UNIQUE,      -- of the effect that said it: it is said once
    role    TEXT NOT NULL,
    text    TEXT NOT NULL,
    label   TEXT NOT NULL              -- JSON: of the run that said it
) STRICT;
CREATE INDEX memory_turn_session ON memory_turn (session, seq);
