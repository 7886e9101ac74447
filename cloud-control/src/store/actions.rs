//! What operators did, in order.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use shared::time::Timestamp;

use super::{instant, int};

/// One thing that an operator did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Action {
    pub at: Timestamp,
    pub by: String,
    /// One sentence in the past tense, such as `pushed bundle .. to group plant`.
    pub what: String,
}

/// Notes an action; belongs into the transaction of what was done.
pub(crate) fn record(connection: &Connection, at: Timestamp, by: &str, what: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO actions (at, by, what) VALUES (?1, ?2, ?3)")?.execute(params![
        at.as_micros(),
        by,
        what
    ])?;
    Ok(())
}

/// The newest actions, newest first.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<Action>> {
    connection
        .prepare_cached("SELECT at, by, what FROM actions ORDER BY id DESC LIMIT ?1")?
        .query_map([int(limit)], |row| {
            Ok(Action { at: instant(row, "at")?, by: row.get("by")?, what: row.get("what")? })
        })?
        .collect()
}
