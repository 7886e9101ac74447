-- What the node and its control plane have agreed on. One row; JSON as text.
CREATE TABLE sync (
    id            INTEGER PRIMARY KEY CHECK (id = 0),
    applied       TEXT,                     -- wire::v1::Applied: the bundle that this node runs
    previous      TEXT,                     -- the one before, kept on the disk to go back to
    trying        TEXT,                     -- digest of the bundle that is coming up just now,
    trials        INTEGER NOT NULL DEFAULT 0, -- and how often the agent began with it
    rejected      TEXT,                     -- wire::v1::Rejected: the last one that did not come up
    floor         TEXT,                     -- bundle::floor::Floor
    shipped       INTEGER NOT NULL,         -- ledger entries that the control plane has verified,
    shipped_roots BLOB    NOT NULL,         -- the tree's right edge there,
    countersigned TEXT,                     -- and that head with its cosignature
    halted        TEXT                      -- why it takes nothing more
) STRICT;
INSERT INTO sync (id, shipped, shipped_roots) VALUES (0, 0, x'');

-- What became of answers that came from the control plane, until it has heard of it.
CREATE TABLE sync_outcomes (
    approval TEXT PRIMARY KEY,
    outcome  TEXT NOT NULL                  -- wire::v1::AnswerOutcome
) STRICT;
