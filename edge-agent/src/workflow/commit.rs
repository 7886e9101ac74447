//! One step on its way to the disk: what it writes, made ready by who decided it, and written by the one writer.

use std::sync::Arc;

use edge_core::{
    engine::{
        Ending, Interest, Phase, RUN_WORKFLOW, Record, State,
        effect::{Ask, Call},
        waits::waits,
    },
    hear::Arrival,
};
use rusqlite::{Connection, params};
use serde_json::Value;
use shared::{event::Event, id::RunId, label::Label, ledger::entry::Entry, time::Timestamp};

use super::{
    approval, child, episodes, facts,
    journal::{NewRun, json},
    listen::{self, Heard},
    outlet,
    runner::Inner,
    schedule,
    withheld::{self, Why},
};
use crate::store::{Error, Leaf, Transaction};

/// What one step writes.
pub(super) struct Commit {
    pub run: RunId,
    /// `namespace/name`.
    pub workflow: String,
    pub seq: i64,
    pub now: Timestamp,
    pub records: Vec<Record>,
    pub entries: Vec<Entry>,
    pub summary: Summary,
    pub answered: Vec<Ask>,
    pub asked: Vec<(Ask, Arc<Call>)>,
    pub withdrawn: Vec<Ask>,
    /// Questions to people whose time has moved, because the run rested.
    pub put_off: Vec<(Ask, Option<Timestamp>)>,
    pub emitted: Vec<Arrival>,
    /// Lifecycle events that go out.
    pub told: Vec<Event>,
    /// Of the run, after the step.
    pub generation: u32,
    /// Lifecycle events that somebody waits for, and that are not made because they would never end.
    pub withheld: u64,
    /// What the run listens for, if that has changed.
    pub interests: Option<Vec<Interest>>,
    /// What of its inbox this step decided about.
    pub heard: Option<Heard>,
    /// When the workflow starts again because this run has ended.
    pub next_start: Option<Timestamp>,
    /// Whether what became of the run is kept.
    pub is_episode: bool,
}

/// A step as it will be written. What can be made before is made before: whoever decides runs beside others, and there is
/// one writer.
pub(super) struct Ready {
    commit: Commit,
    run: String,
    /// For a run that is written down with its first step: what its row holds from then on.
    birth: Option<Birth>,
    records: Option<String>,
    label: String,
    output: Option<String>,
    error: Option<String>,
    leaves: Vec<Leaf>,
}

impl Ready {
    pub fn of(commit: Commit) -> Self {
        let summary = &commit.summary;
        Self {
            run: commit.run.to_string(),
            birth: None,
            records: (!commit.records.is_empty()).then(|| json(&commit.records)),
            label: json(&summary.label),
            output: summary.output.as_deref().map(Value::to_string),
            error: summary.error.as_ref().map(Value::to_string),
            leaves: commit.entries.iter().map(Leaf::of).collect(),
            commit,
        }
    }

    /// The first step of a run that is not on the disk yet.
    pub fn first(commit: Commit, run: &NewRun) -> Self {
        Self { birth: Some(Birth::of(run)), ..Self::of(commit) }
    }

    /// The run's generation after the step.
    pub const fn generation(&self) -> u32 {
        self.commit.generation
    }
}

impl Inner {
    /// Wakes those who go on with what a step left on the disk for them.
    pub(super) fn ring_for(&self, Ready { commit, .. }: &Ready) {
        if !commit.emitted.is_empty() {
            self.bell.events();
        }
        if !commit.told.is_empty() {
            self.outlet.ring();
        }
        if commit.is_episode {
            self.episodes.ring();
        }
    }
}

/// What of a run's row never changes.
struct Birth {
    version: String,
    definition: String,
    bundle: String,
    trigger: String,
    subject: Option<String>,
    input: String,
    at: Timestamp,
}

impl Birth {
    fn of(run: &NewRun) -> Self {
        Self {
            version: run.workflow.definition().document.version.clone(),
            definition: run.workflow.digest().to_string(),
            bundle: run.bundle.to_string(),
            trigger: run.trigger.clone(),
            subject: run.subject.clone(),
            input: run.written_input(),
            at: run.at,
        }
    }
}

/// The run's row after the step.
pub(super) struct Summary {
    pub status: &'static str,
    pub wake_at: Option<Timestamp>,
    pub label: Label,
    pub task: Option<String>,
    pub note: Option<String>,
    pub output: Option<Arc<Value>>,
    pub error: Option<Value>,
    pub has_ended: bool,
    pub suspended: Option<Timestamp>,
}

/// What became of a step.
pub(super) enum Written {
    Done,
    /// A person answered in the meantime: nothing of the step was written, and the answer comes first.
    Overtaken {
        ask: Ask,
        output: Value,
    },
}

impl Summary {
    pub fn of(state: &State, more: bool) -> Self {
        let at = state.at().map(str::to_owned).collect::<Vec<_>>();
        let task = (!at.is_empty()).then(|| at.join(", "));
        let mut summary = Self {
            status: "running",
            wake_at: state.wake_at(),
            label: state.label().clone(),
            task,
            note: None,
            output: None,
            error: None,
            has_ended: false,
            suspended: state.suspended(),
        };
        match state.phase() {
            Phase::Ended { ending, output, error } => {
                summary.status = facts::ending_word(*ending);
                summary.output.clone_from(output);
                summary.error = error.as_ref().map(|error| error.to_value());
                summary.note = error.as_ref().map(|error| {
                    let what = error.detail.as_deref().or(error.title.as_deref()).unwrap_or(&error.kind);
                    format!("{} {what}", error.status)
                });
                summary.has_ended = true;
                debug_assert!(*ending != Ending::Faulted || summary.error.is_some());
            }
            _ if !more => {
                if state.asked().all(|(_, call)| matches!(call.function.as_str(), "approve" | RUN_WORKFLOW)) {
                    summary.status = "waiting";
                }
                summary.note = waits(state);
            }
            _ => {}
        }
        summary
    }
}

/// Writes a step: records, ledger, outbox and the run's row, or nothing at all.
pub(super) fn write(tx: &mut Transaction<'_>, ready: &Ready) -> Result<Written, Error> {
    let (commit, run) = (&ready.commit, ready.run.as_str());
    // Before anything is written: an answer that came first undoes none of it.
    for ask in &commit.withdrawn {
        if let Some(output) = approval::answer_of(tx.connection(), commit.run, *ask)? {
            return Ok(Written::Overtaken { ask: *ask, output });
        }
    }
    for ask in &commit.withdrawn {
        child::withdraw(tx.connection(), commit.run, *ask, commit.now)?;
    }
    for (ask, deadline) in &commit.put_off {
        approval::put_off(tx.connection(), commit.run, *ask, *deadline)?;
    }
    if let Some(heard) = commit.heard {
        listen::decided(tx, commit.run, heard, commit.now)?;
    }
    if commit.summary.has_ended {
        listen::forget(tx, commit.run, commit.now)?;
    }
    let connection = tx.connection();
    match &ready.birth {
        Some(birth) => insert_row(connection, ready, birth)?,
        None => update_row(connection, ready)?,
    }
    if let Some(records) = &ready.records {
        connection
            .prepare_cached("INSERT INTO run_step (run, seq, at, records) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![run, commit.seq, commit.now.as_micros(), records])?;
    }
    for ask in commit.answered.iter().chain(&commit.withdrawn) {
        connection.prepare_cached("DELETE FROM outbox WHERE run = ?1 AND ask = ?2")?.execute(params![run, ask.0])?;
    }
    for (ask, call) in &commit.asked {
        connection
            .prepare_cached("INSERT INTO outbox (run, ask, key, function, asked_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![run, ask.0, call.key.0, call.function, call.asked_at.as_micros()])?;
    }
    if let Some(interests) = &commit.interests {
        listen::set_interests(connection, commit.run, interests)?;
    }
    if let Some(at) = commit.next_start {
        schedule::ended(connection, &commit.workflow, at)?;
    }
    if commit.is_episode {
        episodes::note(connection, run)?;
    }
    outlet::write(connection, &commit.told, &commit.summary.label)?;
    for Arrival { event, label, generation } in &commit.emitted {
        connection
            .prepare_cached("INSERT INTO emitted (event, label, generation) VALUES (?1, ?2, ?3)")?
            .execute(params![json(event), json(label), generation])?;
    }
    if commit.withheld > 0 {
        withheld::count(connection, &commit.workflow, Why::Loop, commit.withheld, commit.now)?;
    }
    let expired = commit.withdrawn.iter().map(|ask| approval::expire(connection, commit.run, *ask, commit.now));
    let expired: Vec<Entry> = expired.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    for leaf in &ready.leaves {
        tx.append_leaf(leaf)?;
    }
    for entry in &expired {
        tx.append(entry)?;
    }
    Ok(Written::Done)
}

fn insert_row(connection: &Connection, ready: &Ready, birth: &Birth) -> rusqlite::Result<()> {
    let (commit, summary) = (&ready.commit, &ready.commit.summary);
    connection
        .prepare_cached(
            "INSERT INTO run (id, workflow, version, definition, bundle, trigger, subject, input, created_at, status, \
             changed_at, ended_at, wake_at, steps, label, task, note, output, error, generation) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )?
        .execute(params![
            ready.run,
            commit.workflow,
            birth.version,
            birth.definition,
            birth.bundle,
            birth.trigger,
            birth.subject,
            birth.input,
            birth.at.as_micros(),
            summary.status,
            commit.now.as_micros(),
            summary.has_ended.then_some(commit.now.as_micros()),
            summary.wake_at.map(Timestamp::as_micros),
            commit.seq + 1,
            ready.label,
            summary.task,
            summary.note,
            ready.output,
            ready.error,
            commit.generation,
        ])?;
    Ok(())
}

fn update_row(connection: &Connection, ready: &Ready) -> rusqlite::Result<()> {
    let (commit, summary) = (&ready.commit, &ready.commit.summary);
    connection
        .prepare_cached(
            "UPDATE run SET status = ?2, changed_at = ?3, ended_at = ?4, wake_at = ?5, steps = ?6, label = ?7, task = ?8, \
             note = ?9, output = ?10, error = ?11, suspended_at = ?12, generation = ?13 WHERE id = ?1",
        )?
        .execute(params![
            ready.run,
            summary.status,
            commit.now.as_micros(),
            summary.has_ended.then_some(commit.now.as_micros()),
            summary.wake_at.map(Timestamp::as_micros),
            commit.seq + 1,
            ready.label,
            summary.task,
            summary.note,
            ready.output,
            ready.error,
            summary.suspended.map(Timestamp::as_micros),
            commit.generation,
        ])?;
    Ok(())
}
