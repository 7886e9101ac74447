-- Workflows, runs, what they ask and wait for. Times are microseconds since 1970 UTC; JSON is text.

-- Every version of a workflow that a run was pinned to or may be started from, by the digest of its text.
CREATE TABLE workflow (
    digest TEXT PRIMARY KEY,
    name   TEXT NOT NULL,              -- namespace/name
    text   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
    id         TEXT PRIMARY KEY,       -- ULID: sorts by the time of what triggered it
    workflow   TEXT NOT NULL,          -- namespace/name
    version    TEXT NOT NULL,
    definition TEXT NOT NULL REFERENCES workflow (digest),
    bundle     TEXT NOT NULL,          -- digest
    trigger    TEXT NOT NULL,          -- what started it: `event <source> <id>`, `schedule <instant>`, `by hand`
    subject    TEXT,                   -- what it is about: the event's subject
    input      TEXT NOT NULL,          -- raw
    label      TEXT NOT NULL,          -- of the input until the run has begun; then of all that flowed in
    status     TEXT NOT NULL CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'faulted', 'cancelled')),
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    ended_at   INTEGER,
    wake_at    INTEGER,                -- when the run must be looked at again, whatever happens meanwhile
    steps      INTEGER NOT NULL DEFAULT 0,
    task       TEXT,                   -- the place of the task that it stands at
    note       TEXT,                   -- what it waits for or died of, in one sentence
    output     TEXT,
    error      TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX run_open ON run (status, id) WHERE status IN ('pending', 'running', 'waiting');
CREATE INDEX run_changed ON run (changed_at);
CREATE INDEX run_ended ON run (ended_at) WHERE ended_at IS NOT NULL;

-- What a run remembers: the records of each step, in order. The run's state is their fold.
CREATE TABLE run_step (
    run     TEXT    NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    records TEXT    NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- Effects that were asked and have no recorded outcome. What is asked stands in the run's records.
CREATE TABLE outbox (
    run          TEXT    NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    ask          INTEGER NOT NULL,
    key          TEXT    NOT NULL,     -- the same whenever this effect is asked again
    function     TEXT    NOT NULL,
    asked_at     INTEGER NOT NULL,
    ask_again_at INTEGER,              -- parked until then
    PRIMARY KEY (run, ask)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_parked ON outbox (ask_again_at) WHERE ask_again_at IS NOT NULL;

CREATE TABLE approval (
    id           TEXT PRIMARY KEY,
    run          TEXT    NOT NULL,
    ask          INTEGER NOT NULL,
    task         TEXT    NOT NULL,
    workflow     TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    title        TEXT    NOT NULL,
    shown        TEXT    NOT NULL,     -- canonical JSON: exactly the bytes that a person sees and the digest is over
    digest       TEXT    NOT NULL,
    label        TEXT    NOT NULL,
    requested_at INTEGER NOT NULL,
    deadline     INTEGER,
    status       TEXT    NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'expired')),
    by           TEXT,
    place        TEXT,
    comment      TEXT,
    decided_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX approval_pending ON approval (requested_at) WHERE status = 'pending';
CREATE INDEX approval_run ON approval (run);

-- When each scheduled workflow starts next.
CREATE TABLE schedule (
    workflow TEXT PRIMARY KEY,         -- namespace/name
    rule     TEXT NOT NULL,            -- the cron expression or interval that `next_at` was computed from
    next_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Findings that came in, each once.
CREATE TABLE finding (
    source  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    at      INTEGER NOT NULL,          -- when it was taken
    event   TEXT    NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX finding_at ON finding (at);

-- Events that runs emitted and that have not been handed to the workflows that wait for them.
CREATE TABLE emitted (
    seq   INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    label TEXT NOT NULL
) STRICT;
