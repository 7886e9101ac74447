-- What bounds runs and events: how far they are from the outside, what waits for whom, what was lost, how old things are.

-- How many lifecycle events lie between it and what came from outside.
ALTER TABLE run ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE emitted ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE arrived ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
UPDATE run SET generation = 1 WHERE trigger LIKE 'lifecycle %' AND ended_at IS NULL;

-- How much waits in `delivery` for a run; there is no row for one that nothing waits for.
CREATE TABLE inbox (
    run    TEXT PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    events INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,
    missed INTEGER NOT NULL            -- events that could not wait, and of which the run has not been told
) STRICT, WITHOUT ROWID;
INSERT INTO inbox SELECT run, count(*), sum(octet_length(event)), 0 FROM delivery JOIN arrived USING (seq) GROUP BY run;

-- Events that did not come to whom they were for, counted.
CREATE TABLE withheld (
    workflow TEXT    NOT NULL,         -- namespace/name
    reason   TEXT    NOT NULL,         -- `loop`, `waiting`, `group`
    events   INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (workflow, reason)
) STRICT, WITHOUT ROWID;

-- How long the node had been on, in microseconds, when the clock of its runs said `at`. A wrong clock does not age things.
CREATE TABLE age (
    age INTEGER PRIMARY KEY,
    at  INTEGER NOT NULL
) STRICT;
