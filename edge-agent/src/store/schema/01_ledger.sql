-- The ledger: one row a leaf. `body` holds the exact bytes that the leaf hash is over.
CREATE TABLE ledger (
    seq  INTEGER PRIMARY KEY,          -- 0, 1, 2, ... with no gap: the leaf's index in the tree
    at   INTEGER NOT NULL,             -- microseconds since 1970 UTC, as in the body
    fact TEXT    NOT NULL,
    run  TEXT,
    body BLOB    NOT NULL
) STRICT;
CREATE INDEX ledger_run ON ledger (run, seq) WHERE run IS NOT NULL;

-- The tree's right edge: the size and the roots of its complete subtrees, largest first, 32 bytes each.
CREATE TABLE ledger_tail (
    id    INTEGER PRIMARY KEY CHECK (id = 0),
    size  INTEGER NOT NULL,
    roots BLOB    NOT NULL
) STRICT;
INSERT INTO ledger_tail VALUES (0, 0, x'');
