//! Ended runs as episodes: where a workflow's `document.metadata.episodes` says so, the end of a run is noted in the transaction that ends it, and
//! what happened in it is given to the memory afterwards, as a `remember` of the workflow: policy is asked for it, and it is in the ledger. The
//! run's id is the episode's, so that one that is given twice, because the node died in between, is one.

use std::{panic::AssertUnwindSafe, time::Duration};

use edge_core::engine::{
    effect::{Call, EffectKey, Failure, kind},
    history::TaskStatus,
};
use futures::FutureExt as _;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use shared::{
    id::RunId,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
    workflow::{Workflow, definition::Episodes},
};
use tokio::sync::Notify;

use super::{journal, perform::Outcome, runner::Inner};
use crate::store::{self, runs};

/// Runs that are looked at together.
const BATCH_LEN: i64 = 32;
/// How often one is given to a memory that cannot take it.
const TRIES_MAX: i64 = 5;
/// Between two tries, and when the store cannot be read.
const PAUSE: Duration = Duration::from_secs(10);
/// Tasks of a path that are told; of a longer one the first and the last.
const PATH_MAX: usize = 64;
/// What an episode tells of an output or an error, and of a situation that nobody put into words: an example is short.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Told when an end was noted.
#[derive(Default)]
pub(super) struct Bell(Notify);

impl Bell {
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// Whether the runs of a workflow are kept.
pub(super) fn wanted(workflow: &Workflow) -> bool {
    // One that cannot be read was not checked by this version: it is not kept.
    workflow.definition().document.episodes().is_ok_and(|episodes| episodes.is_some())
}

/// Notes that a run has ended of which an episode is to be kept.
pub(super) fn note(connection: &Connection, run: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR IGNORE INTO episode_due (run) VALUES (?1)")?.execute([run]).map(drop)
}

/// What became of one.
enum Kept {
    /// It is kept, or will never be: what the ledger says of it.
    Done(Vec<Fact>),
    Later,
}

impl Inner {
    /// Keeps episodes for as long as the node runs.
    pub(super) async fn keep_episodes(self: std::sync::Arc<Self>) {
        loop {
            match self.keep_some().await {
                Ok(true) => {}
                Ok(false) => self.episodes.0.notified().await,
                Err(store::Error::Closed { .. }) => return,
                Err(error) => {
                    tracing::error!(%error, "episodes wait for the store");
                    self.clock.pass(PAUSE).await;
                }
            }
        }
    }

    /// `true`: there may be more.
    async fn keep_some(&self) -> Result<bool, store::Error> {
        let due = self.store.read("find ended runs to keep", due).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let mut later = false;
        for (run, tries) in due {
            let kept = match self.store.read("read an ended run", move |c| call_of(c, run)).await? {
                Some(call) => self.keep_one(call, tries).await,
                None => Kept::Done(Vec::new()),
            };
            let at = self.clock.now();
            let write = move |tx: &mut store::Transaction<'_>| match kept {
                Kept::Done(facts) => {
                    let entry = |fact| Entry { at, run: Some(run), task: None, fact };
                    journal::append(tx, &facts.into_iter().map(entry).collect::<Vec<_>>())?;
                    tx.connection().execute("DELETE FROM episode_due WHERE run = ?1", [run.to_string()])?;
                    Ok(false)
                }
                Kept::Later => {
                    let sql = "UPDATE episode_due SET tries = tries + 1 WHERE run = ?1";
                    tx.connection().execute(sql, [run.to_string()])?;
                    Ok(true)
                }
            };
            later |= self.store.write("note what became of an episode", write).await?;
        }
        if later {
            self.clock.pass(PAUSE).await;
        }
        Ok(true)
    }

    async fn keep_one(&self, call: Call, tries: i64) -> Kept {
        let performed = AssertUnwindSafe(self.performer.perform(&call)).catch_unwind().await;
        let broke = |_| Err(Failure::new(kind::RUNTIME, "the room broke down, see the log"));
        match performed.unwrap_or_else(broke) {
            Ok(Outcome::Done(done)) => Kept::Done(done.facts),
            Ok(Outcome::Ask { facts, .. }) => Kept::Done(facts),
            Err(failure) => {
                let is_final = [kind::AUTHORIZATION.0, kind::VALIDATION.0].contains(&failure.error.kind.as_str());
                if !is_final && failure.error.status != kind::LIMIT.1 && tries + 1 < TRIES_MAX {
                    return Kept::Later;
                }
                let why = failure.error.detail.unwrap_or_default();
                tracing::warn!(run = %call.run, why, "what became of a run is not kept as an episode");
                Kept::Done(failure.facts)
            }
        }
    }
}

fn due(connection: &Connection) -> rusqlite::Result<Vec<(RunId, i64)>> {
    let mut query = connection.prepare_cached("SELECT run, tries FROM episode_due ORDER BY tries, run LIMIT ?1")?;
    let rows = query.query_map([BATCH_LEN], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let runs: Vec<(String, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(runs.into_iter().filter_map(|(run, tries)| Some((run.parse().ok()?, tries))).collect())
}

/// What is asked of the memory; `None` when the run is not there any more.
fn call_of(connection: &Connection, run: RunId) -> rusqlite::Result<Option<Call>> {
    let (Some(detail), Some((workflow, _))) = (runs::detail(connection, run)?, runs::path(connection, run)?) else {
        return Ok(None);
    };
    let Ok(Some(episodes)) = workflow.definition().document.episodes() else { return Ok(None) };
    let asked = answers(connection, run)?;
    let at = detail.summary.ended.unwrap_or(detail.summary.updated);
    Ok(Some(Call {
        key: EffectKey(format!("{run}:episode")),
        run,
        task: "/document/metadata/episodes".to_owned(),
        workflow: format!("{}:{}", detail.summary.workflow, detail.summary.version),
        function: "remember".to_owned(),
        input: input(&workflow, &episodes, &detail, &asked, at),
        label: detail.summary.label.clone(),
        deadline: None,
        agent: None,
        asked_at: at,
        ahead_us: 0,
    }))
}

/// A question that was put to people.
struct Answer {
    role: String,
    status: String,
    by: Option<String>,
    comment: Option<String>,
}

fn answers(connection: &Connection, run: RunId) -> rusqlite::Result<Vec<Answer>> {
    let sql = "SELECT role, status, by, comment FROM approval WHERE run = ?1 AND status <> 'pending' ORDER BY ask";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Answer { role: row.get(0)?, status: row.get(1)?, by: row.get(2)?, comment: row.get(3)? })
    };
    connection.prepare_cached(sql)?.query_map(params![run.to_string()], read)?.collect()
}

fn input(workflow: &Workflow, episodes: &Episodes, run: &runs::RunDetail, asked: &[Answer], at: Timestamp) -> Value {
    let evaluated = |text: &Option<String>| {
        let value = workflow.expressions().fill(&Value::from(text.as_deref()?), &run.input, &|_| None);
        value.inspect_err(|error| tracing::warn!(%error, run = %run.summary.run, "an episode lacks what it says")).ok()
    };
    let situation = evaluated(&episodes.situation).filter(|value| !text_of(value).trim().is_empty());
    let situation = situation.as_ref().unwrap_or(&run.input);
    let subject = evaluated(&episodes.subject).map(|value| text_of(&value)).or_else(|| run.summary.subject.clone());
    let mut input = json!({
        "kind": "episode",
        "id": run.summary.run,
        "text": beginning(&text_of(situation)),
        "outcome": outcome(run, asked),
        "details": details(run, asked, at),
    });
    let subject = subject.filter(|subject| !subject.is_empty());
    for (name, value) in [("index", &episodes.index), ("subject", &subject), ("keepFor", &episodes.keep_for)] {
        if let Some(value) = value {
            input[name] = value.as_str().into();
        }
    }
    input
}

/// A run that came to its end although the last person who was asked said no did not do what it was for.
fn outcome(run: &runs::RunDetail, asked: &[Answer]) -> String {
    let is_rejected = asked.last().is_some_and(|answer| answer.status == "rejected");
    match run.summary.status.as_str() {
        "completed" if is_rejected => "rejected".to_owned(),
        status => status.to_owned(),
    }
}

fn details(run: &runs::RunDetail, asked: &[Answer], at: Timestamp) -> Value {
    let mut path: Vec<&str> =
        run.tasks.iter().filter(|task| task.status != TaskStatus::Skipped).map(|task| task.name.as_str()).collect();
    if path.len() > PATH_MAX {
        path.splice(PATH_MAX / 2..path.len() - PATH_MAX / 2, ["..."]);
    }
    let answered = |answer: &Answer| {
        let by = answer.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let comment = answer.comment.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
        format!("{} {}{by}{comment}", answer.role, answer.status)
    };
    let mut details = json!({ "at": at, "version": run.summary.version, "path": path });
    if !asked.is_empty() {
        details["answers"] = asked.iter().map(answered).collect();
    }
    for (name, value) in [("output", &run.output), ("error", &run.error)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_null()) {
            details[name] = short(value);
        }
    }
    details
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The value, or the beginning of its text where it is long.
fn short(value: &Value) -> Value {
    let text = text_of(value);
    if text.len() <= TEXT_BYTES_MAX { value.clone() } else { beginning(&text).into() }
}

fn beginning(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    if end < text.len() { format!("{}...", &text[..end]) } else { text.to_owned() }
}
