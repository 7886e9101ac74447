//! What sets runs going: pending ones begin, interrupted ones are taken up, emitted events are handed out, and what is
//! due is told so.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use edge_core::{
    engine::{Command, effect::Ask},
    hear::Arrival,
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rusqlite::Connection;
use shared::{event::Event, id::RunId, time::Timestamp};
use tokio::sync::{Notify, oneshot};

use super::{
    journal::{self, read_json, unreadable},
    keep::{self, SWEEP_NEXT},
    lifecycle,
    runner::{Inner, Message},
    timers::{Due, Next, PAGE_LEN, Place},
};
use crate::store;

/// Runs that are beginning at the same time, and so share their commits. As soon as half of them have begun, others follow:
/// one half is decided about while the other is written.
const BEGIN_MAX: usize = 256;

/// Pending runs that are read together: those that are beginning are still among them.
const PENDING_LEN: usize = 2 * BEGIN_MAX;

/// While more effects than this are under way, no run begins: what waits then waits on the disk.
pub(super) const IN_FLIGHT_MAX: usize = 512;

/// Events handed out in one transaction.
const EMITTED_MAX: i64 = 128;

/// Between two tries when the store cannot be read.
const PAUSE: Duration = Duration::from_secs(1);

/// What the pump is woken for. It looks into the store only for what somebody said is there.
pub(super) struct Bell {
    rung: Notify,
    has_starts: AtomicBool,
    has_events: AtomicBool,
}

impl Default for Bell {
    /// A store that was there before may hold anything.
    fn default() -> Self {
        Self { rung: Notify::new(), has_starts: AtomicBool::new(true), has_events: AtomicBool::new(true) }
    }
}

impl Bell {
    /// Runs are to begin; they are on the disk.
    pub fn starts(&self) {
        self.has_starts.store(true, Ordering::SeqCst);
        self.rung.notify_one();
    }

    /// Events are to be handed out; they are on the disk.
    pub fn events(&self) {
        self.has_events.store(true, Ordering::SeqCst);
        self.rung.notify_one();
    }

    /// An effect is done: where there were too many, another run may begin.
    pub fn room(&self) {
        if self.has_starts.load(Ordering::SeqCst) {
            self.rung.notify_one();
        }
    }
}

/// Runs that are beginning.
pub(super) type Beginning = FuturesUnordered<oneshot::Receiver<()>>;

impl Inner {
    /// Says which open runs are to be taken up; what waits for a time alone stays on the disk.
    pub(super) async fn resume(self: &Arc<Self>) -> Result<VecDeque<RunId>, store::Error> {
        let straighten =
            |tx: &mut store::Transaction<'_>| Ok(keep::straighten(tx.connection(), journal::latest(tx.connection())?)?);
        self.store.write("keep the age of runs", straighten).await?;
        let Resumed { runs, unwanted } = self.store.read("find the open runs", open_runs).await?;
        self.timers.set(Due::Sweep, Some(self.clock.now().plus(SWEEP_NEXT)));
        for run in unwanted {
            self.send(run, Message::Command(Command::Cancel));
        }
        Ok(runs)
    }

    /// Begins and takes up runs, and hands out events, for as long as the node runs.
    pub(super) async fn pump(self: Arc<Self>, mut interrupted: VecDeque<RunId>) {
        let mut beginning = Beginning::new();
        loop {
            match self.pump_once(&mut interrupted, &mut beginning).await {
                Ok(true) => {}
                Ok(false) => self.next_ring(&mut beginning).await,
                Err(store::Error::Closed { .. }) => return,
                Err(error) => {
                    tracing::error!(%error, "runs wait for the store");
                    self.bell.has_starts.store(true, Ordering::SeqCst);
                    self.bell.has_events.store(true, Ordering::SeqCst);
                    self.clock.pass(PAUSE).await;
                }
            }
        }
    }

    /// Waits until something is to be done, or enough of what is beginning has begun to let others follow.
    async fn next_ring(&self, beginning: &mut Beginning) {
        loop {
            tokio::select! {
                biased;
                // Dropped unsent when the runner closes; then the next start begins the run.
                Some(_) = beginning.next() => if beginning.len() <= BEGIN_MAX / 2 && self.bell.has_starts.load(Ordering::SeqCst) {
                    return;
                },
                () = self.bell.rung.notified() => return,
            }
        }
    }

    /// `true`: there may be more to do.
    async fn pump_once(
        self: &Arc<Self>,
        interrupted: &mut VecDeque<RunId>,
        beginning: &mut Beginning,
    ) -> Result<bool, store::Error> {
        // Events of before a kill wait until the workflows are known: handed out earlier, they would start nothing.
        let mut had_events = false;
        if self.catalog.is_known() && self.bell.has_events.swap(false, Ordering::SeqCst) {
            let events = self.store.read("find emitted events", emitted_events).await?;
            had_events = !events.is_empty();
            if had_events {
                self.bell.has_events.store(true, Ordering::SeqCst);
                let (seqs, events): (_, Vec<Arrival>) = events.into_iter().unzip();
                let lifecycle = self.catalog.lifecycle();
                let is_wanted = |event: &Event| !lifecycle::is_made(event) || lifecycle.contains(&event.kind);
                let events = events.into_iter().filter(|arrival| is_wanted(&arrival.event)).collect();
                self.take_events(events, seqs).await?;
            }
        }
        let room = BEGIN_MAX.saturating_sub(beginning.len());
        if self.under_way() >= IN_FLIGHT_MAX || room < BEGIN_MAX / 2 {
            return Ok(had_events);
        }
        // Those that were interrupted come first, each time as many as may begin together.
        let mut next: Vec<RunId> = interrupted.drain(..interrupted.len().min(room)).collect();
        if next.is_empty() && self.bell.has_starts.swap(false, Ordering::SeqCst) {
            next = self.store.read("find the pending runs", pending_runs).await?;
            if next.len() >= PENDING_LEN {
                self.bell.has_starts.store(true, Ordering::SeqCst);
            }
            next.retain(|run| !self.is_driven(*run));
            if next.len() > room {
                self.bell.has_starts.store(true, Ordering::SeqCst);
                next.truncate(room);
            }
        }
        let any = !next.is_empty();
        self.begin(next, beginning).await;
        Ok(any || had_events)
    }

    /// Tells what is due that it is, for as long as the node runs.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            match self.timers.next(&self.clock).await {
                Next::Due(due) => self.due(due).await,
                Next::Read(after) => match self.store.read("find what is due next", move |c| due_after(c, after)).await
                {
                    Ok(page) => self.timers.fill(page),
                    Err(store::Error::Closed { .. }) => return,
                    Err(error) => {
                        self.timers.not_read();
                        tracing::error!(%error, "timers wait for the store");
                        self.clock.pass(PAUSE).await;
                    }
                },
            }
        }
    }

    /// Tells a run that its time has come, as soon as others that were told before are done.
    async fn due(self: &Arc<Self>, due: Due) {
        let (run, message) = match due {
            Due::Run(run) => (run, Message::Command(Command::Wake)),
            Due::Parked(run, ask) => (run, Message::AskAgain(Some(ask))),
            Due::Sweep => {
                let inner = Arc::clone(self);
                return self.spawn(async move { inner.sweep().await });
            }
            Due::Schedule(workflow) => {
                let inner = Arc::clone(self);
                return self.spawn(async move { inner.start_scheduled(workflow).await });
            }
        };
        let permit = Arc::clone(&self.waking).acquire_owned().await.expect("the semaphore is never closed");
        self.send(run, Message::Due(Box::new(message), permit));
    }

    /// Makes what is parked due now, a piece at a time.
    pub(super) async fn unpark(self: &Arc<Self>) {
        let now = self.clock.now();
        let due = || move |tx: &mut store::Transaction<'_>| Ok(journal::unpark(tx.connection(), now)?);
        while let Some(unparked) = self.insist("ask parked effects again", due).await.filter(|some| !some.is_empty()) {
            for (run, ask) in unparked {
                self.timers.set(Due::Parked(run, ask), Some(now));
            }
        }
    }
}

struct Resumed {
    runs: VecDeque<RunId>,
    /// Those that are to be cancelled.
    unwanted: Vec<RunId>,
}

fn open_runs(connection: &Connection) -> rusqlite::Result<Resumed> {
    let mut runs = VecDeque::new();
    let mut unwanted = Vec::new();
    let mut statement = connection.prepare(&format!(
        "SELECT id, status <> 'pending' AND (status = 'running' OR EXISTS (SELECT 1 FROM outbox LEFT JOIN approval \
         ON approval.run = outbox.run AND approval.ask = outbox.ask WHERE outbox.run = run.id \
         AND outbox.ask_again_at IS NULL AND (outbox.function <> 'approve' OR approval.status IS NOT 'pending') \
         AND NOT (outbox.function = 'workflow' AND EXISTS (SELECT 1 FROM run AS child WHERE child.parent = run.id \
         AND child.parent_ask = outbox.ask AND child.ended_at IS NULL))) \
         OR EXISTS (SELECT 1 FROM delivery WHERE delivery.run = run.id) \
         OR EXISTS (SELECT 1 FROM inbox WHERE inbox.run = run.id)), wanted \
         FROM run WHERE {} AND (status <> 'pending' OR wanted IS NOT NULL) ORDER BY id",
        journal::OPEN
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let run = run_id(row.get_ref(0)?.as_str()?)?;
        if row.get(1)? {
            runs.push_back(run);
        }
        if row.get::<_, Option<String>>(2)?.is_some() {
            unwanted.push(run);
        }
    }
    Ok(Resumed { runs, unwanted })
}

/// What is due next behind this place, in the order in which it strikes.
fn due_after(connection: &Connection, after: Option<Place>) -> rusqlite::Result<Vec<Place>> {
    let (at, run, ask) = match after {
        Some((at, run, ask)) => (at.as_micros(), run.to_string(), ask.map_or(-1, |ask| i64::from(ask.0))),
        None => (i64::MIN, String::new(), -1),
    };
    let limit = i64::try_from(PAGE_LEN).unwrap_or(i64::MAX);
    let place = |row: &rusqlite::Row<'_>| {
        let ask = row.get::<_, Option<u32>>(2)?.map(Ask);
        Ok((Timestamp::from_micros(row.get(0)?), run_id(row.get_ref(1)?.as_str()?)?, ask))
    };
    // Either is read in the order of an index, and no further than needed.
    let mut places = Vec::new();
    for sql in [
        "SELECT wake_at, id, NULL FROM run WHERE wake_at >= ?1 AND (wake_at, id, -1) > (?1, ?2, ?3) \
         ORDER BY wake_at, id LIMIT ?4",
        "SELECT ask_again_at, run, ask FROM outbox WHERE ask_again_at >= ?1 AND (ask_again_at, run, ask) > (?1, ?2, ?3) \
         ORDER BY ask_again_at, run, ask LIMIT ?4",
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        for read in statement.query_map(rusqlite::params![at, run, ask, limit], place)? {
            places.push(read?);
        }
    }
    places.sort();
    places.truncate(PAGE_LEN);
    Ok(places)
}

fn pending_runs(connection: &Connection) -> rusqlite::Result<Vec<RunId>> {
    let sql = format!(
        "SELECT id FROM run WHERE {} AND status = 'pending' AND wanted IS NULL ORDER BY id LIMIT ?1",
        journal::OPEN
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map([i64::try_from(PENDING_LEN).unwrap_or(i64::MAX)], |row| run_id(row.get_ref(0)?.as_str()?))?;
    rows.collect()
}

fn emitted_events(connection: &Connection) -> rusqlite::Result<Vec<(i64, Arrival)>> {
    let mut statement =
        connection.prepare_cached("SELECT seq, event, label, generation FROM emitted ORDER BY seq LIMIT ?1")?;
    let rows = statement.query_map([EMITTED_MAX], |row| {
        let (event, label) = (read_json(row.get_ref(1)?.as_str()?)?, read_json(row.get_ref(2)?.as_str()?)?);
        Ok((row.get(0)?, Arrival { event, label, generation: row.get(3)? }))
    })?;
    rows.collect()
}

fn run_id(text: &str) -> rusqlite::Result<RunId> {
    text.parse().map_err(|error| unreadable(&error))
}
