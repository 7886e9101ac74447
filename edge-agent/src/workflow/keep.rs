//! What is forgotten, and when: ended runs and findings that are old or too many. Forgetting a run forgets what started it,
//! so that the same event would start another; therefore things age by the time that the node was on, and not by a
//! clock that may be set years ahead.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::time::Timestamp;

use super::{runner::Inner, timers::Due};

/// Ended runs and findings are kept for so long that the node is on. The ledger keeps its entries of them.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3_600);

/// And at most this many: a few hundred MB of ordinary runs.
const KEPT_MAX: i64 = 100_000;

/// Rows that go in one transaction, so that the others need not wait for long.
const SWEPT_MAX: i64 = 500;

/// Between two looks for old runs, and between two pieces when there are some.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
pub(super) const SWEEP_NEXT: Duration = Duration::from_secs(10);

impl Inner {
    /// Forgets ended runs and findings that are old or too many, a piece at a time.
    pub(super) async fn sweep(self: &Arc<Self>) {
        let (now, passed) = (self.clock.now(), self.clock.passed());
        let on = passed.saturating_sub(*self.swept.lock().expect("no thread panicked with the sweep"));
        let swept = self.insist("forget old runs", || move |tx| Ok(sweep(tx.connection(), now, on)?)).await;
        let Some(rows) = swept else { return };
        *self.swept.lock().expect("no thread panicked with the sweep") = passed;
        self.timers.set(Due::Sweep, Some(now.plus(if rows > 0 { SWEEP_NEXT } else { SWEEP_EVERY })));
    }
}

/// The runs' clock begins no later than `recorded`, the latest instant of any run: marks of a wrong clock that no run saw
/// go back to it, so that nothing that ends from now on is taken for older than it is.
pub(super) fn straighten(connection: &Connection, recorded: Timestamp) -> rusqlite::Result<()> {
    connection.execute("UPDATE age SET at = ?1 WHERE at > ?1", [recorded.as_micros()])?;
    Ok(())
}

/// Forgets some ended runs and findings that are old or too many; says how many. The node was on for so long since the
/// last time.
pub(super) fn sweep(connection: &Connection, now: Timestamp, on: Duration) -> rusqlite::Result<usize> {
    let before = aged(connection, now, on)?.map_or(i64::MIN, Timestamp::as_micros);
    let runs = connection.execute(
        "DELETE FROM run WHERE id IN (SELECT id FROM run WHERE ended_at IS NOT NULL AND (ended_at <= ?1 OR ended_at < \
         (SELECT ended_at FROM run WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 1 OFFSET ?2)) LIMIT ?3)",
        params![before, KEPT_MAX, SWEPT_MAX],
    )?;
    connection.execute(
        "DELETE FROM approval WHERE id IN (SELECT id FROM approval WHERE status <> 'pending' \
         AND NOT EXISTS (SELECT 1 FROM run WHERE run.id = approval.run) LIMIT ?1)",
        [SWEPT_MAX],
    )?;
    let findings = connection.execute(
        "DELETE FROM finding WHERE (source, id) IN (SELECT source, id FROM finding WHERE at <= ?1 OR at < \
         (SELECT at FROM finding ORDER BY at DESC LIMIT 1 OFFSET ?2) LIMIT ?3)",
        params![before, KEPT_MAX, SWEPT_MAX],
    )?;
    Ok(runs + findings)
}

/// What the runs' clock said when the node had been on for `KEPT` less than now. `None`: it has not been on for so long.
///
/// That clock never goes back, so what ended before an instant of it ended before the age that belongs to it. A kill
/// loses the age since the last sweep, and things are kept a little longer.
fn aged(connection: &Connection, now: Timestamp, on: Duration) -> rusqlite::Result<Option<Timestamp>> {
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let last: Option<i64> = connection.query_row("SELECT max(age) FROM age", [], |row| row.get(0))?;
    let age = last.unwrap_or(0).saturating_add(micros(on));
    connection.execute("INSERT OR REPLACE INTO age (age, at) VALUES (?1, ?2)", [age, now.as_micros()])?;
    // One mark in so much time is enough.
    connection.execute(
        "DELETE FROM age WHERE age = (SELECT age FROM age ORDER BY age DESC LIMIT 1 OFFSET 1) \
         AND ?1 - (SELECT age FROM age ORDER BY age DESC LIMIT 1 OFFSET 2) < ?2",
        [age, micros(SWEEP_EVERY)],
    )?;
    let old = age.saturating_sub(micros(KEPT));
    let mark: Option<(i64, i64)> = connection
        .query_row("SELECT age, at FROM age WHERE age <= ?1 ORDER BY age DESC LIMIT 1", [old], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((mark, at)) = mark else { return Ok(None) };
    connection.execute("DELETE FROM age WHERE age < ?1", [mark])?;
    Ok(Some(Timestamp::from_micros(at)))
}
