//! What sets runs going: pending ones begin, interrupted ones are taken up, emitted events are handed out, and what is
//! due is told so.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use edge_core::engine::{Command, effect::Ask};
use rusqlite::Connection;
use shared::{event::Event, id::RunId, label::Label, time::Timestamp};
use tokio::sync::oneshot;

use super::{
    journal::{self, read_json, unreadable},
    runner::{Inner, Message},
    timers::Due,
};
use crate::{clock, store};

/// Runs that begin together and so share their commits.
const BEGIN_MAX: usize = 128;

/// While more effects than this are under way, no run begins: what waits then waits on the disk.
const IN_FLIGHT_MAX: usize = 512;

/// Events handed out in one transaction.
const EMITTED_MAX: i64 = 128;

/// Between two looks for old runs, and between two pieces when there are some.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
const SWEEP_NEXT: Duration = Duration::from_secs(10);

/// Between two tries when the store cannot be read.
const PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// Sets the timers of all open runs, and says which are to be taken up.
    pub(super) async fn resume(self: &Arc<Self>) -> Result<VecDeque<RunId>, store::Error> {
        let Resumed { timers, runs, unwanted } = self.store.read("find the open runs", open_runs).await?;
        for (due, at) in timers {
            self.timers.set(due, Some(at));
        }
        self.timers.set(Due::Sweep, Some(clock::now().plus(SWEEP_NEXT)));
        for run in unwanted {
            self.send(run, Message::Command(Command::Cancel));
        }
        Ok(runs)
    }

    /// Forgets ended runs and findings that are old or too many, a piece at a time.
    async fn sweep(self: &Arc<Self>) {
        let now = clock::now();
        let swept = self.insist("forget old runs", || move |tx| Ok(journal::sweep(tx.connection(), now)?)).await;
        let pause = if swept.is_some_and(|rows| rows > 0) { SWEEP_NEXT } else { SWEEP_EVERY };
        self.timers.set(Due::Sweep, Some(now.plus(pause)));
    }

    /// Begins and takes up runs, and hands out events, for as long as the node runs.
    pub(super) async fn pump(self: Arc<Self>, mut interrupted: VecDeque<RunId>) {
        loop {
            let pumped = self.pump_once(&mut interrupted).await;
            match pumped {
                Ok(true) => {}
                Ok(false) => self.pump.notified().await,
                Err(store::Error::Closed { .. }) => return,
                Err(error) => {
                    tracing::error!(%error, "runs wait for the store");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// `true`: there may be more to do.
    async fn pump_once(self: &Arc<Self>, interrupted: &mut VecDeque<RunId>) -> Result<bool, store::Error> {
        let events = self.store.read("find emitted events", emitted_events).await?;
        let had_events = !events.is_empty();
        if had_events {
            let seqs = events.iter().map(|(seq, ..)| *seq).collect();
            self.take_events(events.into_iter().map(|(_, event, label)| (event, label)).collect(), seqs).await?;
        }
        if self.under_way() >= IN_FLIGHT_MAX {
            return Ok(false);
        }
        // Those that were interrupted come first, each time as many as may begin together.
        let many = interrupted.len().min(BEGIN_MAX);
        let mut next: Vec<RunId> = interrupted.drain(..many).collect();
        if next.is_empty() {
            next = self.store.read("find the pending runs", pending_runs).await?;
            next.retain(|run| !self.is_driven(*run));
        }
        let mut begun = Vec::new();
        for run in next {
            let (done, wait) = oneshot::channel();
            self.send(run, Message::Begin(done));
            begun.push(wait);
        }
        let any = !begun.is_empty();
        for wait in begun {
            // Dropped unsent when the runner closes; then the next start begins the run.
            drop(wait.await);
        }
        Ok(any || had_events)
    }

    /// Tells what is due that it is, for as long as the node runs.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let due = self.timers.next().await;
            self.due(due);
        }
    }

    pub(super) fn due(self: &Arc<Self>, due: Due) {
        match due {
            Due::Run(run) => self.send(run, Message::Command(Command::Wake)),
            Due::Parked(run, ask) => self.send(run, Message::AskAgain(Some(ask))),
            Due::Sweep => {
                let inner = Arc::clone(self);
                self.spawn(async move { inner.sweep().await });
            }
            Due::Schedule(workflow) => {
                let inner = Arc::clone(self);
                self.spawn(async move { inner.start_scheduled(workflow, clock::now()).await });
            }
        }
    }
}

struct Resumed {
    timers: Vec<(Due, Timestamp)>,
    runs: VecDeque<RunId>,
    /// Those that are to be cancelled.
    unwanted: Vec<RunId>,
}

fn open_runs(connection: &Connection) -> rusqlite::Result<Resumed> {
    let mut timers = Vec::new();
    let mut runs = VecDeque::new();
    let mut unwanted = Vec::new();
    let mut statement = connection.prepare(
        "SELECT id, wake_at, status = 'running' OR EXISTS (SELECT 1 FROM outbox LEFT JOIN approval \
         ON approval.run = outbox.run AND approval.ask = outbox.ask WHERE outbox.run = run.id \
         AND outbox.ask_again_at IS NULL AND (outbox.function <> 'approve' OR approval.status IS NOT 'pending') \
         AND NOT (outbox.function = 'workflow' AND EXISTS (SELECT 1 FROM run AS child WHERE child.parent = run.id \
         AND child.parent_ask = outbox.ask AND child.ended_at IS NULL))) \
         OR EXISTS (SELECT 1 FROM delivery WHERE delivery.run = run.id), wanted \
         FROM run WHERE status IN ('running', 'waiting') ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let run = run_id(row.get_ref(0)?.as_str()?)?;
        if let Some(at) = row.get::<_, Option<i64>>(1)? {
            timers.push((Due::Run(run), Timestamp::from_micros(at)));
        }
        if row.get(2)? {
            runs.push_back(run);
        }
        if row.get::<_, Option<String>>(3)?.is_some() {
            unwanted.push(run);
        }
    }
    let mut statement =
        connection.prepare("SELECT run, ask, ask_again_at FROM outbox WHERE ask_again_at IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let due = Due::Parked(run_id(row.get_ref(0)?.as_str()?)?, Ask(row.get(1)?));
        timers.push((due, Timestamp::from_micros(row.get(2)?)));
    }
    Ok(Resumed { timers, runs, unwanted })
}

fn pending_runs(connection: &Connection) -> rusqlite::Result<Vec<RunId>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM run WHERE status = 'pending' ORDER BY id LIMIT ?1")?;
    let rows =
        statement.query_map([i64::try_from(BEGIN_MAX).unwrap_or(i64::MAX)], |row| run_id(row.get_ref(0)?.as_str()?))?;
    rows.collect()
}

fn emitted_events(connection: &Connection) -> rusqlite::Result<Vec<(i64, Event, Label)>> {
    let mut statement = connection.prepare_cached("SELECT seq, event, label FROM emitted ORDER BY seq LIMIT ?1")?;
    let rows = statement.query_map([EMITTED_MAX], |row| {
        Ok((row.get(0)?, read_json(row.get_ref(1)?.as_str()?)?, read_json(row.get_ref(2)?.as_str()?)?))
    })?;
    rows.collect()
}

fn run_id(text: &str) -> rusqlite::Result<RunId> {
    text.parse().map_err(|error| unreadable(&error))
}
