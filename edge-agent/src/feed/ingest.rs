//! The door: takes what waits, decodes it, commits it once, and only then has it acknowledged and passed on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use edge_core::feed::decode::{self, Names};
use shared::{
    ledger::entry::{Entry, Fact},
    time::Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    broker::PACKET_LEN_MAX,
    config::{Events, Feed, Feeds},
    journal::{Batch, Quarantined, Recent, Row, Totals, key},
};
use crate::{
    clock,
    store::{self, Store},
};

/// Messages that may wait for the journal: a third of a second at 20,000 a second. Beyond it QoS 1 waits at the broker and QoS 0 is
/// dropped and counted.
const WAITING_LEN_MAX: usize = 8_192;
/// Bytes of messages that may wait, so that few large ones cannot fill the memory either.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Messages in one commit. More would make the first wait for the last.
const BATCH_LEN_MAX: usize = 2_048;
/// Batches that may wait for the pipeline.
const PASSED_LEN_MAX: usize = 4;
/// Topics whose feed is remembered; beyond it the table begins anew.
const ROUTES_MAX: usize = 16_384;
/// How often dropped messages become a ledger entry while it goes on.
const SHED_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Tells a broker or a publisher that messages are on the disk.
pub trait Acknowledge: Send + Sync {
    /// These tickets' messages are durable. In the order in which the messages came.
    fn taken(&self, tickets: &[u64]);
}

/// A message as it came in.
pub struct Incoming {
    pub topic: String,
    pub payload: Bytes,
    pub received: Timestamp,
    /// Marked by its sender as perhaps sent before.
    pub dup: bool,
    /// Who sent it, and under which packet id: knows a resent message that has neither id nor time.
    pub sender: Arc<str>,
    pub packet_id: u16,
    /// Whom to tell that it is durable; `None` for QoS 0.
    pub receipt: Option<(Arc<dyn Acknowledge>, u64)>,
    /// The payload is only the beginning: the message came in a packet of so many bytes, too large to be taken.
    pub cut_from: Option<usize>,
}

/// What is passed to the pipeline, in order.
pub enum Passed {
    Batch(Arc<Batch>),
    /// All that follows is of these feeds. Answered when all before is done and its state saved.
    Feeds(Arc<Feeds>, oneshot::Sender<()>),
}

/// Where sources bring messages. Clones share it; the journal ends when the last is gone.
#[derive(Clone)]
pub struct Door {
    messages: mpsc::Sender<(Incoming, tokio::sync::OwnedSemaphorePermit)>,
    room: Arc<tokio::sync::Semaphore>,
    feeds: watch::Receiver<Arc<Feeds>>,
    shed: Arc<Mutex<HashMap<String, i64>>>,
}

/// Changes the feeds of a running journal.
#[derive(Clone)]
pub struct Control {
    changes: mpsc::Sender<(Arc<Feeds>, oneshot::Sender<()>)>,
}

/// The task that decodes and commits.
pub struct Ingest {
    store: Store,
    feeds: watch::Sender<Arc<Feeds>>,
    messages: mpsc::Receiver<(Incoming, tokio::sync::OwnedSemaphorePermit)>,
    changes: mpsc::Receiver<(Arc<Feeds>, oneshot::Sender<()>)>,
    passed: mpsc::Sender<Passed>,
    shed: Arc<Mutex<HashMap<String, i64>>>,
    shed_untold: HashMap<String, i64>,
    shed_told: Option<std::time::Instant>,
    recent: Recent,
    last: i64,
    names: Names,
    routes: HashMap<String, Option<Arc<Feed>>>,
}

impl Ingest {
    /// Opens the journal where it ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(
        store: Store,
        feeds: Arc<Feeds>,
    ) -> Result<(Self, Door, Control, mpsc::Receiver<Passed>), store::Error> {
        let (recent, last) = store.read_blocking("read the end of the journal", Recent::load)?;
        let (sender, messages) = mpsc::channel(WAITING_LEN_MAX);
        let (change_sender, changes) = mpsc::channel(1);
        let (passed, receiver) = mpsc::channel(PASSED_LEN_MAX);
        let (feeds, feeds_receiver) = watch::channel(feeds);
        let shed = Arc::new(Mutex::new(HashMap::new()));
        let room = Arc::new(tokio::sync::Semaphore::new(WAITING_BYTES_MAX));
        let door = Door { messages: sender, room, feeds: feeds_receiver, shed: Arc::clone(&shed) };
        let ingest = Self {
            store,
            feeds,
            messages,
            changes,
            passed,
            shed,
            shed_untold: HashMap::new(),
            shed_told: None,
            recent,
            last,
            names: Names::default(),
            routes: HashMap::new(),
        };
        Ok((ingest, door, Control { changes: change_sender }, receiver))
    }

    /// The place of the last row in the journal.
    #[must_use]
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// Runs until every door is closed and all that came in is committed.
    pub async fn run(mut self) {
        let mut waiting = Vec::with_capacity(BATCH_LEN_MAX);
        let mut changes_open = true;
        loop {
            tokio::select! {
                biased;
                change = self.changes.recv(), if changes_open => match change {
                    Some((feeds, done)) => self.change(feeds, done).await,
                    None => changes_open = false,
                },
                count = self.messages.recv_many(&mut waiting, BATCH_LEN_MAX) => {
                    if count == 0 {
                        break;
                    }
                    if self.take(&mut waiting).await.is_err() {
                        break;
                    }
                }
            }
        }
    }

    async fn change(&mut self, feeds: Arc<Feeds>, done: oneshot::Sender<()>) {
        self.routes.clear();
        self.feeds.send_replace(Arc::clone(&feeds));
        drop(self.passed.send(Passed::Feeds(feeds, done)).await);
    }

    /// Decodes and commits what waits. An error means that the store or the pipeline is gone.
    async fn take(&mut self, waiting: &mut Vec<(Incoming, tokio::sync::OwnedSemaphorePermit)>) -> Result<(), ()> {
        let mut batch = Batch { at: clock::now(), ..Batch::default() };
        let mut receipts = Vec::with_capacity(waiting.len());
        for (message, room) in waiting.drain(..) {
            let receipt = message.receipt.clone();
            if let Some(feed) = self.route(&message.topic) {
                self.add(&mut batch, &feed, message);
            }
            receipts.extend(receipt);
            drop(room);
        }
        for (feed, count) in std::mem::take(&mut *self.shed.lock().expect("no one panicked while counting")) {
            batch.totals.entry(feed.clone()).or_default().shed += count;
            *self.shed_untold.entry(feed).or_default() += count;
        }
        batch.last = self.last;
        let batch = Arc::new(batch);
        if !batch.totals.is_empty() {
            self.commit(&batch).await?;
        }
        acknowledge(receipts);
        if batch.rows.is_empty() && batch.quarantined.is_empty() {
            return Ok(());
        }
        self.passed.send(Passed::Batch(batch)).await.map_err(|_| ())
    }

    fn route(&mut self, topic: &str) -> Option<Arc<Feed>> {
        if let Some(known) = self.routes.get(topic) {
            return known.clone();
        }
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        let feed = self.feeds.borrow().of_topic(topic).cloned();
        self.routes.insert(topic.to_owned(), feed.clone());
        feed
    }

    fn add(&mut self, batch: &mut Batch, feed: &Arc<Feed>, message: Incoming) {
        if !batch.totals.contains_key(&feed.name) {
            batch.totals.insert(feed.name.clone(), Totals::default());
        }
        let totals = batch.totals.get_mut(&feed.name).expect("inserted above");
        totals.received += 1;
        let decoded = match message.cut_from {
            Some(bytes) => {
                let (most, client) = (PACKET_LEN_MAX, message.sender.to_string());
                Err(decode::Misfit::TooLarge { bytes, most, client })
            }
            None => decode::decode(feed, &message.topic, &message.payload, message.received, &mut self.names),
        };
        let (identity, repeatable) = match &decoded {
            Ok(decoded) => (decoded.id.clone(), decoded.timed),
            // Its client sends it again when it is back, under whatever packet id.
            Err(decode::Misfit::TooLarge { .. }) => (None, true),
            Err(_) => decode::identity(feed, &message.topic, &message.payload),
        };
        let (name, topic, payload) = (feed.name.as_bytes(), message.topic.as_bytes(), &message.payload[..]);
        // A message that names itself or its time is the same message whenever it comes again. One that does not is only
        // the same if its sender says so and sends it under the same packet id.
        let (key, known) = if let Some(id) = &identity {
            let key = key(&[b"id", name, id.as_bytes()]);
            (key, self.recent.contains(key))
        } else if repeatable {
            let key = key(&[b"time", name, topic, payload]);
            (key, self.recent.contains(key))
        } else {
            let key =
                key(&[b"packet", name, topic, payload, message.sender.as_bytes(), &message.packet_id.to_le_bytes()]);
            (key, message.dup && self.recent.contains(key))
        };
        if known {
            totals.duplicate += 1;
            return;
        }
        self.recent.insert(key);
        match decoded {
            Err(misfit) => {
                totals.quarantined += 1;
                self.last += 1;
                let (topic, received, payload) = (message.topic, message.received, message.payload);
                let bytes = message.cut_from.unwrap_or(payload.len());
                let reason = misfit.to_string();
                batch.quarantined.push(Quarantined {
                    seq: self.last,
                    feed: Arc::clone(feed),
                    topic,
                    reason,
                    received,
                    key,
                    bytes,
                    payload,
                });
            }
            Ok(decoded) => {
                totals.journalled += 1;
                let mut whole = (feed.events == Events::Message).then_some((message.topic, decoded.payload));
                let mut key = Some(key);
                for reading in decoded.readings {
                    totals.readings += 1;
                    self.last += 1;
                    let (feed, key, message) = (Arc::clone(feed), key.take(), whole.take());
                    batch.rows.push(Row { seq: self.last, feed, reading, key, message });
                }
            }
        }
    }

    /// Commits, and tries again as long as it takes: what is not on the disk is not acknowledged, and what was is kept.
    async fn commit(&mut self, batch: &Arc<Batch>) -> Result<(), ()> {
        let shed = self.shed_to_tell();
        let mut failing = false;
        loop {
            let (writing, entries) = (Arc::clone(batch), shed.clone());
            let written = self.store.write("journal messages", move |tx| {
                writing.write(tx)?;
                for entry in &entries {
                    tx.append(entry)?;
                }
                Ok(())
            });
            match written.await {
                Ok(()) => {
                    if failing {
                        tracing::info!("the journal takes messages again");
                    }
                    return Ok(());
                }
                Err(error @ store::Error::Closed { .. }) => {
                    tracing::error!(%error, "the journal ends");
                    return Err(());
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "no message is acknowledged until the journal can be written again");
                    }
                    failing = true;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// The entries that record what was dropped since the last.
    fn shed_to_tell(&mut self) -> Vec<Entry> {
        if self.shed_untold.is_empty() || self.shed_told.is_some_and(|then| then.elapsed() < SHED_TOLD_EVERY) {
            return Vec::new();
        }
        self.shed_told = Some(std::time::Instant::now());
        let entry = |(feed, count): (String, i64)| {
            let count = count.unsigned_abs();
            tracing::warn!(%feed, count, "dropped QoS 0 messages: the journal had no room");
            let reason = "no room for messages of quality of service 0".to_owned();
            Entry { at: clock::now(), run: None, task: None, fact: Fact::Shed { feed, count, reason } }
        };
        self.shed_untold.drain().map(entry).collect()
    }
}

/// Tells each source once of all its messages.
fn acknowledge(mut receipts: Vec<(Arc<dyn Acknowledge>, u64)>) {
    let address = |source: &Arc<dyn Acknowledge>| Arc::as_ptr(source).cast::<()>().addr();
    receipts.sort_by_key(|(source, _)| address(source));
    let mut tickets = Vec::new();
    for group in receipts.chunk_by(|a, b| address(&a.0) == address(&b.0)) {
        tickets.clear();
        tickets.extend(group.iter().map(|(_, ticket)| *ticket));
        group[0].0.taken(&tickets);
    }
}

impl Door {
    /// Brings a message; waits while there is no room.
    ///
    /// # Errors
    /// When the journal has ended.
    pub async fn bring(&self, message: Incoming) -> Result<(), Closed> {
        let room = Arc::clone(&self.room).acquire_many_owned(size(&message)).await.map_err(|_| Closed)?;
        self.messages.send((message, room)).await.map_err(|_| Closed)
    }

    /// Brings a message for which no one waits: without room it is dropped and counted.
    pub fn offer(&self, message: Incoming) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size(&message)) else {
            return self.count_shed(&message.topic);
        };
        if let Err(mpsc::error::TrySendError::Full((message, _))) = self.messages.try_send((message, room)) {
            self.count_shed(&message.topic);
        }
    }

    /// Whether a message of this topic belongs to a feed.
    #[must_use]
    pub fn wants(&self, topic: &str) -> bool {
        self.feeds.borrow().of_topic(topic).is_some()
    }

    /// The feeds of now, and of later.
    #[must_use]
    pub fn feeds(&self) -> watch::Receiver<Arc<Feeds>> {
        self.feeds.clone()
    }

    fn count_shed(&self, topic: &str) {
        if let Some(feed) = self.feeds.borrow().of_topic(topic) {
            *self.shed.lock().expect("no one panicked while counting").entry(feed.name.clone()).or_default() += 1;
        }
    }
}

fn size(message: &Incoming) -> u32 {
    // No more than the whole room, or a message larger than that would wait for ever.
    u32::try_from((message.payload.len() + message.topic.len()).min(WAITING_BYTES_MAX)).expect("less than 4 GiB")
}

/// The journal has ended; the agent is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ingest journal is closed")]
pub struct Closed;

impl Control {
    /// Goes over to other feeds; returns when all messages taken under the old ones are through and their state is saved.
    ///
    /// # Errors
    /// When the journal has ended.
    pub async fn change(&self, feeds: Arc<Feeds>) -> Result<(), Closed> {
        let (done, wait) = oneshot::channel();
        self.changes.send((feeds, done)).await.map_err(|_| Closed)?;
        wait.await.map_err(|_| Closed)
    }
}
