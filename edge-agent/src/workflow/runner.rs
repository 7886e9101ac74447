//! The runner: every run has an inbox, and takes one message from it at a time. Runs do not wait for each other, so that
//! the steps of many runs share the store's group commits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use edge_core::{
    engine::{
        Command,
        effect::{Ask, Failure},
        support,
    },
    hear::Arrival,
};
use serde_json::Value;
use shared::{
    digest::{Digest, canonical_json},
    event::Event,
    id::RunId,
    label::Label,
    ledger::entry::{Entry, Fact},
    problem::{Problem, Problems, near},
    time::Timestamp,
    workflow::Workflow,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    approval::{self, Answer, ApprovalError, Decided},
    begin::Birth,
    catalog::{Catalog, Current, Home},
    control::{Person, Wish},
    episodes,
    journal::{self, Loaded, NewRun},
    listen::Correlations,
    outlet::{Outlet, Telling},
    perform::{Outcome, Perform},
    places::Places,
    pump::Bell,
    timers::Timers,
};
use crate::{
    clock::{self, Steady},
    store::Store,
};

/// Runs that are written down and have not begun. Beyond it `deliver` waits, which holds back the feeds and with them the
/// broker: hours of findings of a busy site.
const PENDING_MAX: i64 = 10_000;

/// A second look when nothing changed.
const PENDING_PAUSE: Duration = Duration::from_secs(1);

/// Runs that are told at the same time that something is due. When a node was off for a week, the rest waits on the disk.
const WAKING_MAX: usize = 256;

/// Runs kept in memory; beyond it, those of which no effect is under way are read again when something happens to them.
const IDLE_RUNS_MAX: usize = 512;

/// What can go wrong when something is asked of the runner.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no workflow {name}{hint}")]
    UnknownWorkflow { name: String, hint: String },
    #[error(transparent)]
    Unfit(#[from] Problems),
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// A handle to the node's runs; clones share them.
#[derive(Clone)]
pub struct Runner {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub store: Store,
    pub performer: Arc<dyn Perform>,
    pub catalog: Catalog,
    pub correlations: Correlations,
    /// Held while events are gathered: what a workflow has of them is read, decided about and written again.
    pub gathering: tokio::sync::Mutex<()>,
    pub timers: Timers,
    pub clock: Steady,
    pub waking: Arc<Semaphore>,
    slots: Mutex<HashMap<RunId, Slot>>,
    /// Rung when runs are to begin, or events to be handed out.
    pub bell: Bell,
    pub outlet: Outlet,
    /// Rung when a run has ended that is kept as an episode.
    pub episodes: episodes::Bell,
    pub places: Places,
    /// Effects that wait for their turn or are being performed: none is twice at once.
    pub in_flight: Mutex<HashSet<(RunId, Ask)>>,
    pub changed: watch::Sender<u64>,
    /// How much time of this process had passed when old runs were forgotten last.
    pub swept: Mutex<Duration>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

#[derive(Default)]
struct Slot {
    inbox: VecDeque<Message>,
    is_driven: bool,
    loaded: Option<Box<Loaded>>,
}

/// What comes into a run's inbox.
pub(super) enum Message {
    Command(Command),
    /// A pending run begins, an interrupted one is taken up; the answer tells the pump that this is done.
    Begin(oneshot::Sender<()>),
    Outcome {
        ask: Ask,
        outcome: Box<Result<Outcome, Failure>>,
    },
    /// Perform again what is asked and not answered: all of it, or one.
    AskAgain(Option<Ask>),
    /// Events wait for it.
    Hear,
    /// A run that is written down with its first step.
    Birth(Box<Birth>),
    /// What was due at its time; the permit makes room for the next when this is done.
    Due(Box<Message>, OwnedSemaphorePermit),
    /// A person wants something of it.
    Wish(Wish),
}

impl Runner {
    /// Takes up the runs that a store holds: what was asked and not answered is asked again, timers are set again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(store: Store, performer: Arc<dyn Perform>) -> Result<Self, Error> {
        let recorded = store.read("find the latest change", journal::latest).await?;
        Self::open_at(store, performer, Steady::after(recorded)).await
    }

    /// Like `open`, by another clock.
    pub(super) async fn open_at(store: Store, performer: Arc<dyn Perform>, clock: Steady) -> Result<Self, Error> {
        let swept = Mutex::new(clock.passed());
        let inner = Arc::new(Inner {
            store,
            performer,
            catalog: Catalog::default(),
            correlations: Correlations::default(),
            gathering: tokio::sync::Mutex::default(),
            timers: Timers::default(),
            clock,
            waking: Arc::new(Semaphore::new(WAKING_MAX)),
            slots: Mutex::default(),
            bell: Bell::default(),
            outlet: Outlet::default(),
            episodes: episodes::Bell::default(),
            places: Places::default(),
            in_flight: Mutex::default(),
            changed: watch::channel(0).0,
            swept,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let resume = inner.resume().await?;
        inner.spawn(Arc::clone(&inner).pump(resume));
        inner.spawn(Arc::clone(&inner).keep_time());
        inner.spawn(Arc::clone(&inner).keep_episodes());
        Ok(Self { inner })
    }

    /// From now on runs start from these workflows; runs that began keep the version they began with.
    ///
    /// # Errors
    /// When two have one name, or one needs what the engine cannot do; then nothing changes.
    pub async fn set_workflows(&self, bundle: Digest, workflows: Vec<Arc<Workflow>>) -> Result<(), Error> {
        let mut current = Current { bundle, ..Current::default() };
        let mut problems = Vec::new();
        for workflow in workflows {
            let name = workflow.definition().qualified_name();
            problems.extend(support::check(&name, &workflow).err().into_iter().flat_map(|found| found.0));
            if current.workflows.insert(name.clone(), workflow).is_some() {
                let message = "two workflows have this namespace and name: expected one".to_owned();
                problems.push(Problem { file: name, line: None, column: None, field: "/document".to_owned(), message });
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        let all: Vec<_> = current.workflows.values().cloned().collect();
        let write = move |tx: &mut crate::store::Transaction<'_>| {
            Ok(all.iter().try_for_each(|workflow| journal::insert_workflow(tx.connection(), workflow))?)
        };
        self.inner.store.write("keep the workflows", write).await?;
        let schedules = super::schedule::rules(&current);
        self.inner.catalog.set(current);
        self.inner.set_schedules(schedules).await?;
        self.inner.bell.events();
        Ok(())
    }

    /// Takes events: findings go to the ledger, and each workflow whose `schedule.on` fits starts. Durable when it
    /// returns; an event that comes twice starts nothing twice.
    ///
    /// # Errors
    /// When they could not be kept; they may be delivered again.
    pub async fn deliver(&self, events: Vec<(Event, Label)>) -> Result<(), Error> {
        loop {
            let mut changes = self.changes();
            let count = |c: &rusqlite::Connection| journal::pending(c, PENDING_MAX);
            if self.inner.store.read("count the pending runs", count).await? < PENDING_MAX {
                break;
            }
            drop(tokio::time::timeout(PENDING_PAUSE, changes.changed()).await);
        }
        let outside = |(event, label)| Arrival { event, label, generation: 0 };
        self.inner.take_events(events.into_iter().map(outside).collect(), Vec::new()).await?;
        Ok(())
    }

    /// Starts a workflow for a person. Durable when it returns, with what the ledger says of it.
    ///
    /// # Errors
    /// When there is no such workflow or the start could not be kept.
    pub async fn start(&self, workflow: &str, input: Value, label: Label, by: Person) -> Result<Entry, Error> {
        let current = self.inner.catalog.current();
        let Some(found) = current.workflows.get(workflow) else {
            let hint = near::hint(workflow, current.workflows.keys().map(String::as_str));
            return Err(Error::UnknownWorkflow { name: workflow.to_owned(), hint });
        };
        self.begin(Arc::clone(found), current.bundle, input, label, by).await
    }

    async fn begin(
        &self,
        workflow: Arc<Workflow>,
        bundle: Digest,
        input: Value,
        label: Label,
        by: Person,
    ) -> Result<Entry, Error> {
        let at = self.inner.clock.now();
        let id = RunId::derive(at, &clock::seed());
        let name = workflow.definition().qualified_name();
        let (trigger, subject, generation, input) = ("by hand".to_owned(), None, 0, Arc::new(input));
        let run = NewRun { id, workflow, bundle, trigger, subject, input, label, generation, at };
        let entry = self.inner.steered("start", id, &name, &run.label, &by, at);
        self.inner.start(run, entry.clone()).await?;
        Ok(entry)
    }

    /// Runs one workflow by itself, for a person at a desk: nothing else starts, by the clock or by an event. `others` are
    /// there for `run: workflow`.
    ///
    /// # Errors
    /// When the start could not be kept.
    pub async fn start_alone(
        &self,
        workflow: Arc<Workflow>,
        others: Vec<Arc<Workflow>>,
        input: Value,
        by: Person,
    ) -> Result<Entry, Error> {
        let all: Vec<_> = others.into_iter().chain([Arc::clone(&workflow)]).collect();
        all.iter().for_each(|workflow| self.inner.catalog.pin(workflow));
        let write = move |tx: &mut crate::store::Transaction<'_>| {
            Ok(all.iter().try_for_each(|workflow| journal::insert_workflow(tx.connection(), workflow))?)
        };
        self.inner.store.write("keep the workflows", write).await?;
        let bundle = workflow.digest();
        self.inner.catalog.set(Current { bundle, home: Home::Folder, ..Current::default() });
        self.begin(workflow, bundle, input, Label::default(), by).await
    }

    /// Decides a question. Durable when it returns, with what the ledger says of it.
    ///
    /// # Errors
    /// When there is no such question, it was decided or has expired, it is not this person's, or they saw something else.
    pub async fn decide_approval(&self, answer: Answer) -> Result<Entry, ApprovalError> {
        let (now, performer) = (self.inner.clock.now(), Arc::clone(&self.inner.performer));
        let write = move |tx: &mut crate::store::Transaction<'_>| {
            approval::decide(tx, &answer, &|workflow, label| performer.keep(workflow, label), now)
        };
        match self.inner.store.write("decide an approval", write).await? {
            Decided::Taken { run, ask, output, entry } => {
                self.inner.send(run, Message::Command(Command::Complete { ask, output, label: Label::default() }));
                self.inner.note_change();
                Ok(*entry)
            }
            Decided::Not(error) => Err(error),
        }
    }

    /// Publishes lifecycle events from now on.
    pub fn tell_lifecycle(&self, telling: Telling) {
        self.inner.open_outlet(telling);
    }

    /// Asks parked effects again now: the link is back.
    pub fn nudge(&self) {
        let inner = Arc::clone(&self.inner);
        self.inner.spawn(async move { inner.unpark().await });
    }

    /// Changes whenever a run did.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Stops: what is being written is written, what is being performed is left to the next start.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        // Behind all that was handed to the store before.
        drop(self.inner.store.write("close the runs", |_| Ok(())).await);
    }
}

/// Runs what may take long where it holds nobody up.
///
/// # Panics
/// When it does.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[cfg(test)]
    if super::tests::simulated::is_simulated() {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("what is computed apart does not panic")
}

impl Inner {
    /// Runs a task until the runner is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // A run's future is large, and would be copied with each that is put around it.
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(Box::pin(task)));
    }

    pub fn note_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes a run that nobody is at, so that nobody else begins with it: what is read of it stays true until it is driven.
    pub fn claim(&self, run: RunId) -> bool {
        let mut slots = self.slots.lock().expect("no thread panicked with the runs");
        !std::mem::replace(&mut slots.entry(run).or_default().is_driven, true)
    }

    /// Begins with a claimed run, as it was read if it was.
    pub fn drive_claimed(self: &Arc<Self>, run: RunId, read: Option<Box<Loaded>>, message: Message) {
        let mut slots = self.slots.lock().expect("no thread panicked with the runs");
        let slot = slots.entry(run).or_default();
        slot.inbox.push_back(message);
        slot.loaded = slot.loaded.take().or(read);
        drop(slots);
        self.spawn(Arc::clone(self).drive(run));
    }

    /// Puts a message into a run's inbox. The inbox holds at most the outcomes of what the run asked, its timer, and what
    /// people want of it, so it needs no limit of its own.
    pub fn send(self: &Arc<Self>, run: RunId, message: Message) {
        let mut slots = self.slots.lock().expect("no thread panicked with the runs");
        let slot = slots.entry(run).or_default();
        slot.inbox.push_back(message);
        if !std::mem::replace(&mut slot.is_driven, true) {
            drop(slots);
            self.spawn(Arc::clone(self).drive(run));
        }
    }

    /// Whether something is going on with a run.
    pub fn is_driven(&self, run: RunId) -> bool {
        self.slots.lock().expect("no thread panicked with the runs").get(&run).is_some_and(|slot| slot.is_driven)
    }

    /// Takes messages from a run's inbox until it is empty.
    async fn drive(self: Arc<Self>, run: RunId) {
        let mut loaded: Option<Box<Loaded>> = None;
        while let Some(message) = self.next_message(run, &mut loaded) {
            let (message, _permit) = match message {
                Message::Due(message, permit) => (*message, Some(permit)),
                message => (message, None),
            };
            if let Message::Birth(birth) = &message {
                loaded = Some(Box::new(Loaded::unwritten(&birth.run)));
            } else if loaded.is_none() {
                loaded = self.load(run).await;
            }
            if let Some(loaded) = &mut loaded {
                self.handle(run, loaded, message).await;
            }
        }
    }

    /// The next message, and the run if it is at hand. `None`: the inbox is empty, and the run was put away.
    fn next_message(&self, run: RunId, loaded: &mut Option<Box<Loaded>>) -> Option<Message> {
        let mut slots = self.slots.lock().expect("no thread panicked with the runs");
        let is_crowded = slots.len() > IDLE_RUNS_MAX;
        let slot = slots.get_mut(&run)?;
        let next = slot.inbox.pop_front();
        if next.is_some() {
            *loaded = loaded.take().or_else(|| slot.loaded.take());
            return next;
        }
        slot.is_driven = false;
        slot.loaded = loaded.take();
        let is_open = slot.loaded.as_ref().is_some_and(|l| *l.state.phase() == edge_core::engine::Phase::Running);
        if slot.loaded.as_ref().is_some_and(|loaded| loaded.beginning.is_some()) {
            // Something else was said to it before it began, and the pump passed it over meanwhile.
            self.bell.starts();
        }
        let is_awaited = is_crowded && slot.loaded.as_ref().is_some_and(|loaded| self.is_answered_soon(run, loaded));
        if !is_open || (is_crowded && !is_awaited) {
            slots.remove(&run);
        }
        None
    }

    /// Whether an effect of the run is under way: there are never many of those, and to read the run again would take longer
    /// than most effects.
    fn is_answered_soon(&self, run: RunId, loaded: &Loaded) -> bool {
        let in_flight = self.in_flight.lock().expect("no thread panicked with the effects");
        loaded.state.asked().any(|(ask, _)| in_flight.contains(&(run, ask)))
    }

    pub fn finding(&self, event: &Event, label: &Label, now: Timestamp) -> Entry {
        let data = event.data.as_ref().unwrap_or(&Value::Null);
        let detector = data.get("detector").and_then(Value::as_str).unwrap_or_default().to_owned();
        let content = self.performer.keep("node/feeds", label).content(&canonical_json(data));
        let subject = event.subject.clone().unwrap_or_default();
        let fact = Fact::Finding { event: event.id.clone(), subject, detector, content };
        Entry { at: now, run: None, task: None, fact }
    }

    /// How many effects are under way, long calls left out: a run must not wait for them before it begins.
    pub fn under_way(&self) -> usize {
        let all = self.in_flight.lock().expect("no thread panicked with the effects").len();
        all.saturating_sub(self.places.long_taken())
    }
}
