//! The schema of the store, one file a room, applied in order and never changed after a release: add a file instead.

use std::path::Path;

use rusqlite::{Connection, functions::FunctionFlags};

use super::Error;
use crate::script;

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
    include_str!("schema/14_steps.sql"),
    include_str!("schema/15_learning.sql"),
    include_str!("schema/16_sessions.sql"),
    include_str!("schema/17_sources.sql"),
    include_str!("schema/18_keeping.sql"),
    include_str!("schema/19_spans.sql"),
    include_str!("schema/20_episodes.sql"),
    include_str!("schema/21_embedders.sql"),
    include_str!("schema/22_followed.sql"),
    include_str!("schema/23_apart.sql"),
];

/// Gives a connection the functions that the schema's triggers call.
pub(super) fn with_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("apart", 1, flags, |call| {
        let text = call.get_raw(0).as_str().map_err(|error| rusqlite::Error::UserFunctionError(Box::new(error)))?;
        Ok(script::apart(text).into_owned())
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A store as it was after the first `steps` of the schema.
    fn of_step(steps: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "foreign_keys", "ON").unwrap();
        with_functions(&connection).unwrap();
        connection.execute_batch(&format!("{}\nPRAGMA user_version = {steps};", STEPS[..steps].join("\n"))).unwrap();
        connection
    }

    #[test]
    fn what_runs_recorded_is_there_after_the_table_moved() {
        let store = of_step(13);
        let content = "INSERT INTO workflow (digest, name, text) VALUES ('d', 'w', '{}');
            INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, changed_at)
                VALUES ('a', 'w', '1', 'd', 'b', 't', '{}', '{}', 'completed', 1, 1), ('b', 'w', '1', 'd', 'b', 't', '{}', '{}', 'running', 1, 1);
            INSERT INTO run_step (run, seq, at, records) VALUES ('b', 0, 5, '[1]'), ('a', 1, 7, '[3]'), ('a', 0, 6, '[2]');";
        store.execute_batch(content).unwrap();
        migrate(&store, Path::new("node.db")).unwrap();
        let records = |run: &str| -> Vec<(String, i64)> {
            let mut all = store.prepare("SELECT records, at FROM run_step WHERE run = ?1 ORDER BY seq").unwrap();
            all.query_map([run], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
        };
        assert_eq!(records("a"), [("[2]".to_owned(), 6), ("[3]".to_owned(), 7)]);
        assert_eq!(records("b"), [("[1]".to_owned(), 5)]);
        let twice = store.execute("INSERT INTO run_step (run, seq, at, records) VALUES ('a', 1, 9, '[]')", []);
        assert!(twice.is_err(), "a step is recorded once");
        store.execute("DELETE FROM run WHERE id = 'a'", []).unwrap();
        assert_eq!((records("a").len(), records("b").len()), (0, 1), "with a run goes what it recorded");
    }
}
