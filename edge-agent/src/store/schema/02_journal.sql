-- The ingest journal: every reading that was taken in, in that order. A message is acknowledged when its rows are on the
-- disk. `seq` rises without end and is shared with `quarantine`, so that every message has its place in one order.
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    feed    TEXT    NOT NULL,
    device  TEXT    NOT NULL,
    channel TEXT    NOT NULL,
    value   REAL    NOT NULL,
    unit    TEXT,
    at      INTEGER NOT NULL,          -- event time, microseconds since 1970 UTC
    key     INTEGER                    -- knows a redelivered message; NULL in its second and further readings
) STRICT;

-- What a message said, for feeds whose messages become events; gone once the event is delivered.
CREATE TABLE journal_payload (
    seq   INTEGER PRIMARY KEY,         -- of the message's first reading
    topic TEXT NOT NULL,
    data  BLOB NOT NULL                -- JSON
) STRICT;

-- Messages that did not fit their feed. Bounded in number and bytes: the oldest go first and are counted.
CREATE TABLE quarantine (
    seq      INTEGER PRIMARY KEY,
    feed     TEXT    NOT NULL,
    topic    TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    received INTEGER NOT NULL,
    key      INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,         -- the payload's length; `payload` may hold less
    payload  BLOB    NOT NULL
) STRICT;

-- Messages by what became of them: received = journalled + quarantined + duplicate.
CREATE TABLE feed_totals (
    feed        TEXT PRIMARY KEY,
    received    INTEGER NOT NULL DEFAULT 0,
    journalled  INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    duplicate   INTEGER NOT NULL DEFAULT 0,
    dropped     INTEGER NOT NULL DEFAULT 0,   -- of the quarantined: no longer kept
    shed        INTEGER NOT NULL DEFAULT 0,   -- QoS 0 messages for which there was no room
    readings    INTEGER NOT NULL DEFAULT 0,
    late        INTEGER NOT NULL DEFAULT 0,   -- readings too old for their window, or too far ahead
    unwatched   INTEGER NOT NULL DEFAULT 0    -- readings of series beyond the limit
) STRICT;

-- How far the journal was written and how far the pipeline has come.
CREATE TABLE journal_state (
    id               INTEGER PRIMARY KEY CHECK (id = 0),
    last             INTEGER NOT NULL,        -- the highest seq that was given
    position         INTEGER NOT NULL,        -- the pipeline has taken all up to here; `series` is of this moment
    quarantine_rows  INTEGER NOT NULL,
    quarantine_bytes INTEGER NOT NULL
) STRICT;
INSERT INTO journal_state VALUES (0, 0, 0, 0, 0);

-- Windows and detectors of each series at `journal_state.position`.
CREATE TABLE series (
    feed    TEXT NOT NULL,
    device  TEXT NOT NULL,
    channel TEXT NOT NULL,
    window  TEXT NOT NULL,                    -- the window's configuration that `state` was made under
    state   BLOB NOT NULL,
    PRIMARY KEY (feed, device, channel)
) STRICT, WITHOUT ROWID;
