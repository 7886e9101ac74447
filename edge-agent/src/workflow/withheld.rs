//! Events that do not come to whom they are for, because something is full or would never end: each is counted, and told
//! in the ledger.

use rusqlite::{Connection, params};
use shared::{
    id::RunId,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
};

/// Why events are withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// They would tell of a run that such events started.
    Loop,
    /// As many waited for the run as may.
    Waiting,
    /// They waited for others that start a workflow together with them, and had to make room.
    Group,
    /// As many waited to go out to the broker as may.
    Outlet,
}

impl Why {
    const fn word(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Waiting => "waiting",
            Self::Group => "group",
            Self::Outlet => "outlet",
        }
    }
}

/// Counts events that `workflow` does not get, or that are not told of it.
pub(super) fn count(
    connection: &Connection,
    workflow: &str,
    why: Why,
    events: u64,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO withheld (workflow, reason, events, last_at) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET events = events + excluded.events, last_at = excluded.last_at",
        )?
        .execute(params![workflow, why.word(), i64::try_from(events).unwrap_or(i64::MAX), now.as_micros()])?;
    Ok(())
}

/// What the ledger says of it.
pub(super) fn entry(workflow: &str, run: Option<RunId>, why: Why, events: u64, more: &str, now: Timestamp) -> Entry {
    let (of, reason) = match why {
        Why::Loop => ("lifecycle events of", "the run goes back to such an event itself, and would keep itself going"),
        Why::Waiting => ("events for", "as many waited for the run as may"),
        Why::Outlet => ("lifecycle events for", "more came about than went out, and newer ones needed the room"),
        Why::Group => ("events that start together", "newer ones needed the room"),
    };
    let reason = if more.is_empty() { reason.to_owned() } else { format!("{reason}: {more}") };
    tracing::warn!(workflow, events, reason, "events are withheld");
    let fact = Fact::Shed { feed: format!("{of} {workflow}"), count: events, reason };
    Entry { at: now, run, task: None, fact }
}
