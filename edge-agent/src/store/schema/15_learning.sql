-- The series that detectors with a model watch: what they learn from, their models, and which of them judges.
CREATE TABLE learner (
    id       INTEGER PRIMARY KEY,
    feed     TEXT NOT NULL,
    device   TEXT NOT NULL,
    channel  TEXT NOT NULL,
    detector TEXT NOT NULL,
    rule     TEXT NOT NULL,           -- JSON: what the detector looks at and what it promises
    label    TEXT NOT NULL,           -- JSON: of the feed
    chosen   INTEGER,                 -- the version that judges from the pipeline's next checkpoint on
    before   INTEGER,                 -- the one that did before it
    choice   TEXT,                    -- the effect that chose: asked again, it changes nothing
    UNIQUE (feed, device, channel, detector)
) STRICT;

-- Means of each step. Bounded: the newest of each series.
CREATE TABLE history (
    learner INTEGER NOT NULL REFERENCES learner (id) ON DELETE CASCADE,
    at      INTEGER NOT NULL,         -- steps since 1970
    value   REAL NOT NULL,
    PRIMARY KEY (learner, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE detector_model (
    learner    INTEGER NOT NULL REFERENCES learner (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    digest     TEXT NOT NULL,         -- of `weights`
    weights    BLOB NOT NULL,         -- a safetensors file
    told       TEXT NOT NULL,         -- JSON: what `train` said of it, with its report
    key        TEXT NOT NULL,         -- the effect that made it: asked again, it makes no other
    trained_at INTEGER NOT NULL,      -- microseconds since 1970
    PRIMARY KEY (learner, version),
    UNIQUE (learner, key)
) STRICT;
