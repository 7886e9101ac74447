//! Ends that the engine does not decide: a run that cannot be read is given up, and one that has not begun does not begin.
//! Whoever waits for a run hears of these ends as of any other: its parent, its children, those who were asked, the
//! workflow's next start, and who listens for what becomes of runs.

use std::sync::Arc;

use edge_core::engine::{
    Command,
    effect::{Ask, Error, kind},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use shared::{
    id::RunId,
    label::{DataClass, Label},
    ledger::entry::{Content, Entry, Fact},
    time::Timestamp,
};

use super::{
    approval, child,
    journal::{Loaded, is_unreadable, json, read_json},
    lifecycle, listen,
    outlet::{self, Outlet},
    runner::{Inner, Message},
    schedule,
    timers::Due,
};
use crate::store;

/// How a run ends here.
#[derive(Clone)]
pub(super) enum How {
    /// Nobody wants it any more, and it has not begun.
    Cancelled,
    /// Its records are of another version, or damaged: why.
    Unreadable(String),
}

/// Whom to tell, once the end is on the disk.
#[derive(Default)]
pub(super) struct Ended {
    parent: Option<(RunId, Ask)>,
    /// Those that are to end with it.
    children: Vec<RunId>,
    next_start: Option<(String, Timestamp)>,
}

/// What of a run's row can be read whatever became of its records.
struct Row {
    workflow: String,
    generation: u32,
    steps: i64,
    label: Label,
    parent: Option<(RunId, Ask)>,
}

impl Inner {
    /// Ends a run and tells everyone who waits for it. `entries` go to the ledger before the end.
    pub(super) async fn end(self: &Arc<Self>, run: RunId, how: How, entries: Vec<Entry>) {
        let (now, entries) = (self.clock.now(), Arc::new(entries));
        let write = || {
            let (inner, how, entries) = (Arc::clone(self), how.clone(), Arc::clone(&entries));
            move |tx: &mut store::Transaction<'_>| write(tx, run, &how, (&entries, &inner.outlet), now)
        };
        let Some(Some(ended)) = self.insist("end a run", write).await else { return };
        self.timers.set(Due::Run(run), None);
        if let Some((parent, ask)) = ended.parent {
            self.send(parent, Message::AskAgain(Some(ask)));
        }
        for child in ended.children {
            self.send(child, Message::Command(Command::Cancel));
        }
        if let Some((workflow, at)) = ended.next_start {
            self.timers.set(Due::Schedule(workflow), Some(at));
        }
        self.bell.events();
        self.outlet.ring();
        self.note_change();
    }

    /// Ends a run that has not begun; it is not begun any more.
    pub(super) async fn end_unbegun(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, entries: Vec<Entry>) {
        loaded.beginning = None;
        self.end(run, How::Cancelled, entries).await;
    }
}

/// Writes the end, with all that hangs on it. `None`: it has ended already.
fn write(
    tx: &mut store::Transaction<'_>,
    run: RunId,
    how: &How,
    (entries, outlet): (&[Entry], &Outlet),
    now: Timestamp,
) -> Result<Option<Ended>, store::Error> {
    let (connection, id) = (tx.connection(), run.to_string());
    let Some(row) = read(connection, run)? else { return Ok(None) };
    let (status, why, error) = match how {
        How::Cancelled => ("cancelled", "null", None),
        How::Unreadable(why) => ("faulted", why.as_str(), Some(Error::new(kind::RUNTIME, why.clone()).to_value())),
    };
    connection.execute(
        "UPDATE run SET status = ?2, error = ?3, wake_at = NULL, changed_at = ?4, ended_at = ?4 WHERE id = ?1",
        params![id, status, error.as_ref().map(ToString::to_string), now.as_micros()],
    )?;
    let mut told: Vec<Entry> = entries.to_vec();
    for ask in numbers(connection, "SELECT ask FROM approval WHERE run = ?1 AND status = 'pending'", run)? {
        // One that cannot be read is closed all the same.
        match approval::expire(connection, run, ask, now) {
            Err(error) if is_unreadable(&error) => {}
            expired => told.extend(expired?),
        }
    }
    for ask in numbers(connection, "SELECT ask FROM outbox WHERE run = ?1 AND function = 'workflow'", run)? {
        child::withdraw(connection, run, ask, now)?;
    }
    connection.execute("DELETE FROM outbox WHERE run = ?1", [&id])?;
    connection.execute("DELETE FROM listening WHERE run = ?1", [&id])?;
    let events = lifecycle::of_end(run, &row.workflow, row.steps, status, now, error);
    outlet::write(connection, &outlet.chosen(&events), &row.label)?;
    if row.generation < lifecycle::GENERATIONS_MAX {
        for event in events {
            connection
                .prepare_cached("INSERT INTO emitted (event, label, generation) VALUES (?1, ?2, ?3)")?
                .execute(params![json(&event), json(&row.label), row.generation + 1])?;
        }
    }
    let next_start = schedule::ended_unread(connection, &row.workflow, now)?.map(|at| (row.workflow.clone(), at));
    let children = wanted_children(connection, run)?;
    let fact = Fact::RunEnded { status: status.to_owned(), output: Content::digested(why) };
    told.push(Entry { at: now, run: Some(run), task: None, fact });
    listen::forget(tx, run, now)?;
    for entry in &told {
        tx.append(entry)?;
    }
    Ok(Some(Ended { parent: row.parent, children, next_start }))
}

fn read(connection: &Connection, run: RunId) -> rusqlite::Result<Option<Row>> {
    let sql =
        "SELECT workflow, generation, steps, label, parent, parent_ask FROM run WHERE id = ?1 AND ended_at IS NULL";
    let read = |row: &rusqlite::Row<'_>| {
        // What cannot be told is taken for the strictest.
        let strictest = || Label { class: DataClass::Restricted, personal: true, ..Label::default() };
        let parent = (row.get::<_, Option<String>>(4)?, row.get::<_, Option<u32>>(5)?);
        Ok(Row {
            workflow: row.get(0)?,
            generation: row.get(1)?,
            steps: row.get(2)?,
            label: read_json(row.get_ref(3)?.as_str()?).unwrap_or_else(|_| strictest()),
            parent: parent.0.and_then(|id| id.parse().ok()).zip(parent.1.map(Ask)),
        })
    };
    connection.prepare_cached(sql)?.query_row([run.to_string()], read).optional()
}

fn numbers(connection: &Connection, sql: &str, run: RunId) -> rusqlite::Result<Vec<Ask>> {
    connection.prepare_cached(sql)?.query_map([run.to_string()], |row| row.get(0).map(Ask))?.collect()
}

fn wanted_children(connection: &Connection, run: RunId) -> rusqlite::Result<Vec<RunId>> {
    let sql = "SELECT id FROM run WHERE parent = ?1 AND wanted IS NOT NULL AND ended_at IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let found: Vec<String> = statement.query_map([run.to_string()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(found.iter().filter_map(|id| id.parse().ok()).collect())
}
