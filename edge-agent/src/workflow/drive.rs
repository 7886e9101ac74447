//! One message of one run: decide, write, apply, and only then perform.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use edge_core::{
    engine::{
        self, Command, Effect, Ending, Phase, RUN_WORKFLOW, Record, Rejection, Step,
        effect::{Ask, Call, Completion, Failure, Keep, kind},
    },
    hear::Arrival,
};
use futures::FutureExt as _;
use shared::{
    digest::Digest,
    event::Event,
    id::RunId,
    label::Label,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
};

use super::{
    approval, child,
    commit::{self, Commit, Ready, Summary, Written},
    ending::How,
    episodes, facts,
    journal::{self, Loaded},
    listen::{self, Heard},
    perform::{Outcome, Proposal},
    places::{AGAIN_AFTER, LONG_MAX},
    runner::{Inner, Message, apart},
    schedule,
    timers::Due,
};
use crate::store;

/// Between two tries to write to a store that cannot be written to: long enough to leave a full disk alone, short enough
/// to go on soon after there is room.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// A clock that is off by less is not wrong; deadlines are seconds.
const AHEAD_MIN_US: i64 = 1_000_000;

impl Inner {
    /// Reads a run from the store; `None` when there is none, or the runner is closed before the store can be read.
    pub(super) async fn load(self: &Arc<Self>, run: RunId) -> Option<Box<Loaded>> {
        loop {
            let inner = Arc::clone(self);
            let read = move |connection: &rusqlite::Connection| journal::load(connection, &inner.catalog, run);
            match self.store.read("load a run", read).await {
                Ok(loaded) => return loaded.map(Box::new),
                Err(store::Error::Closed { .. }) => return None,
                Err(error) => {
                    let why = chain(&error);
                    tracing::error!(%run, error = why, "a run cannot be read");
                    if is_unreadable(&error) {
                        Box::pin(self.end(run, How::Unreadable(why), Vec::new())).await;
                        return None;
                    }
                    self.clock.pass(STORE_PAUSE).await;
                }
            }
        }
    }

    pub(super) async fn handle(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, message: Message) {
        match message {
            Message::Command(Command::Cancel) if *loaded.state.phase() == Phase::New => {
                Box::pin(self.end_unbegun(run, loaded, Vec::new())).await;
            }
            Message::Command(command) => self.step(run, loaded, command, Vec::new()).await,
            // Each of these has room of its own: the future of a run is as large as what it may do at its largest.
            Message::Birth(birth) => Box::pin(self.be_born(run, loaded, *birth)).await,
            Message::Wish(wish) => Box::pin(self.fulfil(run, loaded, wish)).await,
            Message::Hear => Box::pin(self.hear(run, loaded)).await,
            Message::Begin(begun) => {
                if let Some((input, label)) = loaded.beginning.take() {
                    self.step(run, loaded, Command::Start { input, label }, Vec::new()).await;
                } else {
                    self.ask_again(run, loaded, None).await;
                    Box::pin(self.hear(run, loaded)).await;
                }
                // The pump may have gone on without us.
                let _ = begun.send(());
            }
            Message::Outcome { ask, outcome } => self.outcome(run, loaded, ask, *outcome).await,
            Message::Due(..) => unreachable!("unpacked where it was taken from the inbox"),
            Message::AskAgain(only) => self.ask_again(run, loaded, only).await,
        }
    }

    /// Performs what is asked and not answered, and goes on with a step that was full.
    async fn ask_again(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, only: Option<Ask>) {
        if let Some(only) = only {
            loaded.parked.remove(&only);
        }
        for (ask, _) in loaded.state.asked() {
            // What is parked comes when its time has come.
            let is_wanted = only.map_or_else(|| !loaded.parked.contains(&ask), |only| only == ask);
            if let Some(call) = loaded.state.performed(ask).filter(|_| is_wanted) {
                self.perform(run, ask, call);
            }
        }
        if loaded.state.has_more() {
            self.step(run, loaded, Command::Continue, Vec::new()).await;
        }
    }

    async fn outcome(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, ask: Ask, outcome: Result<Outcome, Failure>) {
        let call = loaded.state.asked().find(|(known, _)| *known == ask).map(|(_, call)| Arc::clone(call));
        let now = self.clock.now();
        let task = call.as_ref().map(|call| call.task.clone());
        let entries = |facts: Vec<Fact>| -> Vec<Entry> {
            facts.into_iter().map(|fact| Entry { at: now, run: Some(run), task: task.clone(), fact }).collect()
        };
        match (outcome, call) {
            (Ok(Outcome::Done(Completion { output, label, facts })), _) => {
                let command = Command::Complete { ask, output, label };
                self.step(run, loaded, command, entries(facts)).await;
            }
            (Ok(Outcome::Ask { proposal, facts }), Some(call)) => {
                Box::pin(self.request(run, loaded, ask, call, proposal, facts)).await;
            }
            (Ok(Outcome::Ask { facts, .. }), None) => Box::pin(self.append(entries(facts))).await,
            (Err(Failure { error, facts, ask_again_at: Some(until), .. }), Some(_)) => {
                let why = error.detail.unwrap_or_default();
                loaded.parked.insert(ask);
                Box::pin(self.park(run, ask, self.clock.of_wall(until), why, entries(facts))).await;
            }
            (Err(Failure { error, mut facts, label, .. }), call) => {
                let function = call.map(|call| call.function.clone()).unwrap_or_default();
                let detail = error.detail.clone().unwrap_or_default();
                // It may quote what was sent or came back.
                let detail = match self.performer.keep(&loaded.origin.workflow, &loaded.state.label().join(&label)) {
                    Keep::Text => detail,
                    Keep::Digest => Digest::of(detail.as_bytes()).to_string(),
                };
                facts.push(Fact::EffectFailed { function, error: format!("{} {detail}", error.kind) });
                self.step(run, loaded, Command::Fail { ask, error, label }, entries(facts)).await;
            }
        }
    }

    /// Decides about something that waits in the run's inbox.
    pub(super) async fn step_heard(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, command: Command, heard: Heard) {
        self.steps(run, loaded, Told { heard: Some(heard), ..Told::of(command) }).await;
    }

    /// Decides about a command and what follows from it; `entries` go to the ledger with its step.
    pub(super) async fn step(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, command: Command, entries: Vec<Entry>) {
        self.steps(run, loaded, Told::with(command, entries)).await;
    }

    async fn steps(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, first: Told) {
        let mut all = VecDeque::from([first]);
        while let Some(told) = all.pop_front() {
            let now = self.clock.now();
            let mut step = match decide(loaded, told.command.clone(), now).await {
                Ok(step) => step,
                Err(rejection) => {
                    if !matches!(rejection, Rejection::Ended | Rejection::NotAsked(_)) {
                        tracing::warn!(%run, %rejection, "a command does not fit its run");
                    }
                    Box::pin(self.append(told.entries)).await;
                    Box::pin(self.passed(run, told.heard)).await;
                    continue;
                }
            };
            if step.records.is_empty() && told.entries.is_empty() {
                Box::pin(self.passed(run, told.heard)).await;
                self.timers.set(Due::Run(run), loaded.state.wake_at());
                continue;
            }
            let more = step.more;
            let ready = Arc::new(Ready::of(self.commit_of(run, loaded, &mut step, &told, now)));
            match self.write(&ready).await {
                Some(Written::Done) => {
                    self.apply(run, loaded, step, &ready);
                    if more {
                        all.push_front(Told::of(Command::Continue));
                    }
                }
                Some(Written::Overtaken { ask, output }) => {
                    all.push_front(told);
                    all.push_front(Told::of(Command::Complete { ask, output, label: Label::default() }));
                }
                None => return,
            }
        }
    }

    /// What the run heard changed nothing.
    async fn passed(&self, run: RunId, heard: Option<Heard>) {
        let (Some(heard), now) = (heard, self.clock.now()) else { return };
        let remove = || move |tx: &mut store::Transaction<'_>| listen::decided(tx, run, heard, now);
        self.insist("remove an event", remove).await;
    }

    /// What the step writes; its records go into it.
    pub(super) fn commit_of(
        &self,
        run: RunId,
        loaded: &Loaded,
        step: &mut Step,
        told: &Told,
        now: Timestamp,
    ) -> Commit {
        let (origin, generation) = (&loaded.origin, loaded.generation.max(told.generation(step)));
        let keep = self.performer.keep(&origin.workflow, step.after.label());
        let of_step = facts::of_step(&loaded.state, step, origin, keep, now);
        let (records, after) = (std::mem::take(&mut step.records), &step.after);
        let has_ended = matches!(after.phase(), Phase::Ended { .. });
        let listened = loaded.state.is_listening() || after.is_listening();
        let mut commit = Commit {
            run,
            workflow: origin.workflow.clone(),
            seq: loaded.steps,
            now,
            records,
            entries: told.entries.iter().cloned().chain(of_step).collect(),
            summary: Summary::of(after, step.more),
            answered: Vec::new(),
            asked: Vec::new(),
            withdrawn: Vec::new(),
            put_off: Vec::new(),
            emitted: Vec::new(),
            told: Vec::new(),
            generation,
            withheld: 0,
            interests: listened.then(|| after.interests()).filter(|now| *now != loaded.state.interests()),
            heard: told.heard,
            next_start: has_ended.then(|| self.next_start(&origin.workflow)).flatten(),
            is_episode: has_ended && episodes::wanted(&loaded.state.workflow),
        };
        for record in &commit.records {
            match record {
                Record::Answered { ask, .. } => commit.answered.push(*ask),
                Record::Resumed { .. } => {
                    let asked = after.asked().filter(|(_, call)| call.function == "approve").map(|(ask, _)| ask);
                    commit.put_off =
                        asked.map(|ask| (ask, after.performed(ask).and_then(|call| call.deadline))).collect();
                }
                _ => {}
            }
        }
        for effect in &step.effects {
            match effect {
                Effect::Call { ask, call } => commit.asked.push((*ask, Arc::clone(call))),
                Effect::Emit { event, label, .. } => {
                    let (event, label, generation) = (Event::clone(event), label.clone(), commit.generation);
                    commit.emitted.push(Arrival { event, label, generation });
                }
                Effect::Withdraw { ask } => commit.withdrawn.push(*ask),
            }
        }
        self.tell_lifecycle(loaded, after.label(), &mut commit);
        commit
    }

    /// The step is on the disk: the run goes on from the state after it.
    pub(super) fn apply(self: &Arc<Self>, run: RunId, loaded: &mut Loaded, step: Step, ready: &Ready) {
        loaded.generation = ready.generation();
        self.ring_for(ready);
        for effect in &step.effects {
            let Effect::Withdraw { ask } = effect else { continue };
            let Some(call) = loaded.state.call(*ask) else { continue };
            if call.function == RUN_WORKFLOW {
                self.send(child::id_of(call, *ask), Message::Command(Command::Cancel));
            } else if let Some(closing) = engine::closing(call) {
                // Whatever comes of it: a broker that is not told forgets by itself.
                let inner = Arc::clone(self);
                self.spawn(async move { drop(inner.performed(run, &closing).await) });
            }
        }
        loaded.state = step.after;
        loaded.steps += 1;
        self.timers.set(Due::Run(run), loaded.state.wake_at());
        for effect in step.effects {
            match effect {
                Effect::Call { ask, call } => self.perform(run, ask, call),
                Effect::Emit { .. } => {}
                Effect::Withdraw { ask } => self.timers.set(Due::Parked(run, ask), None),
            }
        }
        if matches!(loaded.state.phase(), Phase::Ended { .. }) {
            tell_end(run, loaded);
            if let Some((parent, ask)) = loaded.parent {
                self.send(parent, Message::AskAgain(Some(ask)));
            }
            if let Some(at) = self.next_start(&loaded.origin.workflow) {
                self.timers.set(Due::Schedule(loaded.origin.workflow.clone()), Some(at));
            }
        }
        self.note_change();
    }

    /// When a workflow starts again of which a run ends now: as the version says that starts are made from, which may be
    /// another than the run's.
    fn next_start(&self, workflow: &str) -> Option<Timestamp> {
        let current = self.catalog.current();
        schedule::again_at(current.workflows.get(workflow)?, self.clock.now())
    }

    /// Performs an effect on a task of its own; the outcome comes into the run's inbox.
    fn perform(self: &Arc<Self>, run: RunId, ask: Ask, call: Arc<Call>) {
        let is_new = self.in_flight.lock().expect("no thread panicked with the effects").insert((run, ask));
        // Looking for a child's outcome harms nobody, and must not be missed.
        if !is_new && call.function != RUN_WORKFLOW {
            return;
        }
        let inner = Arc::clone(self);
        if call.function == RUN_WORKFLOW {
            self.spawn(async move {
                let outcome = inner.run_child(ask, &call).await;
                inner.in_flight.lock().expect("no thread panicked with the effects").remove(&(run, ask));
                if let Some(outcome) = outcome {
                    inner.send(run, Message::Outcome { ask, outcome: Box::new(outcome) });
                }
                inner.bell.room();
            });
            return;
        }
        self.spawn(async move {
            let outcome = inner.performed(run, &call).await;
            inner.in_flight.lock().expect("no thread panicked with the effects").remove(&(run, ask));
            inner.send(run, Message::Outcome { ask, outcome: Box::new(outcome) });
            inner.bell.room();
        });
    }

    async fn performed(&self, run: RunId, call: &Call) -> Result<Outcome, Failure> {
        let Some(place) = self.places.take(self.performer.pace(call)).await else {
            let why = format!("{LONG_MAX} calls that take long are under way on this node");
            let ask_again_at = Some(self.clock.wall().plus(AGAIN_AFTER));
            return Err(Failure { ask_again_at, ..Failure::new(kind::RUNTIME, why) });
        };
        // While the wall clock is wrong, the rooms are told by how much: they know no other.
        let ahead_us = self.clock.now().as_micros().saturating_sub(self.clock.wall().as_micros());
        let moved = (ahead_us >= AHEAD_MIN_US).then(|| Call { ahead_us, ..call.clone() });
        let performed = AssertUnwindSafe(self.performer.perform(moved.as_ref().unwrap_or(call))).catch_unwind().await;
        drop(place);
        performed.unwrap_or_else(|_| {
            tracing::error!(%run, function = call.function, "a room panicked");
            Err(Failure::new(kind::RUNTIME, format!("`{}` broke down on this node", call.function)))
        })
    }

    async fn request(
        self: &Arc<Self>,
        run: RunId,
        loaded: &mut Loaded,
        ask: Ask,
        call: Arc<Call>,
        proposal: Proposal,
        facts: Vec<Fact>,
    ) {
        let (proposal, facts, now) = (Arc::new(proposal), Arc::new(facts), self.clock.now());
        let answered = self
            .insist("ask for an approval", || {
                let (call, proposal, facts) = (Arc::clone(&call), Arc::clone(&proposal), Arc::clone(&facts));
                move |tx: &mut store::Transaction<'_>| approval::request(tx, &call, ask, &proposal, &facts, now)
            })
            .await;
        self.note_change();
        if let Some(Some(output)) = answered {
            self.step(run, loaded, Command::Complete { ask, output, label: Label::default() }, Vec::new()).await;
        }
    }

    async fn park(self: &Arc<Self>, run: RunId, ask: Ask, until: Timestamp, why: String, entries: Vec<Entry>) {
        let (why, entries, now) = (Arc::new(why), Arc::new(entries), self.clock.now());
        self.insist("park an effect", || {
            let (why, entries) = (Arc::clone(&why), Arc::clone(&entries));
            move |tx: &mut store::Transaction<'_>| {
                // Asked again and again while the link is down, it would say the same each time; what was sent to a model
                // is said each time.
                let is_first = journal::park(tx.connection(), run, ask, until, &why, now)?;
                let is_told = |entry: &&Entry| is_first || matches!(entry.fact, Fact::ModelCalled { .. });
                let told: Vec<Entry> = entries.iter().filter(is_told).cloned().collect();
                journal::append(tx, &told)
            }
        })
        .await;
        self.timers.set(Due::Parked(run, ask), Some(until));
        self.note_change();
    }

    async fn append(self: &Arc<Self>, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let entries = Arc::new(entries);
        self.insist("append to the ledger", || {
            let entries = Arc::clone(&entries);
            move |tx: &mut store::Transaction<'_>| journal::append(tx, &entries)
        })
        .await;
    }

    async fn write(&self, ready: &Arc<Ready>) -> Option<Written> {
        self.insist("keep a step of a run", || {
            let ready = Arc::clone(ready);
            move |tx: &mut store::Transaction<'_>| commit::write(tx, &ready)
        })
        .await
    }

    /// Writes until it is written: what has happened cannot be taken back. `None`: the store is closed.
    pub(super) async fn insist<T, J>(&self, operation: &'static str, job: impl Fn() -> J) -> Option<T>
    where
        T: Send + 'static,
        J: Fn(&mut store::Transaction<'_>) -> Result<T, store::Error> + Send + 'static,
    {
        loop {
            match self.store.write_repeatable(operation, job()).await {
                Ok(written) => return Some(written),
                Err(store::Error::Closed { .. }) => return None,
                Err(error) => {
                    tracing::error!(error = chain(&error), "a run waits for the store");
                    self.clock.pass(STORE_PAUSE).await;
                }
            }
        }
    }
}

/// Something that a run decides about, and what is written with the step that it makes, and with no other.
pub(super) struct Told {
    pub command: Command,
    pub entries: Vec<Entry>,
    heard: Option<Heard>,
}

impl Told {
    const fn of(command: Command) -> Self {
        Self::with(command, Vec::new())
    }

    /// With what the ledger is to say before what it says of the step.
    pub const fn with(command: Command, entries: Vec<Entry>) -> Self {
        Self { command, entries, heard: None }
    }

    /// That of the event, if the step took it.
    fn generation(&self, step: &Step) -> u32 {
        let took = |record: &Record| matches!(record, Record::EventTaken { .. });
        match self.heard {
            Some(Heard::Event { generation, .. }) if step.records.iter().any(took) => generation,
            _ => 0,
        }
    }
}

/// A decision that took longer than this would have held up what else the thread does; the run's next ones get a thread
/// where that harms nobody. Most take a tenth of it, less than the way to another thread and back.
const QUICK: Duration = Duration::from_millis(2);

pub(super) async fn decide(loaded: &mut Loaded, command: Command, now: Timestamp) -> Result<Step, Rejection> {
    if loaded.is_slow {
        let state = loaded.state.clone();
        let decide = move || engine::decide(&state, command, now);
        return apart(decide).await;
    }
    let began = Instant::now();
    let decided = engine::decide(&loaded.state, command, now);
    loaded.is_slow = began.elapsed() > QUICK;
    decided
}

/// Nobody may be looking at the runs. What went wrong stands in the run: it may quote what no log should have.
fn tell_end(run: RunId, loaded: &Loaded) {
    match loaded.state.phase() {
        Phase::Ended { ending: Ending::Faulted, error: Some(error), .. } => {
            let (workflow, task) = (&loaded.origin.workflow, error.instance.as_deref().unwrap_or_default());
            tracing::warn!(%run, workflow, task, kind = error.kind, status = error.status, "a run faulted");
        }
        _ => tracing::debug!(%run, "a run ended"),
    }
}

/// Whether the store holds something that will not become readable by waiting.
fn is_unreadable(error: &store::Error) -> bool {
    matches!(error, store::Error::Sqlite { source, .. } if journal::is_unreadable(source))
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
