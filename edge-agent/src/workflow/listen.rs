//! Events for runs that listen. Who may want an event is found by its type, source and correlation alone; the event is
//! written down for those runs in the transaction that takes it, and removed in the one in which a run has decided about
//! it. So it comes to each run once, whenever the node is killed. What waits for a run is bounded.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use edge_core::{
    engine::{Command, Interest},
    hear::{Arrival, filter},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;
use shared::{digest::canonical_json, event::Event, id::RunId, time::Timestamp, workflow::expression::Expressions};

use super::{
    journal::{self, Loaded, read_json, unreadable},
    runner::Inner,
    withheld::{self, Why},
};
use crate::store;

/// Events that may wait for one run, and their bytes: a minute of a busy feed while the run rests or decides slowly. Beyond
/// it an event is lost to the run; it is counted, and the run is told when it has had those that wait.
pub(super) const EVENTS_MAX: i64 = 1_000;
const BYTES_MAX: i64 = 8 << 20;

/// What of a run's inbox a step decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Event {
        seq: i64,
        generation: u32,
    },
    /// That events could not wait.
    Missed,
}

/// Correlations kept compiled; there are as many as workflows that listen with one.
const CORRELATIONS_MAX: usize = 256;

/// Compiled correlations of runs that listen.
#[derive(Default)]
pub(super) struct Correlations(Mutex<(BTreeSet<String>, Expressions)>);

impl Correlations {
    fn value(&self, text: &str, event: &Event) -> Option<Value> {
        let mut known = self.0.lock().expect("no thread panicked with the correlations");
        if known.0.len() >= CORRELATIONS_MAX {
            *known = Default::default();
        }
        if known.0.insert(text.to_owned()) {
            known.1.add(text).ok()?;
        }
        filter::value_of(&known.1, text, event, &|_| None)
    }
}

/// The runs that may want this event.
pub(super) fn candidates(
    connection: &Connection,
    correlations: &Correlations,
    event: &Event,
) -> rusqlite::Result<BTreeSet<RunId>> {
    let mut texts = connection.prepare_cached("SELECT DISTINCT correlate FROM listening WHERE kind IN ('', ?1)")?;
    let texts: Vec<String> = texts.query_map([&event.kind], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut found = BTreeSet::new();
    for text in texts {
        let expected = if text.is_empty() {
            Some(String::new())
        } else {
            correlations.value(&text, event).map(|value| canonical_json(&value))
        };
        let Some(expected) = expected else { continue };
        let mut runs = connection.prepare_cached(
            "SELECT run FROM listening WHERE kind IN ('', ?1) AND source IN ('', ?2) AND correlate = ?3 AND expected = ?4",
        )?;
        let runs = runs.query_map(params![event.kind, event.source, text, expected], |row| row.get::<_, String>(0))?;
        for run in runs {
            found.insert(run?.parse().map_err(|error| unreadable(&error))?);
        }
    }
    Ok(found)
}

/// Writes an event down for these runs. It does not wait for a run for which as much waits as may.
pub(super) fn deliver(
    connection: &Connection,
    arrival: &Arrival,
    runs: &BTreeSet<RunId>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let Arrival { event, label, generation } = arrival;
    let event = journal::json(event);
    let bytes = i64::try_from(event.len()).unwrap_or(i64::MAX);
    let mut seq = None;
    for run in runs.iter().map(RunId::to_string) {
        let Some((workflow, waits)) = room(connection, &run, bytes)? else { continue };
        if !waits {
            withheld::count(connection, &workflow, Why::Waiting, 1, now)?;
            continue;
        }
        let seq = match seq {
            Some(seq) => seq,
            None => {
                connection
                    .prepare_cached("INSERT INTO arrived (event, label, generation) VALUES (?1, ?2, ?3)")?
                    .execute(params![event, journal::json(label), generation])?;
                *seq.insert(connection.last_insert_rowid())
            }
        };
        connection.prepare_cached("INSERT INTO delivery (run, seq) VALUES (?1, ?2)")?.execute(params![run, seq])?;
    }
    Ok(())
}

/// Makes room in a run's inbox, or counts what it has missed: its workflow, and whether there was room. `None`: there is
/// no such run any more.
fn room(connection: &Connection, run: &str, bytes: i64) -> rusqlite::Result<Option<(String, bool)>> {
    let waiting = connection
        .prepare_cached(
            "SELECT workflow, coalesce(events, 0), coalesce(bytes, 0) FROM run LEFT JOIN inbox ON inbox.run = run.id \
             WHERE run.id = ?1 AND run.ended_at IS NULL",
        )?
        .query_row([run], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let Some((workflow, events, all)) = waiting else { return Ok(None) };
    let waits = events < EVENTS_MAX && (events == 0 || all.saturating_add(bytes) <= BYTES_MAX);
    let (one, bytes) = if waits { (1, bytes) } else { (0, 0) };
    connection
        .prepare_cached(
            "INSERT INTO inbox (run, events, bytes, missed) VALUES (?1, ?2, ?3, 1 - ?2) ON CONFLICT DO UPDATE \
             SET events = events + excluded.events, bytes = bytes + excluded.bytes, missed = missed + excluded.missed",
        )?
        .execute(params![run, one, bytes])?;
    Ok(Some((workflow, waits)))
}

/// Removes from a run's inbox what the run has decided about.
pub(super) fn decided(
    tx: &mut store::Transaction<'_>,
    run: RunId,
    heard: Heard,
    now: Timestamp,
) -> Result<(), store::Error> {
    match heard {
        Heard::Event { seq, .. } => Ok(take_out(tx.connection(), run, seq)?),
        Heard::Missed => tell_missed(tx, run, now),
    }
}

fn take_out(connection: &Connection, run: RunId, seq: i64) -> rusqlite::Result<()> {
    let run = run.to_string();
    let delete = "DELETE FROM delivery WHERE run = ?1 AND seq = ?2";
    if connection.prepare_cached(delete)?.execute(params![run, seq])? > 0 {
        let less = "UPDATE inbox SET events = events - 1, \
                    bytes = bytes - (SELECT octet_length(event) FROM arrived WHERE seq = ?2) WHERE run = ?1";
        connection.prepare_cached(less)?.execute(params![run, seq])?;
        let empty = "DELETE FROM inbox WHERE run = ?1 AND events <= 0 AND missed = 0";
        connection.prepare_cached(empty)?.execute([run])?;
    }
    let last = "DELETE FROM arrived WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM delivery WHERE seq = ?1)";
    connection.prepare_cached(last)?.execute([seq])?;
    Ok(())
}

/// Says in the ledger what a run has missed; it has been told, or never will be.
fn tell_missed(tx: &mut store::Transaction<'_>, run: RunId, now: Timestamp) -> Result<(), store::Error> {
    let id = run.to_string();
    let missed =
        "SELECT workflow, missed FROM inbox JOIN run ON run.id = inbox.run WHERE inbox.run = ?1 AND missed > 0";
    let missed = tx
        .connection()
        .prepare_cached(missed)?
        .query_row([&id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((workflow, missed)) = missed else { return Ok(()) };
    let told = "UPDATE inbox SET missed = 0 WHERE run = ?1";
    tx.connection().prepare_cached(told)?.execute([&id])?;
    let empty = "DELETE FROM inbox WHERE run = ?1 AND events <= 0";
    tx.connection().prepare_cached(empty)?.execute([&id])?;
    let missed = u64::try_from(missed).unwrap_or(0);
    tx.append(&withheld::entry(&workflow, Some(run), Why::Waiting, missed, "", now))?;
    Ok(())
}

/// The run has ended: nothing waits for it any more.
pub(super) fn forget(tx: &mut store::Transaction<'_>, run: RunId, now: Timestamp) -> Result<(), store::Error> {
    let id = run.to_string();
    // Most runs end without ever having had any.
    if !tx.connection().prepare_cached("SELECT 1 FROM inbox WHERE run = ?1")?.exists([&id])? {
        return Ok(());
    }
    let mut statement = tx.connection().prepare_cached("SELECT seq FROM delivery WHERE run = ?1")?;
    let seqs: Vec<i64> = statement.query_map([&id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    drop(statement);
    for seq in seqs {
        take_out(tx.connection(), run, seq)?;
    }
    tell_missed(tx, run, now)
}

/// Writes down what a run listens for.
pub(super) fn set_interests(connection: &Connection, run: RunId, interests: &[Interest]) -> rusqlite::Result<()> {
    let run = run.to_string();
    connection.prepare_cached("DELETE FROM listening WHERE run = ?1")?.execute([&run])?;
    for interest in interests {
        let text = |of: &Option<String>| of.clone().unwrap_or_default();
        let (correlate, expected) =
            interest.correlate.as_ref().map(|(text, value)| (text.clone(), canonical_json(value))).unwrap_or_default();
        connection
            .prepare_cached(
                "INSERT INTO listening (run, kind, source, correlate, expected) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![run, text(&interest.kind), text(&interest.source), correlate, expected])?;
    }
    Ok(())
}

/// What waits for a run: its events in the order in which they came, and how many it has missed since.
struct Inbox {
    events: Vec<(i64, Arrival)>,
    missed: i64,
}

fn inbox(connection: &Connection, run: RunId) -> rusqlite::Result<Inbox> {
    let id = run.to_string();
    let mut statement = connection.prepare_cached(
        "SELECT arrived.seq, event, label, generation FROM delivery JOIN arrived USING (seq) WHERE run = ?1 \
         ORDER BY arrived.seq",
    )?;
    let rows = statement.query_map([&id], |row| {
        let (event, label) = (read_json(row.get_ref(1)?.as_str()?)?, read_json(row.get_ref(2)?.as_str()?)?);
        Ok((row.get(0)?, Arrival { event, label, generation: row.get(3)? }))
    })?;
    let events = rows.collect::<Result<_, _>>()?;
    let missed = connection
        .prepare_cached("SELECT missed FROM inbox WHERE run = ?1")?
        .query_row([&id], |row| row.get(0))
        .optional()?;
    Ok(Inbox { events, missed: missed.unwrap_or(0) })
}

impl Inner {
    /// Gives a run what waits for it. One that rests gets it when it goes on.
    pub(super) async fn hear(self: &Arc<Self>, run: RunId, loaded: &mut Loaded) {
        if loaded.state.suspended().is_some() {
            return;
        }
        let Inbox { events, missed } = match self.store.read("find the events for a run", move |c| inbox(c, run)).await
        {
            Ok(inbox) => inbox,
            Err(store::Error::Closed { .. }) => return,
            Err(error) => {
                // The next start, or the next event for the run, reads them.
                tracing::error!(%run, %error, "a run cannot be given its events");
                return;
            }
        };
        for (seq, Arrival { event, label, generation }) in events {
            let command = Command::Hear { event: Arc::new(event), label };
            self.step_heard(run, loaded, command, Heard::Event { seq, generation }).await;
        }
        if missed > 0 {
            let command = Command::Miss { events: u64::try_from(missed).unwrap_or(0) };
            self.step_heard(run, loaded, command, Heard::Missed).await;
        }
    }
}
