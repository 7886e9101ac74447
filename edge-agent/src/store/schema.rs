//! The schema of the store, one file a room, applied in order and never changed after a release: add a file instead.

use std::path::Path;

use rusqlite::Connection;

use super::Error;

/// Each step brings the schema from its index to the next; `PRAGMA user_version` says how many are done.
const STEPS: &[&str] = &[
    include_str!("schema/01_ledger.sql"),
    include_str!("schema/02_journal.sql"),
    include_str!("schema/03_runs.sql"),
    include_str!("schema/04_memory.sql"),
    include_str!("schema/05_sync.sql"),
    include_str!("schema/06_engine.sql"),
    include_str!("schema/07_due.sql"),
    include_str!("schema/08_bounds.sql"),
    include_str!("schema/09_rhythm.sql"),
    include_str!("schema/10_records.sql"),
    include_str!("schema/11_remembered.sql"),
    include_str!("schema/12_lost.sql"),
    include_str!("schema/13_outlet.sql"),
];

pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > known {
        return Err(Error::Newer { path: path.to_owned(), found, known });
    }
    let steps = STEPS.get(usize::try_from(found).unwrap_or(0)..).unwrap_or_default();
    if steps.is_empty() {
        return Ok(());
    }
    // All or nothing, with one commit.
    let script = format!("BEGIN IMMEDIATE;\n{}\nPRAGMA user_version = {known};\nCOMMIT;", steps.join("\n"));
    connection.execute_batch(&script).map_err(failed)
}
