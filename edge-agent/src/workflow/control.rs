//! What people want of a run: that it rests, goes on, stops, or is tried again from one of its tasks.

use std::sync::Arc;

use edge_core::engine::{Command, Record, State, retry};
use rusqlite::{Connection, params};
use shared::{
    id::RunId,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
    workflow::Workflow,
};

use super::{
    facts::Origin,
    journal::{self, read_json},
    listen,
    runner::{Message, Runner},
};
use crate::{clock, store};

/// Why a run cannot be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no run {0}")]
    Unknown(RunId),
    #[error("the run {0} has not ended: cancel it first, or wait")]
    Open(RunId),
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

impl Runner {
    /// Asks a run to stop. What it asked for ends by itself; nothing more follows. The wish is kept before anything is
    /// done about it, so that a kill does not lose it; a run that has not begun does not begin.
    pub fn cancel(&self, run: RunId) {
        let inner = Arc::clone(&self.inner);
        self.inner.spawn(async move {
            let now = inner.clock.now();
            let want = || move |tx: &mut store::Transaction<'_>| Ok(want_cancel(tx.connection(), run, now)?);
            inner.insist("cancel a run", want).await;
            inner.send(run, Message::Command(Command::Cancel));
            inner.note_change();
        });
    }

    /// Asks a run to rest: what it asked for comes to its end and is kept, and nothing follows until it is resumed. Its
    /// deadlines do not run meanwhile, and events for it wait.
    pub fn suspend(&self, run: RunId) {
        self.inner.send(run, Message::Command(Command::Suspend));
    }

    /// Lets a run that rests go on.
    pub fn resume(&self, run: RunId) {
        self.inner.send(run, Message::Command(Command::Resume));
    }

    /// Tries an ended run again from the task at `place` (`/do/2/ask`, as the run's history names it): a new run takes
    /// over what came before that task, with the same version of the workflow. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such run, it has not ended, or it never entered a task there.
    pub async fn retry(&self, run: RunId, place: &str) -> Result<RunId, ControlError> {
        let inner = Arc::clone(&self.inner);
        let read = move |connection: &Connection| past(connection, &inner.catalog, run);
        let past = self.inner.store.read("read a run", read).await?.ok_or(ControlError::Unknown(run))?;
        if past.is_open {
            return Err(ControlError::Open(run));
        }
        let now = self.inner.clock.now();
        let new = RunId::derive(now, &clock::seed());
        let records = retry::records(run, new, &past.workflow, &past.records, place, now)?;
        let mut state = State::new(new, Arc::clone(&past.workflow));
        records.iter().for_each(|record| state.apply(record));
        let trigger = format!("retry of {run} from {place}");
        let write = move |tx: &mut store::Transaction<'_>| write(tx, &past, &state, &records, &trigger, now);
        self.inner.store.write("try a run again", write).await?;
        let (begun, _) = tokio::sync::oneshot::channel();
        self.inner.send(new, Message::Begin(begun));
        Ok(new)
    }
}

pub(super) fn want_cancel(connection: &Connection, run: RunId, now: Timestamp) -> rusqlite::Result<()> {
    let unbegun =
        "UPDATE run SET status = 'cancelled', changed_at = ?2, ended_at = ?2 WHERE id = ?1 AND status = 'pending'";
    connection.prepare_cached(unbegun)?.execute(params![run.to_string(), now.as_micros()])?;
    let open = "UPDATE run SET wanted = 'cancel' WHERE id = ?1 AND status IN ('running', 'waiting')";
    connection.prepare_cached(open)?.execute([run.to_string()])?;
    Ok(())
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
