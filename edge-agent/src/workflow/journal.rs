//! Where a run is written down: its beginning, its steps, what it asks of the world.

use std::{collections::BTreeSet, sync::Arc};

use edge_core::engine::{Record, State, effect::Ask, limit};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;
use shared::{
    digest::Digest, event::Event, id::RunId, label::Label, ledger::entry::Entry, time::Timestamp, workflow::Workflow,
};

use super::{catalog::Catalog, facts};
use crate::store::{Error, Transaction};

/// Runs that have not ended, in the words of the index over them: SQLite uses an index over some rows only where the same
/// words say that no others are meant.
pub(super) const OPEN: &str = "status IN ('pending', 'running', 'waiting')";

/// Bytes to begin with, so that a text does not grow piece by piece.
const JSON_LEN: usize = 512;

/// A run that is to begin.
pub(super) struct NewRun {
    pub id: RunId,
    pub workflow: Arc<Workflow>,
    pub bundle: Digest,
    pub trigger: String,
    pub subject: Option<String>,
    pub input: Arc<Value>,
    pub label: Label,
    pub generation: u32,
    pub at: Timestamp,
}

/// A run in memory.
pub(super) struct Loaded {
    pub state: State,
    pub origin: Arc<facts::Origin>,
    /// How many steps are on the disk.
    pub steps: i64,
    /// Whether its decisions take long, so that they are made where they hold nobody up.
    pub is_slow: bool,
    /// What is asked and parked until a time.
    pub parked: BTreeSet<Ask>,
    /// What the run begins with, as long as it has not.
    pub beginning: Option<(Arc<Value>, Label)>,
    /// The run that runs this one, and its asking.
    pub parent: Option<(RunId, Ask)>,
    /// How many lifecycle events lie between it and what came from outside.
    pub generation: u32,
}

/// What stands for an input that no run may begin with; no other is written so.
const TOO_LARGE: &str = " \"larger than a run may carry\"";

/// The input that a run begins with. One that was too large is so still, and the run faults by it.
fn read_input(written: &str) -> rusqlite::Result<Value> {
    if written == TOO_LARGE { Ok(Value::String(" ".repeat(limit::VALUE_BYTES_MAX))) } else { read_json(written) }
}

impl NewRun {
    /// The input as it is written. A larger one makes the run fault at its first step; the store need not hold it until then.
    pub fn written_input(&self) -> String {
        if limit::fits(&self.input) { self.input.to_string() } else { TOO_LARGE.to_owned() }
    }
}

impl Loaded {
    /// A run that nobody has written down yet, as it would be read.
    pub fn unwritten(run: &NewRun) -> Self {
        let origin = facts::Origin {
            workflow: run.workflow.definition().qualified_name(),
            version: run.workflow.definition().document.version.clone(),
            bundle: run.bundle,
            trigger: run.trigger.clone(),
        };
        Self {
            state: State::new(run.id, Arc::clone(&run.workflow)),
            origin: Arc::new(origin),
            steps: 0,
            is_slow: false,
            parked: BTreeSet::new(),
            beginning: Some((Arc::clone(&run.input), run.label.clone())),
            parent: None,
            generation: run.generation,
        }
    }
}

/// Writes down that a run is to begin. `false`: it was there already.
pub(super) fn insert(connection: &Connection, run: &NewRun) -> rusqlite::Result<bool> {
    let document = &run.workflow.definition().document;
    let inserted = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO run (id, workflow, version, definition, bundle, trigger, subject, input, label, \
             status, created_at, changed_at, generation) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'pending', ?10, ?10, ?11)",
        )?
        .execute(params![
            run.id.to_string(),
            run.workflow.definition().qualified_name(),
            document.version,
            run.workflow.digest().to_string(),
            run.bundle.to_string(),
            run.trigger,
            run.subject,
            run.written_input(),
            json(&run.label),
            run.at.as_micros(),
            run.generation,
        ])?;
    Ok(inserted > 0)
}

/// Writes a workflow's text, so that its runs can always be read.
pub(super) fn insert_workflow(connection: &Connection, workflow: &Workflow) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO workflow (digest, name, text) VALUES (?1, ?2, ?3)")?
        .execute(params![workflow.digest().to_string(), workflow.definition().qualified_name(), workflow.text()])?;
    Ok(())
}

/// Reads a run and folds its records. `None`: there is no such run.
pub(super) fn load(connection: &Connection, catalog: &Catalog, run: RunId) -> rusqlite::Result<Option<Loaded>> {
    let row = connection
        .prepare_cached(
            "SELECT workflow, version, definition, bundle, trigger, input, label, status, steps, parent, parent_ask, \
             generation FROM run WHERE id = ?1",
        )?
        .query_row([run.to_string()], |row| {
            Ok((
                (row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?),
                (row.get::<_, String>(3)?, row.get::<_, String>(4)?, row.get::<_, String>(5)?),
                (row.get::<_, String>(6)?, row.get::<_, String>(7)?, row.get::<_, i64>(8)?),
                (row.get::<_, Option<String>>(9)?, row.get::<_, Option<u32>>(10)?),
                row.get::<_, u32>(11)?,
            ))
        })
        .optional()?;
    let Some((names, (bundle, trigger, input), (label, status, steps), parent, generation)) = row else {
        return Ok(None);
    };
    let (workflow, version, definition) = names;
    let parent = match parent {
        (Some(run), Some(ask)) => Some((run.parse().map_err(|error| unreadable(&error))?, Ask(ask))),
        _ => None,
    };
    let bundle = bundle.parse().map_err(|error| unreadable(&error))?;
    let pinned = pinned(connection, catalog, &definition)?;
    let mut state = State::new(run, pinned);
    let mut statement = connection.prepare_cached("SELECT records FROM run_step WHERE run = ?1 ORDER BY seq")?;
    let mut rows = statement.query([run.to_string()])?;
    while let Some(row) = rows.next()? {
        let records: Vec<Record> = read_json(row.get_ref(0)?.as_str()?)?;
        records.iter().for_each(|record| state.apply(record));
    }
    // Said in SQL, the condition would make SQLite think of another index, and with it compile the query anew each time.
    let parked = connection
        .prepare_cached("SELECT ask, ask_again_at IS NOT NULL FROM outbox WHERE run = ?1")?
        .query_map([run.to_string()], |row| Ok((Ask(row.get(0)?), row.get(1)?)))?
        .filter_map(|asked| asked.map(|(ask, is_parked): (_, bool)| is_parked.then_some(ask)).transpose())
        .collect::<Result<_, _>>()?;
    let beginning = match status.as_str() {
        "pending" => Some((Arc::new(read_input(&input)?), read_json(&label)?)),
        _ => None,
    };
    let origin = Arc::new(facts::Origin { workflow, version, bundle, trigger });
    Ok(Some(Loaded { state, origin, steps, is_slow: false, parked, beginning, parent, generation }))
}

pub(super) fn pinned(connection: &Connection, catalog: &Catalog, digest: &str) -> rusqlite::Result<Arc<Workflow>> {
    let parsed = digest.parse().map_err(|error| unreadable(&error))?;
    if let Some(workflow) = catalog.version(parsed) {
        return Ok(workflow);
    }
    let text: String = connection
        .prepare_cached("SELECT text FROM workflow WHERE digest = ?1")?
        .query_row([digest], |row| row.get(0))?;
    let workflow = Workflow::parse("stored workflow", &text).map_err(|problems| unreadable(&problems))?;
    let workflow = Arc::new(workflow);
    catalog.pin(&workflow);
    Ok(workflow)
}

/// Parks an effect until a time. `true`: it was not parked before, so the ledger should say so.
pub(super) fn park(
    connection: &Connection,
    run: RunId,
    ask: Ask,
    until: Timestamp,
    why: &str,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let id = run.to_string();
    let first: Option<bool> = connection
        .prepare_cached("SELECT ask_again_at IS NULL FROM outbox WHERE run = ?1 AND ask = ?2")?
        .query_row(params![id, ask.0], |row| row.get(0))
        .optional()?;
    connection.prepare_cached("UPDATE outbox SET ask_again_at = ?3 WHERE run = ?1 AND ask = ?2")?.execute(params![
        id,
        ask.0,
        until.as_micros()
    ])?;
    connection
        .prepare_cached("UPDATE run SET status = 'waiting', note = ?2, changed_at = ?3 WHERE id = ?1")?
        .execute(params![id, format!("parked until {until}: {why}"), now.as_micros()])?;
    Ok(first == Some(true))
}

/// Parked effects that are made due together.
const UNPARKED_MAX: i64 = 500;

/// Makes some of what is parked until later due now; says which.
pub(super) fn unpark(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<(RunId, Ask)>> {
    let sql = "UPDATE outbox SET ask_again_at = ?1 WHERE (run, ask) IN (SELECT run, ask FROM outbox \
               WHERE ask_again_at > ?1 ORDER BY ask_again_at LIMIT ?2) RETURNING run, ask";
    let read = |row: &rusqlite::Row<'_>| {
        let run = row.get_ref(0)?.as_str()?.parse().map_err(|error| unreadable(&error))?;
        Ok((run, Ask(row.get(1)?)))
    };
    connection.prepare_cached(sql)?.query_map(params![now.as_micros(), UNPARKED_MAX], read)?.collect()
}

/// The latest instant that any run has recorded.
pub(super) fn latest(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let sql = "SELECT max(changed_at) FROM run";
    let latest: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(Timestamp::from_micros(latest.unwrap_or(i64::MIN)))
}

/// Appends what the ledger must say of an outcome that nobody waits for any more.
pub(super) fn append(tx: &mut Transaction<'_>, entries: &[Entry]) -> Result<(), Error> {
    for entry in entries {
        tx.append(entry)?;
    }
    Ok(())
}

/// How many runs are yet to begin, counted up to `enough`.
pub(super) fn pending(connection: &Connection, enough: i64) -> rusqlite::Result<i64> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM run WHERE {OPEN} AND status = 'pending' LIMIT ?1)");
    connection.prepare_cached(&sql)?.query_row([enough], |row| row.get(0))
}

/// Takes a finding, once. `true`: it is new.
pub(super) fn insert_finding(connection: &Connection, event: &Event, now: Timestamp) -> rusqlite::Result<bool> {
    let inserted = connection
        .prepare_cached("INSERT OR IGNORE INTO finding (source, id, at, event) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![event.source, event.id, now.as_micros(), json(event)])?;
    Ok(inserted > 0)
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    let mut text = Vec::with_capacity(JSON_LEN);
    serde_json::to_writer(&mut text, value).expect("what a run remembers is plain data");
    String::from_utf8(text).expect("JSON is UTF-8")
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// The store holds something that this version cannot read.
pub(super) fn unreadable(error: &dyn std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.to_string().into())
}

/// Whether the store holds something that will not become readable by waiting.
pub(super) fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType, QueryReturnedNoRows};
    matches!(error, FromSqlConversionFailure(..) | InvalidColumnType(..) | QueryReturnedNoRows)
}
