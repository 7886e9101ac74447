//! A node in a simulation: the real runner over the real store, on a disk whose power can be cut, with time that passes
//! when nothing else can happen. One thread, so that a seed always gives the same story.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

use shared::{ledger::tree, time::Timestamp};

use super::*;
use crate::{
    clock::{Source, Steady},
    store::tests::{
        chance::Chance,
        disk::{Disk, Unsynced},
        vfs::Plugged,
    },
    workflow::{catalog, journal},
};

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is a simulation, and nothing may leave it.
pub(crate) fn is_simulated() -> bool {
    SIMULATED.get()
}

/// Time in a simulation. It stands still while anything can go on, and then moves to the next thing that waits for it.
#[derive(Clone, Default)]
pub(super) struct Time(Arc<Mutex<Hands>>);

#[derive(Default)]
struct Hands {
    passed: Duration,
    /// How far the wall clock is from where it should be, in microseconds.
    wrong_by: i64,
    sleepers: BTreeMap<(Duration, u64), Option<Waker>>,
    slept: u64,
}

/// 2026-11-21T08:00:00Z.
const BEGIN: Timestamp = Timestamp::from_millis(1_795_248_000_000);

impl Time {
    pub fn passed(&self) -> Duration {
        self.0.lock().unwrap().passed
    }

    /// Time passes while the node is off.
    pub fn skip(&self, span: Duration) {
        self.0.lock().unwrap().passed += span;
    }

    /// Sets the wall clock wrong.
    pub fn set_wrong_by(&self, micros: i64) {
        self.0.lock().unwrap().wrong_by = micros;
    }

    /// Nothing can go on: the next sleeper's time has come.
    fn advance(&self) {
        let mut hands = self.0.lock().unwrap();
        let Some(((until, _), waker)) = hands.sleepers.pop_first() else { return };
        hands.passed = hands.passed.max(until);
        drop(hands);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn rest(&self, span: Duration) -> Rest {
        let mut hands = self.0.lock().unwrap();
        hands.slept += 1;
        let key = (hands.passed + span, hands.slept);
        hands.sleepers.insert(key, None);
        Rest { time: self.clone(), key }
    }
}

impl Source for Time {
    fn wall(&self) -> Timestamp {
        let hands = self.0.lock().unwrap();
        BEGIN.plus(hands.passed).plus_micros(hands.wrong_by)
    }

    fn passed(&self) -> Duration {
        self.passed()
    }

    fn pass(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.rest(span).boxed()
    }
}

/// Somebody who waits for time to pass.
pub(super) struct Rest {
    time: Time,
    key: (Duration, u64),
}

impl Future for Rest {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut hands = self.time.0.lock().unwrap();
        match hands.sleepers.get_mut(&self.key) {
            Some(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.time.0.lock().unwrap().sleepers.remove(&self.key);
    }
}

/// What lies outside the node and outlives it: what effects came to.
#[derive(Default)]
pub(super) struct Outside {
    /// By key, how often the effect was made. Who honours keys counts the first alone.
    pub made: Mutex<BTreeMap<String, u32>>,
    /// By key, when it was made first.
    pub made_at: Mutex<BTreeMap<String, Duration>>,
    /// By key, when the effect was asked for, each attempt once.
    attempts: Mutex<BTreeMap<String, BTreeSet<Timestamp>>>,
    parked: Mutex<BTreeSet<String>>,
}

/// Performs in simulated time, and may be interrupted before and after the effect is made.
struct Performer {
    time: Time,
    outside: Arc<Outside>,
    chance: Arc<Mutex<Chance>>,
}

impl Performer {
    async fn dawdle(&self) {
        let millis = self.chance.lock().unwrap().below(400);
        self.time.rest(Duration::from_millis(millis)).await;
    }
}

impl Perform for Performer {
    fn perform<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Outcome, Failure>> {
        async move {
            self.dawdle().await;
            // An attempt that is asked for again has the same answer.
            let attempt = {
                let mut attempts = self.outside.attempts.lock().unwrap();
                let attempts = attempts.entry(call.key.0.clone()).or_default();
                attempts.insert(call.asked_at);
                attempts.range(..call.asked_at).count()
            };
            match call.function.as_str() {
                // Nobody ever answers.
                "grpc" => return futures::future::pending().await,
                "embed" if call.input["text"] == "never" => return Err(Failure::new(kind::COMMUNICATION, "never")),
                "embed" if attempt < 2 => return Err(Failure::new(kind::COMMUNICATION, "not yet")),
                "infer" if self.outside.parked.lock().unwrap().insert(call.key.0.clone()) => {
                    let ask_again_at = Some(self.time.wall().plus(Duration::from_secs(40)));
                    return Err(Failure { ask_again_at, ..Failure::new(kind::COMMUNICATION, "no link") });
                }
                "approve" => {
                    let proposal = Proposal {
                        role: "lead".to_owned(),
                        title: "Stop it?".to_owned(),
                        shown: call.input["proposal"].clone(),
                        keep: Keep::Text,
                    };
                    return Ok(Outcome::Ask { proposal, facts: Vec::new() });
                }
                _ => {}
            }
            *self.outside.made.lock().unwrap().entry(call.key.0.clone()).or_default() += 1;
            self.outside.made_at.lock().unwrap().entry(call.key.0.clone()).or_insert(self.time.passed());
            self.dawdle().await;
            let facts = vec![Fact::RouteChosen { choice: call.function.clone(), reasons: Vec::new() }];
            let output = match call.function.as_str() {
                "asyncapi" => message(&call.input["subscription"]["next"]),
                "chat" => said(&call.input["messages"]),
                _ => json!({"did": call.function}),
            };
            Ok(Outcome::Done(Completion { output, label: call.label.clone(), facts }))
        }
        .boxed()
    }

    fn may_start(&self, _call: &Call, workflow: &str) -> Result<Vec<Fact>, Failure> {
        Ok(vec![Fact::RouteChosen { choice: format!("start {workflow}"), reasons: Vec::new() }])
    }

    fn keep(&self, _workflow: &str, _label: &Label) -> Keep {
        Keep::Digest
    }
}

/// The message that a subscription has next.
fn message(next: &Value) -> Value {
    match next["number"].as_u64() {
        Some(number) => json!({"message": {"n": number}, "id": format!("id-{number}")}),
        None => json!({"over": true}),
    }
}

/// What a model says: it wants its tool once, and answers with what it was told.
fn said(messages: &Value) -> Value {
    let last = messages.as_array().and_then(|messages| messages.last()).expect("a conversation");
    if last["role"] == "tool" {
        return json!({"text": format!("told {}", last["content"])});
    }
    json!({"text": "", "toolCalls": [{"id": "c", "name": "publish", "arguments": {"payload": 1}}]})
}

/// How a life of the node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All runs ended, and the node was closed.
    Done,
    /// The power went.
    Cut,
}

/// A node with all that it needs, over several lives.
pub(super) struct World {
    pub disk: Disk,
    pub time: Time,
    pub outside: Arc<Outside>,
    pub lives: u32,
    plugged: Plugged,
    chance: Arc<Mutex<Chance>>,
    workflows: Vec<Arc<Workflow>>,
    events: RefCell<Vec<Event>>,
    /// A life lasts at least until so much time has passed since the world began.
    pub until: Duration,
    /// Few, so that short runs have checkpoints.
    pub checkpoint_pages: u32,
    /// How often the node is looked at in a life.
    pub look_every: Duration,
    /// What the last life left, once all was done.
    pub left: Option<Left>,
}

/// What a node remembers in the end.
#[derive(Debug, PartialEq)]
pub(super) struct Left {
    /// By run, the part of its id that does not tell the time: how it ended and what it gave.
    pub runs: BTreeMap<String, (String, Option<String>)>,
    /// What the ledger says, without times and order: run, task and fact, and how often.
    pub ledger: BTreeMap<(Option<String>, Option<String>, String), u32>,
    /// The keys under which something was done outside.
    pub keys: BTreeSet<String>,
    /// Starts by workflow and what started it, and how many.
    pub triggers: BTreeMap<(String, String), u32>,
}

impl Left {
    /// The other ended in the same way, and no run was forgotten.
    pub fn assert_like(&self, other: &Self) {
        assert_eq!(self.runs, other.runs, "the runs ended as they would have");
        let facts = |left: &Self| left.ledger.clone().into_iter().collect::<BTreeSet<_>>();
        let (here, there) = (facts(self), facts(other));
        let only: Vec<_> = here.symmetric_difference(&there).collect();
        assert!(only.is_empty(), "the ledger is as it would have been, but for {only:#?}");
        assert_eq!(self.keys, other.keys, "who honours keys sees the same effects");
    }
}

/// Nothing in these workflows takes longer than this together, however often the node is killed.
const LIFE_MAX: Duration = Duration::from_secs(3 * 3_600);

static WORLDS: AtomicU64 = AtomicU64::new(0);

impl World {
    /// Over a copy of this disk; `runs` events wait to be delivered.
    pub fn new(disk: &Disk, workflows: &[Arc<Workflow>], runs: usize, seed: u64) -> Self {
        let disk = disk.copy();
        let plugged = Plugged::new(&format!("world-{}", WORLDS.fetch_add(1, Ordering::Relaxed)), &disk);
        let events = (0..runs).map(|n| {
            let mut event = Event::new(n.to_string(), "skerry://test", "go", json!({"n": n}));
            event.time = Some(BEGIN);
            event
        });
        Self {
            disk,
            time: Time::default(),
            outside: Arc::default(),
            lives: 0,
            plugged,
            chance: Arc::new(Mutex::new(Chance::new(seed))),
            workflows: workflows.to_vec(),
            events: RefCell::new(events.collect()),
            until: Duration::ZERO,
            checkpoint_pages: 24,
            look_every: Duration::from_millis(97),
            left: None,
        }
    }

    /// A disk with an empty store, so that not every world has to make its own.
    pub fn empty() -> Disk {
        let (disk, world) = (Disk::default(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let plugged = Plugged::new(&format!("world-{world}"), &disk);
        drop(Store::open_here(&plugged.path(), 24, Arc::new(|| 0)).unwrap());
        disk
    }

    /// Power on, until all is done or the power goes; `meanwhile` is called again and again.
    pub fn live(&mut self, meanwhile: impl Fn(&Self)) -> End {
        self.lives += 1;
        SIMULATED.set(true);
        let time = self.time.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || time.advance())
            .build()
            .expect("a runtime without drivers");
        let (end, left) = runtime.block_on(self.life(&meanwhile));
        drop(runtime);
        SIMULATED.set(false);
        self.left = left;
        if self.disk.is_off() { End::Cut } else { end }
    }

    async fn life(&self, meanwhile: &impl Fn(&Self)) -> (End, Option<Left>) {
        let chance = Arc::clone(&self.chance);
        let turns = Arc::new(move || usize::try_from(chance.lock().unwrap().below(4)).unwrap());
        let Ok(store) = Store::open_here(&self.plugged.path(), self.checkpoint_pages, turns) else {
            return (End::Cut, None);
        };
        let performer = Arc::new(Performer {
            time: self.time.clone(),
            outside: Arc::clone(&self.outside),
            chance: Arc::clone(&self.chance),
        });
        let Ok(recorded) = store.read_blocking("look", journal::latest) else { return (End::Cut, None) };
        let clock = Steady::by(self.time.clone(), recorded);
        let Ok(runner) = Runner::open_at(store.clone(), performer, clock).await else { return (End::Cut, None) };
        if runner.set_workflows(Digest::of(b"bundle"), self.workflows.clone()).await.is_err() {
            return (End::Cut, None);
        }
        // Delivered until they were taken, as a feed does.
        if !self.events.borrow().is_empty() {
            let events = self.events.borrow().iter().map(|event| (event.clone(), Label::default())).collect();
            if runner.deliver(events).await.is_err() {
                return (End::Cut, None);
            }
            self.events.borrow_mut().clear();
        }
        let began = self.time.passed();
        loop {
            meanwhile(self);
            if self.disk.is_off() {
                return (End::Cut, None);
            }
            let over = self.time.passed().saturating_sub(began.max(self.until));
            assert!(over < LIFE_MAX, "the runs came to no end: {}", self.stuck(&store));
            self.answer(&store, &runner).await;
            let open = "SELECT (SELECT count(*) FROM run WHERE ended_at IS NULL) + (SELECT count(*) FROM emitted)";
            let open: Result<i64, _> = store.read_blocking("look", |c| c.query_row(open, [], |row| row.get(0)));
            if open.is_ok_and(|open| open == 0) && self.time.passed() >= self.until {
                break;
            }
            self.time.rest(self.look_every).await;
        }
        let mut left = examine(&store).await;
        if let Some(left) = &mut left {
            left.keys = self.outside.made.lock().unwrap().keys().map(|key| timeless(key)).collect();
        }
        runner.close().await;
        (End::Done, left)
    }

    /// The person who is asked, now and then twice.
    async fn answer(&self, store: &Store, runner: &Runner) {
        let Ok(pending) = store.read_blocking("look", runs::approvals_pending) else { return };
        for question in pending {
            if self.chance.lock().unwrap().one_in(3) {
                drop(runner.decide_approval(approvals::answer(&question, Verdict::Approved)).await);
            }
        }
    }

    fn stuck(&self, store: &Store) -> String {
        let sql = "SELECT group_concat(id || ' ' || status || ' ' || coalesce(task, '') || ' ' || coalesce(note, ''), '; ') \
                   FROM run WHERE ended_at IS NULL";
        store.read_blocking("look", |c| c.query_row(sql, [], |row| row.get(0))).unwrap_or_default()
    }

    /// Restarts the machine after a cut.
    pub fn restart(&self, unsynced: Unsynced) {
        self.disk.restart(unsynced);
    }
}

/// What a node remembers, after what must hold of it was checked. `None`: the power went meanwhile.
async fn examine(store: &Store) -> Option<Left> {
    let tail = store.write("look", |tx| Ok(tx.tail().clone())).await.ok()?;
    store.read_blocking("look", |c| Ok(examined(c, &tail))).ok()?.ok()
}

/// A ULID begins with ten characters of time.
fn timeless(id: &str) -> String {
    id.chars().skip(10).collect()
}

fn examined(c: &rusqlite::Connection, tail: &tree::Tail) -> rusqlite::Result<Left> {
    let mut tree = tree::Tail::default();
    let (mut ledger, mut triggers) = (BTreeMap::new(), BTreeMap::new());
    let mut statement = c.prepare("SELECT seq, fact, body FROM ledger ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let body: Vec<u8> = row.get(2)?;
        assert_eq!(row.get::<_, i64>(0)?, i64::try_from(tree.size()).unwrap(), "the ledger has a gap");
        tree.push(tree::Hash::leaf(&body));
        let entry: Value = serde_json::from_slice(&body).expect("an entry is JSON");
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        if let Some(run) = text("run") {
            let sql = "SELECT count(*) FROM ledger_span WHERE run = ?1 AND ?2 >= first AND ?2 < first + count";
            let seq: i64 = row.get(0)?;
            let spans: i64 = c.prepare_cached(sql)?.query_row((run, seq), |row| row.get(0))?;
            assert_eq!(spans, 1, "an entry of a run stands in one of its spans");
        }
        if let (Some(workflow), Some(trigger)) = (text("workflow"), text("trigger")) {
            *triggers.entry((workflow.to_owned(), trigger.to_owned())).or_default() += 1;
        }
        *ledger.entry((text("run").map(timeless), text("task").map(str::to_owned), row.get(1)?)).or_default() += 1;
    }
    assert_eq!(tree, *tail, "the tree is that of the entries");
    let mut left = Left { runs: BTreeMap::new(), ledger, keys: BTreeSet::new(), triggers };
    let mut statement = c.prepare("SELECT id, status, output, steps FROM run")?;
    let mut rows = statement.query([])?;
    let catalog = catalog::Catalog::default();
    while let Some(row) = rows.next()? {
        let (id, status, output): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let folded = journal::load(c, &catalog, id.parse().unwrap())?.expect("the run is there");
        let summary = commit::Summary::of(&folded.state, false);
        assert_eq!(summary.status, status, "state is the fold of records");
        assert_eq!(summary.output.map(|output| output.to_string()), output, "state is the fold of records");
        let steps: (i64, i64) =
            c.query_row("SELECT count(*), coalesce(max(seq), -1) + 1 FROM run_step WHERE run = ?1", [&id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        assert_eq!(steps, (row.get(3)?, row.get(3)?), "every step is there once");
        left.runs.insert(timeless(&id), (status, output));
    }
    let none = |sql: &str| c.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|count| assert_eq!(count, 0, "{sql}"));
    none("SELECT count(*) FROM outbox")?;
    none("SELECT count(*) FROM emitted")?;
    none("SELECT count(*) FROM delivery")?;
    none("SELECT count(*) FROM approval WHERE status <> 'approved'")?;
    none("SELECT count(*) FROM (SELECT 1 FROM approval GROUP BY run, task HAVING count(*) > 1)")?;
    Ok(left)
}
