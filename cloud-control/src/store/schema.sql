-- Everything that the control plane remembers but the bytes of blobs and its own keys, which are files.
-- Instants are microseconds since 1970 UTC; digests, keys and notes have their text form; JSON is text.

-- Who may use the console and the operator API. A secret has 256 random bits, so its SHA-256 needs no salt.
CREATE TABLE operators (
    name    TEXT PRIMARY KEY,
    secret  TEXT    NOT NULL UNIQUE,   -- sha256:..
    roles   TEXT    NOT NULL,          -- JSON array; "*" is every role
    created INTEGER NOT NULL
) STRICT;

-- What operators did, in order; never changed.
CREATE TABLE actions (
    id   INTEGER PRIMARY KEY,
    at   INTEGER NOT NULL,
    by   TEXT    NOT NULL,
    what TEXT    NOT NULL
) STRICT;

CREATE TABLE groups (
    name     TEXT PRIMARY KEY,
    desired  TEXT REFERENCES bundles (digest),
    rollback TEXT,                     -- note: the operator's word that nodes may go back to `desired`
    since    INTEGER                   -- when `desired` was set
) STRICT;

CREATE TABLE tokens (
    id      TEXT PRIMARY KEY,          -- for people: the first digits of the secret's digest
    secret  TEXT    NOT NULL UNIQUE,   -- sha256:..
    "group" TEXT    NOT NULL,
    created INTEGER NOT NULL,
    by      TEXT    NOT NULL,
    expires INTEGER NOT NULL,
    used    INTEGER,
    node    TEXT                       -- who used it
) STRICT;

CREATE TABLE nodes (
    name         TEXT PRIMARY KEY,
    "group"      TEXT    NOT NULL REFERENCES groups (name),
    jurisdiction TEXT    NOT NULL,
    enrolled     INTEGER NOT NULL,
    token        TEXT    NOT NULL,     -- which token admitted it
    certificate  TEXT    NOT NULL UNIQUE, -- sha256:.. of the one client certificate that is accepted
    public_key   TEXT    NOT NULL,     -- sha256:.. of the key in it: a lost answer to an enrolment may be asked for again
    ledger_key   TEXT    NOT NULL,
    seen         INTEGER,
    status       TEXT                  -- JSON NodeStatus
) STRICT;

CREATE TABLE bundles (
    digest    TEXT PRIMARY KEY,
    name      TEXT    NOT NULL,
    version   INTEGER NOT NULL UNIQUE, -- one line of versions for all groups: what is pushed later is higher
    manifest  TEXT    NOT NULL,        -- canonical JSON: the bytes that the digest is over
    signature TEXT    NOT NULL,
    pushed    INTEGER NOT NULL,
    by        TEXT    NOT NULL
) STRICT;

CREATE TABLE runs (
    node    TEXT    NOT NULL REFERENCES nodes (name),
    run     TEXT    NOT NULL,
    updated INTEGER NOT NULL,
    status  TEXT    NOT NULL,
    summary TEXT    NOT NULL,          -- JSON RunSummary
    PRIMARY KEY (node, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_updated ON runs (updated);

CREATE TABLE approvals (
    approval TEXT PRIMARY KEY,
    node     TEXT    NOT NULL REFERENCES nodes (name),
    question TEXT    NOT NULL,         -- JSON PendingApproval
    asked    INTEGER NOT NULL,
    open     INTEGER NOT NULL,         -- 1 while the node says that it waits
    answer   TEXT,                     -- JSON SignedAnswer
    by       TEXT,
    answered INTEGER,
    outcome  TEXT                      -- JSON AnswerOutcome, when the node has reported it
) STRICT;
CREATE INDEX approvals_node ON approvals (node, open);

-- The audit archive: the nodes' entries as they were sent, byte for byte.
CREATE TABLE ledger (
    node TEXT    NOT NULL REFERENCES nodes (name),
    seq  INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    fact TEXT    NOT NULL,
    run  TEXT,
    body TEXT    NOT NULL,
    PRIMARY KEY (node, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_at ON ledger (at);
CREATE INDEX ledger_run ON ledger (run, seq) WHERE run IS NOT NULL;

-- The last head of each node that was verified and countersigned, and the tree's right edge there.
CREATE TABLE heads (
    node   TEXT PRIMARY KEY REFERENCES nodes (name),
    size   INTEGER NOT NULL,
    roots  BLOB    NOT NULL,
    note   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    halted TEXT                        -- why nothing more is taken
) STRICT;

-- What an auditor must know: forks, gaps, tampering, as they were met. Kept with the evidence.
CREATE TABLE alarms (
    id       INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    node     TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    evidence TEXT,                     -- the note that the node signed
    cleared  INTEGER,
    by       TEXT
) STRICT;
