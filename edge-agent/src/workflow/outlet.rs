//! Lifecycle events on their way out: where `[lifecycle]` wants it, each is written in the transaction of the step that it
//! tells of, and published to the node's broker as a structured CloudEvent, in order, at least once. Policy is asked for
//! each, as for whatever the workflow itself would publish.

use std::{panic::AssertUnwindSafe, sync::OnceLock, time::Duration};

use edge_core::engine::effect::{Call, EffectKey, Failure, kind};
use futures::FutureExt as _;
use rusqlite::{Connection, params};
use serde_json::json;
use shared::{
    event::Event,
    label::Label,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
};
use tokio::sync::Notify;

use super::{
    journal::{self, json as text, read_json},
    lifecycle::PREFIX,
    perform::Outcome,
    runner::Inner,
    withheld::{self, Why},
};
use crate::store;

/// Events that are read, published and taken off together.
const BATCH_LEN: i64 = 64;
/// Events that wait while the broker cannot be reached; the oldest make room.
const WAITING_MAX: i64 = 10_000;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(10);

/// Where lifecycle events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// What topics begin with; `NAMESPACE/NAME/workflow/completed` follows.
    pub topic: String,
    /// Whether those of tasks go out too, and not only those of whole runs.
    pub tasks: bool,
}

/// The way out; nothing goes out before somebody said where to.
#[derive(Default)]
pub(super) struct Outlet {
    telling: OnceLock<Telling>,
    rung: Notify,
}

impl Outlet {
    /// Those that go out.
    pub fn chosen(&self, events: &[Event]) -> Vec<Event> {
        let Some(telling) = self.telling.get() else { return Vec::new() };
        let is_chosen = |event: &&Event| telling.tasks || !event.kind[PREFIX.len()..].starts_with("task.");
        events.iter().filter(is_chosen).cloned().collect()
    }

    /// Whether anything goes out.
    pub fn is_open(&self) -> bool {
        self.telling.get().is_some()
    }

    /// Events were written.
    pub fn ring(&self) {
        self.rung.notify_one();
    }
}

/// Writes events that go out.
pub(super) fn write(connection: &Connection, events: &[Event], label: &Label) -> rusqlite::Result<()> {
    for event in events {
        connection
            .prepare_cached("INSERT INTO outlet (event, label) VALUES (?1, ?2)")?
            .execute(params![text(event), text(label)])?;
    }
    Ok(())
}

/// What became of an event.
enum Told {
    /// It is out, or will never be: what the ledger says of it.
    Done(Vec<Fact>),
    Later,
}

impl Inner {
    /// Lifecycle events go out from now on.
    pub(super) fn open_outlet(self: &std::sync::Arc<Self>, telling: Telling) {
        if self.outlet.telling.set(telling).is_ok() {
            let inner = std::sync::Arc::clone(self);
            self.spawn(async move { inner.tell_all().await });
        }
    }

    async fn tell_all(&self) {
        loop {
            match self.tell_some().await {
                Ok(true) => {}
                Ok(false) => self.outlet.rung.notified().await,
                Err(store::Error::Closed { .. }) => return,
                Err(error) => {
                    tracing::error!(%error, "lifecycle events wait for the store");
                    self.clock.pass(PAUSE).await;
                }
            }
        }
    }

    /// `true`: there may be more.
    async fn tell_some(&self) -> Result<bool, store::Error> {
        let waiting = self.store.read("find lifecycle events", waiting).await?;
        if waiting.is_empty() {
            return Ok(false);
        }
        let (mut past, mut entries, mut later) = (None, Vec::new(), false);
        for (seq, event, label) in waiting {
            match self.tell(&event, &label).await {
                Told::Done(facts) => {
                    let (at, run) = (self.clock.now(), event.subject.as_ref().and_then(|run| run.parse().ok()));
                    entries.extend(facts.into_iter().map(|fact| Entry { at, run, task: None, fact }));
                    past = Some(seq);
                }
                Told::Later => {
                    later = true;
                    break;
                }
            }
        }
        let now = self.clock.now();
        let write = move |tx: &mut store::Transaction<'_>| take_off(tx, past, &entries, now);
        self.store.write("take off lifecycle events", write).await?;
        if later {
            self.clock.pass(PAUSE).await;
        }
        Ok(true)
    }

    async fn tell(&self, event: &Event, label: &Label) -> Told {
        let Some(call) = self.outlet.telling.get().and_then(|telling| call(telling, event, label, self.clock.now()))
        else {
            return Told::Done(Vec::new());
        };
        let performed = AssertUnwindSafe(self.performer.perform(&call)).catch_unwind().await;
        let broke = |_| Err(Failure::new(kind::RUNTIME, "the room broke down, see the log"));
        match performed.unwrap_or_else(broke) {
            Ok(Outcome::Done(done)) => Told::Done(done.facts),
            Ok(Outcome::Ask { facts, .. }) => Told::Done(facts),
            Err(failure) => {
                let kinds = [kind::COMMUNICATION.0, kind::TIMEOUT.0];
                if failure.ask_again_at.is_some() || kinds.contains(&failure.error.kind.as_str()) {
                    return Told::Later;
                }
                let why = failure.error.detail.unwrap_or_default();
                tracing::warn!(event = event.id, why, "a lifecycle event does not go out");
                Told::Done(failure.facts)
            }
        }
    }
}

/// What is asked of the room that publishes, in the name of the event's workflow.
fn call(telling: &Telling, event: &Event, label: &Label, now: Timestamp) -> Option<Call> {
    let workflow = event.source.strip_prefix("/workflows/")?.to_owned();
    let what = event.kind.strip_prefix(PREFIX)?.strip_suffix(".v1")?.replace('.', "/");
    let topic = format!("{}/{workflow}/{what}", telling.topic);
    Some(Call {
        key: EffectKey(event.id.clone()),
        run: event.subject.as_ref()?.parse().ok()?,
        task: String::new(),
        workflow,
        function: "publish".to_owned(),
        input: json!({ "topic": topic, "payload": event, "qos": 1 }),
        label: label.clone(),
        deadline: None,
        agent: None,
        asked_at: now,
        ahead_us: 0,
    })
}

fn waiting(connection: &Connection) -> rusqlite::Result<Vec<(i64, Event, Label)>> {
    let mut statement = connection.prepare_cached("SELECT seq, event, label FROM outlet ORDER BY seq LIMIT ?1")?;
    let rows = statement.query_map([BATCH_LEN], |row| {
        Ok((row.get(0)?, read_json(row.get_ref(1)?.as_str()?)?, read_json(row.get_ref(2)?.as_str()?)?))
    })?;
    rows.collect()
}

/// Takes off what is out, and what has to make room.
fn take_off(
    tx: &mut store::Transaction<'_>,
    past: Option<i64>,
    entries: &[Entry],
    now: Timestamp,
) -> Result<(), store::Error> {
    journal::append(tx, entries)?;
    let connection = tx.connection();
    if let Some(past) = past {
        connection.execute("DELETE FROM outlet WHERE seq <= ?1", [past])?;
    }
    let sql = "DELETE FROM outlet WHERE seq <= (SELECT max(seq) FROM outlet) - ?1";
    let shed = connection.execute(sql, [WAITING_MAX])? as u64;
    if shed > 0 {
        withheld::count(connection, TOLD, Why::Outlet, shed, now)?;
        tx.append(&withheld::entry(TOLD, None, Why::Outlet, shed, "", now))?;
    }
    Ok(())
}

/// Whom events were for that did not go out.
const TOLD: &str = "the broker";
