//! What people want of a run: that it rests, goes on, stops, or is tried again from one of its tasks.

use std::sync::Arc;

use edge_core::engine::{
    Command, Phase, Record, State,
    history::{self, TaskStatus},
    retry,
};
use rusqlite::{Connection, params};
use shared::{
    id::RunId,
    label::Label,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
    workflow::Workflow,
};
use tokio::sync::oneshot;

use super::{
    facts::Origin,
    journal::{self, Loaded, read_json},
    listen,
    runner::{Inner, Message, Runner},
};
use crate::{clock, store};

/// Why something cannot be done to a run.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no run {0}")]
    Unknown(RunId),
    #[error("the run {0} has not ended: cancel it first, or wait")]
    Open(RunId),
    #[error("the run {0} has ended")]
    Ended(RunId),
    #[error("the run {0} has not begun yet: try again in a moment")]
    Pending(RunId),
    #[error("the run {run} {state}")]
    Already { run: RunId, state: &'static str },
    #[error("the node is stopping: nothing was done to the run {0}")]
    Closing(RunId),
    #[error("the run {0} cannot be read: `edge-agent runs` says why it was given up")]
    Unreadable(RunId),
    #[error(transparent)]
    Place(#[from] retry::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// An ended run as it is read to be tried again.
struct Past {
    workflow: Arc<Workflow>,
    origin: Origin,
    subject: Option<String>,
    input: String,
    records: Vec<Record>,
    generation: u32,
    is_open: bool,
}

/// A person who wants something of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    /// In which role they may.
    pub role: String,
    /// Where they said it: `local page`, `command line`, `api`.
    pub place: String,
    pub comment: Option<String>,
}

/// What can be wanted of a run that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It stops. What it asked for ends by itself; nothing more follows.
    Cancel,
    /// It rests: what it asked for comes to its end and is kept, and nothing follows until it is resumed. Its deadlines do
    /// not run meanwhile, and events for it wait.
    Suspend,
    /// It goes on where it rests.
    Resume,
}

impl Act {
    /// As the ledger says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
        }
    }
}

/// An act on its way to its run, and where to tell what came of it.
pub(super) struct Wish {
    pub act: Act,
    pub by: Person,
    pub told: oneshot::Sender<Result<Entry, ControlError>>,
}

impl Runner {
    /// Does something to a run for a person. Durable when it returns, with what the ledger says of it.
    ///
    /// # Errors
    /// When there is no such run, or it is not one that this can be done to.
    pub async fn steer(&self, run: RunId, act: Act, by: Person) -> Result<Entry, ControlError> {
        let known = move |connection: &Connection| store::runs::one(connection, run);
        self.inner.store.read("look for a run", known).await?.ok_or(ControlError::Unknown(run))?;
        let (told, outcome) = oneshot::channel();
        self.inner.send(run, Message::Wish(Wish { act, by, told }));
        let unheard =
            |_| if self.inner.stop.is_cancelled() { ControlError::Closing(run) } else { ControlError::Unreadable(run) };
        outcome.await.map_err(unheard)?
    }

    /// Tries an ended run again from the task at `place` (`/do/2/ask` as the run's history names it, or `ask`): a new run takes
    /// over what came before that task, with the same version of the workflow. Without a place it is the task that failed
    /// last, or else the one that it stood at, or the first. Durable when it returns, with what the ledger says of it.
    ///
    /// # Errors
    /// When there is no such run, it has not ended, or it never entered a task there.
    pub async fn retry(&self, run: RunId, place: Option<&str>, by: Person) -> Result<Entry, ControlError> {
        let inner = Arc::clone(&self.inner);
        let read = move |connection: &Connection| past(connection, &inner.catalog, run);
        let past = self.inner.store.read("read a run", read).await?.ok_or(ControlError::Unknown(run))?;
        if past.is_open {
            return Err(ControlError::Open(run));
        }
        let now = self.inner.clock.now();
        let named = place.map_or_else(|| failed_at(&past.records), str::to_owned);
        let place = retry::place(run, &past.workflow, &past.records, &named)?;
        let new = RunId::derive(now, &clock::seed());
        let records = retry::records(run, new, &past.workflow, &past.records, &place, now)?;
        let mut state = State::new(new, Arc::clone(&past.workflow));
        records.iter().for_each(|record| state.apply(record));
        let trigger = format!("retry of {run} from {place}");
        let entry = self.inner.steered("retry", new, &past.origin.workflow, state.label(), &by, now);
        let kept = entry.clone();
        let write = move |tx: &mut store::Transaction<'_>| {
            write(tx, &past, &state, &records, &trigger, now)?;
            tx.append(&kept)?;
            Ok(())
        };
        self.inner.store.write("try a run again", write).await?;
        let (begun, _) = oneshot::channel();
        self.inner.send(new, Message::Begin(begun));
        Ok(entry)
    }
}

impl Inner {
    /// The ledger's entry of what a person did.
    pub(super) fn steered(
        &self,
        act: &str,
        run: RunId,
        workflow: &str,
        label: &Label,
        by: &Person,
        now: Timestamp,
    ) -> Entry {
        let Person { name, role, place, comment } = by.clone();
        let keep = self.performer.keep(workflow, label);
        let comment = comment.map(|comment| keep.content(&comment));
        let fact = Fact::RunSteered { act: act.to_owned(), by: name, place, role, comment };
        Entry { at: now, run: Some(run), task: None, fact }
    }

    /// Does to a run what a person wants, if it can be done to it as it is now.
    pub(super) async fn fulfil(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, wish: Wish) {
        let Wish { act, by, told } = wish;
        let rests = loaded.state.suspended().is_some();
        let refused = match (loaded.state.phase(), act) {
            // Cancelled a moment ago, before it began.
            (Phase::New, _) if loaded.beginning.is_none() => Some(ControlError::Ended(run)),
            (Phase::New, Act::Suspend | Act::Resume) => Some(ControlError::Pending(run)),
            (Phase::Ended { .. }, _) => Some(ControlError::Ended(run)),
            (Phase::Running, Act::Suspend) if rests => Some(ControlError::Already { run, state: "rests already" }),
            (Phase::Running, Act::Resume) if !rests => Some(ControlError::Already { run, state: "does not rest" }),
            (Phase::New | Phase::Running, _) => None,
        };
        let answer = match refused {
            Some(refused) => Err(refused),
            None => self.act(run, loaded, act, &by).await,
        };
        // Nobody may wait for it any more.
        let _ = told.send(answer);
    }

    async fn act(
        self: &Arc<Self>,
        run: RunId,
        loaded: &mut Loaded,
        act: Act,
        by: &Person,
    ) -> Result<Entry, ControlError> {
        let now = self.clock.now();
        let label = loaded.beginning.as_ref().map_or(loaded.state.label(), |(_, label)| label);
        let entry = self.steered(act.name(), run, &loaded.origin.workflow, label, by, now);
        let command = match act {
            Act::Cancel => Command::Cancel,
            Act::Suspend => Command::Suspend,
            Act::Resume => Command::Resume,
        };
        if *loaded.state.phase() == Phase::New {
            self.end_unbegun(run, loaded, vec![entry.clone()]).await;
            return if self.stop.is_cancelled() { Err(ControlError::Closing(run)) } else { Ok(entry) };
        }
        self.step(run, loaded, command, vec![entry.clone()]).await;
        if act == Act::Resume {
            self.hear(run, loaded).await;
        }
        let done = match act {
            Act::Cancel => *loaded.state.phase() != Phase::Running,
            Act::Suspend => loaded.state.suspended().is_some(),
            Act::Resume => loaded.state.suspended().is_none(),
        };
        if done { Ok(entry) } else { Err(ControlError::Closing(run)) }
    }
}

/// Where a run that is tried again goes on when nobody says.
fn failed_at(records: &[Record]) -> String {
    let tasks = history::tasks(records);
    let last = |status: TaskStatus| {
        tasks.iter().enumerate().filter(|(_, task)| task.status == status).max_by_key(|(at, task)| (task.ended_at, *at))
    };
    let found = last(TaskStatus::Faulted).or_else(|| last(TaskStatus::Cancelled)).map(|(_, task)| task);
    found.or(tasks.first()).map(|task| task.place.clone()).unwrap_or_default()
}

fn past(connection: &Connection, catalog: &super::catalog::Catalog, run: RunId) -> rusqlite::Result<Option<Past>> {
    use rusqlite::OptionalExtension as _;
    let row = connection
        .prepare_cached(
            "SELECT workflow, version, bundle, definition, subject, input, ended_at IS NULL, generation FROM run WHERE id = ?1",
        )?
        .query_row([run.to_string()], |row| {
            let bundle = row.get::<_, String>(2)?.parse().map_err(|error| journal::unreadable(&error))?;
            let origin = Origin { workflow: row.get(0)?, version: row.get(1)?, bundle, trigger: String::new() };
            Ok((origin, row.get::<_, String>(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?))
        })
        .optional()?;
    let Some((origin, definition, subject, input, is_open, generation)) = row else { return Ok(None) };
    let workflow = journal::pinned(connection, catalog, &definition)?;
    let mut records = Vec::new();
    let mut statement = connection.prepare_cached("SELECT records FROM run_step WHERE run = ?1 ORDER BY seq")?;
    let mut rows = statement.query([run.to_string()])?;
    while let Some(row) = rows.next()? {
        records.extend(read_json::<Vec<Record>>(row.get_ref(0)?.as_str()?)?);
    }
    Ok(Some(Past { workflow, origin, subject, input, records, generation, is_open }))
}

fn write(
    tx: &mut store::Transaction<'_>,
    past: &Past,
    state: &State,
    records: &[Record],
    trigger: &str,
    now: Timestamp,
) -> Result<(), store::Error> {
    let (connection, id) = (tx.connection(), state.run.to_string());
    let Origin { workflow, version, bundle, .. } = &past.origin;
    connection.execute(
        "INSERT INTO run (id, workflow, version, definition, bundle, trigger, subject, input, label, status, created_at, \
         changed_at, wake_at, steps, generation) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'running', ?10, ?10, ?11, 1, ?12)",
        params![
            id,
            workflow,
            version,
            past.workflow.digest().to_string(),
            bundle.to_string(),
            trigger,
            past.subject,
            past.input,
            journal::json(state.label()),
            now.as_micros(),
            state.wake_at().map(Timestamp::as_micros),
            past.generation,
        ],
    )?;
    connection.execute(
        "INSERT INTO run_step (run, seq, at, records) VALUES (?1, 0, ?2, ?3)",
        params![id, now.as_micros(), journal::json(&records)],
    )?;
    for (ask, call) in state.asked() {
        connection.execute(
            "INSERT INTO outbox (run, ask, key, function, asked_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, ask.0, call.key.0, call.function, call.asked_at.as_micros()],
        )?;
    }
    listen::set_interests(connection, state.run, &state.interests())?;
    let fact = Fact::RunStarted {
        workflow: workflow.clone(),
        version: version.clone(),
        bundle: *bundle,
        trigger: trigger.to_owned(),
        label: state.label().clone(),
    };
    tx.append(&Entry { at: now, run: Some(state.run), task: None, fact })?;
    Ok(())
}
