//! Runs that ended in an error.

use rusqlite::Connection;

use super::Check;
use crate::clock;

/// Faults of the last 24 hours are told.
const LATELY_MICROS: i64 = 86_400_000_000;

/// Runs that ended in an error lately: nobody else may look at them.
pub(super) fn faulted(connection: &Connection) -> Option<Check> {
    let since = clock::now().plus_micros(-LATELY_MICROS).as_micros();
    let read = connection.query_row(
        "SELECT count(*), coalesce(group_concat(DISTINCT workflow), '') FROM run WHERE status = 'faulted' AND ended_at >= ?1",
        [since],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
    );
    let (count, workflows) = read.ok().filter(|(count, _)| *count > 0)?;
    let found = format!("{count} faulted in the last 24 hours: {}", workflows.replace(',', ", "));
    let advice = "`edge-agent runs --status faulted` lists them, `edge-agent runs RUN` says what went wrong";
    Some(Check::warning("runs", found, advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn faults_of_late_are_told_with_their_workflows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.db")).unwrap();
        assert!(store.read_blocking("look", |c| Ok(faulted(c))).unwrap().is_none());
        let connection = Connection::open(dir.path().join("node.db")).unwrap();
        connection.execute_batch("INSERT INTO workflow (digest, name, text) VALUES ('d', 'plant/a', 'x')").unwrap();
        let insert = "INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, \
                      changed_at, ended_at) VALUES (?1, 'plant/a', '1', 'd', 'b', 'by hand', '{}', '{}', ?2, 1, 1, ?3)";
        let now = clock::now().as_micros();
        for (id, status, ended) in
            [("1", "faulted", now), ("2", "completed", now), ("3", "faulted", now - 2 * LATELY_MICROS)]
        {
            connection.execute(insert, rusqlite::params![id, status, ended]).unwrap();
        }
        let check = store.read_blocking("look", |c| Ok(faulted(c))).unwrap().expect("a warning");
        assert_eq!(check.found, "1 faulted in the last 24 hours: plant/a");
    }
}
