//! Runs of runs: `run: workflow`. The child is named after the asking, so asking again finds the one that is there. Its
//! end makes the parent ask once more, and that finds the outcome; nothing else passes between the two.

use std::sync::Arc;

use edge_core::engine::{
    Usage,
    effect::{Ask, Call, Completion, Error, Failure, kind},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    digest::Digest,
    id::RunId,
    label::Label,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
    workflow::Workflow,
};

use super::{
    catalog::Home,
    journal::{self, NewRun, read_json},
    perform::Outcome,
    runner::Inner,
};
use crate::store;

/// How deep workflows may run each other. Each level waits for the one below, so a workflow that runs itself would
/// otherwise never come to an end.
const DEPTH_MAX: i64 = 16;

/// Open runs that go back to the same one, itself among them. What runs itself twice would be sixty thousand at that depth.
const FAMILY_MAX: i64 = 1_000;

/// Versions of one workflow that are looked through for the wanted one.
const VERSIONS_MAX: i64 = 64;

/// What `run: workflow` asks for.
#[derive(Deserialize)]
struct Wanted {
    namespace: String,
    name: String,
    version: String,
    #[serde(default)]
    input: Option<Value>,
    #[serde(rename = "await")]
    is_awaited: bool,
    /// Whether whoever asks wants to know what the models took that it called.
    #[serde(default, rename = "usage")]
    tells_usage: bool,
}

/// Where a child stands.
enum Child {
    /// It runs; its end asks again.
    Open,
    Ended(Box<Ended>),
    TooDeep,
    TooMany,
}

struct Ended {
    status: String,
    output: Value,
    error: Option<Error>,
    label: Label,
}

impl Ended {
    /// The output, or the error: the task that runs the workflow is what failed here.
    fn came_to(self, run: RunId) -> Result<Value, Error> {
        let Self { status, output, error, .. } = self;
        if status == "completed" {
            return Ok(output);
        }
        let told = || Error::new(kind::RUNTIME, format!("the run {run} of the workflow was {status}"));
        Err(Error { instance: None, ..error.unwrap_or_else(told) })
    }
}

/// The run that answers this asking.
pub(super) fn id_of(call: &Call, ask: Ask) -> RunId {
    RunId::derive(call.asked_at, seed(call, ask).as_bytes())
}

/// What an asking is known by for ever. A retried run keeps the keys of the run before it, so that nothing outside happens
/// twice; what is its own, a child or a question, must not be the one of that run, which has ended.
pub(super) fn seed(call: &Call, ask: Ask) -> String {
    let (key, run) = (&call.key.0, call.run.to_string());
    if key.starts_with(&run) { format!("{key}#{ask}") } else { format!("{key}#{ask}@{run}") }
}

impl Inner {
    /// Starts the child, or finds what became of it. `None`: it is under way.
    pub(super) async fn run_child(self: &Arc<Self>, ask: Ask, call: &Call) -> Option<Result<Outcome, Failure>> {
        let wanted: Wanted = match call.arguments() {
            Ok(wanted) => wanted,
            Err(failure) => return Some(Err(failure)),
        };
        let (id, is_awaited, tells_usage) = (id_of(call, ask), wanted.is_awaited, wanted.tells_usage);
        // Policy is asked about what is to begin; what became of it may be looked at.
        let child = match self.store.read("look for a run of a run", move |c| look(c, id)).await {
            Ok(Some(child)) => child,
            Ok(None) => match self.begin_child(id, ask, call, wanted).await? {
                Ok(child) => child,
                Err(failure) => return Some(Err(failure)),
            },
            Err(error) => return Some(Err(not_looked_up(&error))),
        };
        let done = |output: Value, label: Label| Ok(Outcome::Done(Completion { output, label, facts: Vec::new() }));
        match child {
            Child::TooDeep => {
                let detail = format!("workflows run each other more than {DEPTH_MAX} deep");
                Some(Err(Failure::new(kind::LIMIT, detail)))
            }
            Child::TooMany => {
                let detail = format!("{FAMILY_MAX} runs that go back to the same one are open already");
                Some(Err(Failure::new(kind::LIMIT, detail)))
            }
            _ if !is_awaited => Some(done(json!({ "run": id.to_string() }), call.label.clone())),
            Child::Open => None,
            Child::Ended(ended) if tells_usage => {
                let used = match self.store.read("sum up what models took", move |c| usage(c, id)).await {
                    Ok(used) => used,
                    Err(error) => return Some(Err(not_looked_up(&error))),
                };
                let label = ended.label.clone();
                Some(done(
                    match ended.came_to(id) {
                        Ok(output) => json!({ "output": output, "usage": used }),
                        Err(error) => json!({ "error": error, "usage": used }),
                    },
                    label,
                ))
            }
            Child::Ended(ended) => {
                let label = ended.label.clone();
                // The error may quote what the child was given.
                Some(match ended.came_to(id) {
                    Ok(output) => done(output, label),
                    Err(error) => Err(Failure { label, ..error.into() }),
                })
            }
        }
    }

    /// Writes the child down, if policy lets this workflow, or its agent, start that one.
    async fn begin_child(
        self: &Arc<Self>,
        id: RunId,
        ask: Ask,
        call: &Call,
        wanted: Wanted,
    ) -> Option<Result<Child, Failure>> {
        let workflow = match self.version_of(&wanted).await {
            Ok(Some(found)) => found,
            Ok(None) => return Some(Err(self.unknown(&wanted))),
            Err(error) => return Some(Err(not_looked_up(&error))),
        };
        let facts = match self.performer.may_start(call, &workflow.definition().qualified_name()) {
            Ok(facts) => facts,
            Err(failure) => return Some(Err(failure)),
        };
        let at = self.clock.now();
        let (parent, task) = (call.run, call.task.clone());
        let entry = |fact| Entry { at, run: Some(parent), task: Some(task.clone()), fact };
        let entries: Arc<Vec<Entry>> = Arc::new(facts.into_iter().map(entry).collect());
        let run = Arc::new(NewRun {
            id,
            workflow,
            bundle: self.catalog.current().bundle,
            trigger: format!("run {}", call.run),
            subject: None,
            input: wanted.input.unwrap_or_else(|| json!({})).into(),
            label: call.label.clone(),
            generation: 0,
            at,
        });
        let child = self
            .insist("start a run of a run", || {
                let (run, entries) = (Arc::clone(&run), Arc::clone(&entries));
                move |tx: &mut store::Transaction<'_>| begin(tx, &run, parent, ask, &entries)
            })
            .await?;
        self.bell.starts();
        Some(Ok(child))
    }

    fn unknown(&self, wanted: &Wanted) -> Failure {
        let current = self.catalog.current();
        let version_of = |workflow: &Workflow| workflow.definition().document.version.clone();
        let known = current.workflows.iter().map(|(name, workflow)| format!("{name}:{}", version_of(workflow)));
        let known: Vec<String> = known.collect();
        let place = match current.home {
            Home::Folder => "here: expected it in the folder of the document".to_owned(),
            Home::Node if known.is_empty() => "on this node; it has none".to_owned(),
            Home::Node => format!("on this node; it has {}", known.join(", ")),
        };
        let Wanted { namespace, name, version, .. } = wanted;
        Failure::new(kind::CONFIGURATION, format!("there is no workflow {namespace}/{name}:{version} {place}"))
    }

    /// The workflow that is meant: the one that new runs start from, or an older version that the store has.
    async fn version_of(&self, wanted: &Wanted) -> Result<Option<Arc<Workflow>>, store::Error> {
        let name = format!("{}/{}", wanted.namespace, wanted.name);
        let version = wanted.version.clone();
        let fits = move |workflow: &Workflow| version == "latest" || workflow.definition().document.version == version;
        if let Some(workflow) = self.catalog.current().workflows.get(&name).filter(|workflow| fits(workflow)) {
            return Ok(Some(Arc::clone(workflow)));
        }
        let older = move |connection: &Connection| {
            let mut statement =
                connection.prepare_cached("SELECT digest, text FROM workflow WHERE name = ?1 LIMIT ?2")?;
            let rows = statement.query_map(params![name, VERSIONS_MAX], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        let older = self.store.read("find a version of a workflow", older).await?;
        for (digest, text) in older {
            let known = digest.parse::<Digest>().ok().and_then(|digest| self.catalog.version(digest));
            let workflow = known.or_else(|| Workflow::parse("stored workflow", &text).ok().map(Arc::new));
            if let Some(workflow) = workflow.filter(|workflow| fits(workflow)) {
                self.catalog.pin(&workflow);
                return Ok(Some(workflow));
            }
        }
        Ok(None)
    }
}

fn not_looked_up(error: &store::Error) -> Failure {
    Failure::new(kind::RUNTIME, format!("the workflow cannot be looked up: {error}"))
}

/// Writes the child down if it is not there, with what policy said of it, and says where it stands. What its parent goes
/// back to, the child does.
fn begin(
    tx: &mut store::Transaction<'_>,
    run: &NewRun,
    parent: RunId,
    ask: Ask,
    entries: &[Entry],
) -> Result<Child, store::Error> {
    let connection = tx.connection();
    if let Some(child) = look(connection, run.id)? {
        return Ok(child);
    }
    let above: Option<(i64, u32)> = connection
        .prepare_cached("SELECT depth, generation FROM run WHERE id = ?1")?
        .query_row([parent.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (depth, generation) = above.unwrap_or_default();
    if depth >= DEPTH_MAX {
        journal::append(tx, entries)?;
        return Ok(Child::TooDeep);
    }
    if family(connection, parent)? >= FAMILY_MAX {
        journal::append(tx, entries)?;
        return Ok(Child::TooMany);
    }
    journal::insert(connection, run)?;
    connection
        .prepare_cached("UPDATE run SET parent = ?2, parent_ask = ?3, depth = ?4, generation = ?5 WHERE id = ?1")?
        .execute(params![run.id.to_string(), parent.to_string(), ask.0, depth + 1, generation])?;
    journal::append(tx, entries)?;
    Ok(Child::Open)
}

/// What the models took that a run called, and the runs that go back to it.
fn usage(connection: &Connection, run: RunId) -> rusqlite::Result<Usage> {
    let sql = "WITH RECURSIVE family(id) AS (\
               SELECT ?1 UNION SELECT run.id FROM run JOIN family ON run.parent = family.id) \
             SELECT body FROM family JOIN ledger_of_run ON run = family.id WHERE +fact = 'model-called'";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([run.to_string()])?;
    let mut sum = Usage::default();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_blob()?;
        let entry: Entry = serde_json::from_slice(body).map_err(unreadable)?;
        if let Fact::ModelCalled { tokens_in, tokens_out, cost_micro_usd, .. } = entry.fact {
            sum.add(Usage { tokens_in, tokens_out, cost_usd: cost_micro_usd as f64 / 1e6 });
        }
    }
    Ok(sum)
}

fn unreadable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
}

/// How many runs are open that go back to the same one as this, counted up to the bound.
fn family(connection: &Connection, run: RunId) -> rusqlite::Result<i64> {
    let sql = "WITH RECURSIVE above(id, parent) AS (\
               SELECT id, parent FROM run WHERE id = ?1 \
               UNION ALL SELECT run.id, run.parent FROM run JOIN above ON run.id = above.parent), \
             family(id) AS (\
               SELECT id FROM above WHERE parent IS NULL \
               UNION ALL SELECT run.id FROM run JOIN family ON run.parent = family.id WHERE run.ended_at IS NULL) \
             SELECT count(*) FROM (SELECT 1 FROM family LIMIT ?2)";
    connection.prepare_cached(sql)?.query_row(params![run.to_string(), FAMILY_MAX], |row| row.get(0))
}

fn look(connection: &Connection, run: RunId) -> rusqlite::Result<Option<Child>> {
    let row = connection
        .prepare_cached("SELECT status, output, error, label FROM run WHERE id = ?1")?
        .query_row([run.to_string()], |row| {
            let json = |column: usize| row.get::<_, Option<String>>(column)?.map(|text| read_json(&text)).transpose();
            let error = row.get::<_, Option<String>>(2)?.map(|text| read_json::<Error>(&text)).transpose();
            let label: Label = read_json(row.get_ref(3)?.as_str()?)?;
            Ok((row.get::<_, String>(0)?, json(1)?.unwrap_or(Value::Null), error?, label))
        })
        .optional()?;
    Ok(row.map(|(status, output, error, label)| match status.as_str() {
        "completed" | "faulted" | "cancelled" => Child::Ended(Box::new(Ended { status, output, error, label })),
        _ => Child::Open,
    }))
}

/// Marks the children of askings that nobody waits for any more: they are to end, whenever the node is killed.
pub(super) fn withdraw(connection: &Connection, parent: RunId, ask: Ask, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE run SET wanted = 'cancel', changed_at = ?3 WHERE parent = ?1 AND parent_ask = ?2 \
             AND ended_at IS NULL",
        )?
        .execute(params![parent.to_string(), ask.0, now.as_micros()])?;
    Ok(())
}
