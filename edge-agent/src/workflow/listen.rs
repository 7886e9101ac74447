//! Events for runs that listen. Who may want an event is found by its type, source and correlation alone; the event is
//! written down for those runs in the transaction that takes it, and removed in the one in which a run has decided about
//! it. So it comes to each run once, whenever the node is killed.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use edge_core::{
    engine::{Command, Interest},
    hear::filter,
};
use rusqlite::{Connection, params};
use serde_json::Value;
use shared::{digest::canonical_json, event::Event, id::RunId, label::Label, workflow::expression::Expressions};

use super::{
    journal::{self, Loaded, read_json, unreadable},
    runner::Inner,
};
use crate::store;

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

/// Writes an event down for these runs.
pub(super) fn deliver(
    connection: &Connection,
    event: &Event,
    label: &Label,
    runs: &BTreeSet<RunId>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO arrived (event, label) VALUES (?1, ?2)")?
        .execute(params![journal::json(event), journal::json(label)])?;
    let seq = connection.last_insert_rowid();
    for run in runs {
        connection
            .prepare_cached("INSERT INTO delivery (run, seq) SELECT id, ?2 FROM run WHERE id = ?1")?
            .execute(params![run.to_string(), seq])?;
    }
    Ok(())
}

/// Removes an event that a run has decided about.
pub(super) fn delivered(connection: &Connection, run: RunId, seq: i64) -> rusqlite::Result<()> {
    let delete = "DELETE FROM delivery WHERE run = ?1 AND seq = ?2";
    connection.prepare_cached(delete)?.execute(params![run.to_string(), seq])?;
    let last = "DELETE FROM arrived WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM delivery WHERE seq = ?1)";
    connection.prepare_cached(last)?.execute([seq])?;
    Ok(())
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

/// The events that wait for a run, in the order in which they came.
fn waiting(connection: &Connection, run: RunId) -> rusqlite::Result<Vec<(i64, Arc<Event>, Label)>> {
    let mut statement = connection.prepare_cached(
        "SELECT arrived.seq, event, label FROM delivery JOIN arrived USING (seq) WHERE run = ?1 ORDER BY arrived.seq",
    )?;
    let rows = statement.query_map([run.to_string()], |row| {
        let event: Event = read_json(row.get_ref(1)?.as_str()?)?;
        Ok((row.get(0)?, Arc::new(event), read_json(row.get_ref(2)?.as_str()?)?))
    })?;
    rows.collect()
}

impl Inner {
    /// Gives a run the events that wait for it. One that rests gets them when it goes on.
    pub(super) async fn hear(self: &Arc<Self>, run: RunId, loaded: &mut Loaded) {
        if loaded.state.suspended().is_some() {
            return;
        }
        let events = match self.store.read("find the events for a run", move |c| waiting(c, run)).await {
            Ok(events) => events,
            Err(store::Error::Closed { .. }) => return,
            Err(error) => {
                // The next start, or the next event for the run, reads them.
                tracing::error!(%run, %error, "a run cannot be given its events");
                return;
            }
        };
        for (seq, event, label) in events {
            self.step_heard(run, loaded, Command::Hear { event, label }, seq).await;
        }
    }
}
