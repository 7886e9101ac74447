-- Runs of runs, runs at rest, and what runs listen for.

ALTER TABLE run ADD COLUMN parent TEXT;                        -- the run that runs this one
ALTER TABLE run ADD COLUMN parent_ask INTEGER;                 -- and the asking of it that this one answers
ALTER TABLE run ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;   -- how many runs stand above it
ALTER TABLE run ADD COLUMN wanted TEXT;                        -- `cancel`: somebody wants it to end, and it has not heard yet
ALTER TABLE run ADD COLUMN suspended_at INTEGER;               -- since when it rests because somebody wanted it to
CREATE INDEX run_parent ON run (parent, parent_ask) WHERE parent IS NOT NULL;
CREATE INDEX run_wanted ON run (wanted) WHERE wanted IS NOT NULL;

-- What runs listen for, as far as it can be told without an expression: who has an event finds its runs here.
CREATE TABLE listening (
    run       TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    kind      TEXT NOT NULL,           -- the type that the event must have; empty: any
    source    TEXT NOT NULL,           -- likewise
    correlate TEXT NOT NULL,           -- an expression over the event; empty: none
    expected  TEXT NOT NULL            -- what it must give, as canonical JSON
) STRICT;
CREATE INDEX listening_run ON listening (run);
CREATE INDEX listening_event ON listening (kind, correlate, expected);

-- Events for listening runs that they have not taken yet, and for whom.
CREATE TABLE arrived (
    seq   INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    label TEXT NOT NULL
) STRICT;
CREATE TABLE delivery (
    run TEXT    NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_seq ON delivery (seq);

-- What workflows that several events start together have of them so far.
CREATE TABLE gathering (
    workflow TEXT PRIMARY KEY,         -- namespace/name
    groups   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
