-- Where in the ledger a run's entries stand: a row for those that one change appended, in place of one for each.
CREATE TABLE ledger_span (
    run   TEXT    NOT NULL,
    first INTEGER NOT NULL,            -- the first one's `seq`
    count INTEGER NOT NULL,
    PRIMARY KEY (run, first)
) STRICT, WITHOUT ROWID;
INSERT INTO ledger_span SELECT run, seq, 1 FROM ledger WHERE run IS NOT NULL ORDER BY run, seq;
DROP INDEX ledger_run;
ALTER TABLE ledger DROP COLUMN run;
CREATE VIEW ledger_of_run AS
    SELECT ledger_span.run, seq, fact, body FROM ledger_span CROSS JOIN ledger ON seq >= first AND seq < first + count;
