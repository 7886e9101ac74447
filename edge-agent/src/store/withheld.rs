//! Events that did not come to whom they were for, by workflow and reason, for those who look at it.

use rusqlite::Connection;
use serde::Serialize;
use shared::time::Timestamp;

/// What one workflow did not get, or what was not told of it, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// `namespace/name`.
    pub workflow: String,
    /// `loop`, `waiting` or `group`.
    pub reason: String,
    pub events: u64,
    pub last: Timestamp,
}

/// All of it, since the store was made.
///
/// # Errors
/// When the query fails.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Withheld>> {
    connection
        .prepare_cached("SELECT workflow, reason, events, last_at FROM withheld ORDER BY workflow, reason")?
        .query_map([], |row| {
            Ok(Withheld {
                workflow: row.get(0)?,
                reason: row.get(1)?,
                events: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
                last: Timestamp::from_micros(row.get(3)?),
            })
        })?
        .collect()
}
