-- What a run's steps recorded. A table by row number, and the run in an index: in a table by run and number a step of more than
-- a quarter of a page takes a page of its own.
CREATE TABLE run_step_by_row (
    row     INTEGER PRIMARY KEY,
    run     TEXT    NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    records TEXT    NOT NULL,
    UNIQUE (run, seq)
) STRICT;
INSERT INTO run_step_by_row (run, seq, at, records) SELECT run, seq, at, records FROM run_step;
DROP TABLE run_step;
ALTER TABLE run_step_by_row RENAME TO run_step;
