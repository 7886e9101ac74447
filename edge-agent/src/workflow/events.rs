//! Events come in: each starts the workflows that wait for it, alone or together with others, and is handed to the runs
//! that listen. All that follows from some events is written in one transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edge_core::{
    hear::Arrival,
    trigger::{self, Group, Groups},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use shared::{
    event::{Event, FINDING_TYPE},
    id::RunId,
    ledger::entry::Entry,
    time::Timestamp,
    workflow::Workflow,
};

use super::{
    catalog::Current,
    journal::{self, NewRun, read_json},
    lifecycle, listen,
    runner::{Inner, Message},
    withheld::{self, Why},
};
use crate::store;

/// Events that the ledger names when a group is given up.
const NAMED_MAX: usize = 8;

/// What follows from some events.
#[derive(Default)]
struct Prepared {
    runs: Vec<NewRun>,
    findings: Vec<(Event, Entry)>,
    /// What workflows have of the events that start them together.
    groups: BTreeMap<String, Groups>,
    /// By workflow, groups that had to make room.
    given_up: Vec<(String, Group)>,
    deliveries: Vec<(Arrival, BTreeSet<RunId>)>,
}

impl Prepared {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.findings.is_empty() && self.groups.is_empty() && self.deliveries.is_empty()
    }
}

impl Inner {
    /// Takes events and, in the same transaction, removes those of `emitted` that they were.
    pub(super) async fn take_events(
        self: &Arc<Self>,
        events: Vec<Arrival>,
        emitted: Vec<i64>,
    ) -> Result<(), store::Error> {
        let (current, now) = (self.catalog.current(), self.clock.now());
        let gathers = events.iter().any(|arrival| current.gathering(&arrival.event).next().is_some());
        let _only = if gathers { Some(self.gathering.lock().await) } else { None };
        // Filters are expressions: off the threads that keep everything else going.
        let inner = Arc::clone(self);
        let prepare = move |connection: &Connection| inner.prepare(connection, &current, events, now);
        let prepared = self.store.read("find who waits for events", prepare).await?;
        if prepared.is_empty() && emitted.is_empty() {
            return Ok(());
        }
        let hearing: BTreeSet<RunId> = prepared.deliveries.iter().flat_map(|(_, runs)| runs).copied().collect();
        let write = move |tx: &mut store::Transaction<'_>| write(tx, &prepared, &emitted, now);
        self.store.write("take events", write).await?;
        for run in hearing {
            self.send(run, Message::Hear);
        }
        self.bell.starts();
        Ok(())
    }

    fn prepare(
        &self,
        connection: &Connection,
        current: &Current,
        events: Vec<Arrival>,
        now: Timestamp,
    ) -> rusqlite::Result<Prepared> {
        let mut prepared = Prepared::default();
        for arrival in events {
            let event = &arrival.event;
            for (name, workflow) in current.started_by(event) {
                let alone = Group::of(&arrival);
                prepared.runs.push(started(trigger::run_of_event(name, event), workflow, current, alone, now));
            }
            for (name, workflow) in current.gathering(event) {
                let groups = match prepared.groups.remove(name) {
                    Some(groups) => groups,
                    None => groups_of(connection, name)?,
                };
                let groups = prepared.groups.entry(name.clone()).or_insert(groups);
                let taken = groups.take(workflow, &arrival);
                prepared.given_up.extend(taken.given_up.into_iter().map(|group| (name.clone(), group)));
                if let Some(group) = taken.complete {
                    let id = trigger::run_of_events(name, &group.events);
                    prepared.runs.push(started(id, workflow, current, group, now));
                }
            }
            let hearing = listen::candidates(connection, &self.correlations, event)?;
            if event.kind == FINDING_TYPE {
                let entry = self.finding(event, &arrival.label, now);
                prepared.findings.push((event.clone(), entry));
            }
            if !hearing.is_empty() {
                prepared.deliveries.push((arrival, hearing));
            }
        }
        Ok(prepared)
    }
}

fn started(id: RunId, workflow: &Arc<Workflow>, current: &Current, group: Group, now: Timestamp) -> NewRun {
    let Group { events, label, generation, .. } = group;
    let names: Vec<String> = events.iter().map(|event| format!("{} {}", event.source, event.id)).collect();
    let is_lifecycle = events.iter().any(|event| lifecycle::is_one(&event.kind));
    let word = if is_lifecycle { lifecycle::TRIGGER } else { "event" };
    NewRun {
        id,
        workflow: Arc::clone(workflow),
        bundle: current.bundle,
        trigger: format!("{word} {}", names.join(", ")),
        subject: events.iter().find_map(|event| event.subject.clone()),
        input: trigger::input(workflow, &events).into(),
        label,
        generation,
        at: now,
    }
}

fn groups_of(connection: &Connection, workflow: &str) -> rusqlite::Result<Groups> {
    let text: Option<String> = connection
        .prepare_cached("SELECT groups FROM gathering WHERE workflow = ?1")?
        .query_row([workflow], |row| row.get(0))
        .optional()?;
    text.map_or_else(|| Ok(Groups::default()), |text| read_json(&text))
}

fn write(
    tx: &mut store::Transaction<'_>,
    prepared: &Prepared,
    emitted: &[i64],
    now: Timestamp,
) -> Result<(), store::Error> {
    for (event, entry) in &prepared.findings {
        if journal::insert_finding(tx.connection(), event, now)? {
            tx.append(entry)?;
        }
    }
    let connection = tx.connection();
    for run in &prepared.runs {
        journal::insert(connection, run)?;
    }
    for (workflow, groups) in &prepared.groups {
        connection
            .prepare_cached("INSERT OR REPLACE INTO gathering (workflow, groups) VALUES (?1, ?2)")?
            .execute(params![workflow, journal::json(groups)])?;
    }
    for (arrival, runs) in &prepared.deliveries {
        listen::deliver(connection, arrival, runs, now)?;
    }
    for seq in emitted {
        connection.prepare_cached("DELETE FROM emitted WHERE seq = ?1")?.execute([seq])?;
    }
    for (workflow, group) in &prepared.given_up {
        let count = group.events.len() as u64;
        withheld::count(tx.connection(), workflow, Why::Group, count, now)?;
        tx.append(&withheld::entry(workflow, None, Why::Group, count, &named(group), now))?;
    }
    Ok(())
}

/// Which events these are, as far as a line holds them.
fn named(group: &Group) -> String {
    let names: Vec<String> =
        group.events.iter().take(NAMED_MAX).map(|event| format!("{} {}", event.source, event.id)).collect();
    let more = group.events.len().saturating_sub(NAMED_MAX);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}
