//! Durable steps: what the runner does over a real store, in one process of its own. `tests/bench/steps` runs it beside
//! LangGraph and the bare limit of SQLite. A step is a task that ended and whose end is on the disk.
//!
//! Each mode prints one line of JSON. The folder is emptied first, except by `open`.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use edge_agent::{
    store::Store,
    workflow::{Outcome, Perform, Person, Runner},
};
use edge_core::engine::effect::{Call, Completion, Failure, Keep, kind};
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::{Value, json};
use shared::{digest::Digest, event::Event, label::Label, ledger::entry::Fact, time::Timestamp, workflow::Workflow};
use tokio::task::JoinSet;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Few short runs are looked at whenever one of them changed: a pause would be measured with them. Looking as often at many
/// runs, or at long ones, would be measured too.
const FEW_RUNS: i64 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Clients that start runs, each one after the other.
const STARTING_MAX: usize = 256;

#[derive(Parser)]
struct Options {
    mode: Mode,
    /// Where the store lies; on a disk or on a memory file system.
    folder: PathBuf,
    /// Runs that are started together.
    #[arg(long, default_value_t = 2_000)]
    runs: usize,
    /// Start a run when the one before has ended.
    #[arg(long)]
    one_by_one: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Five tasks that change data, as the five nodes of the LangGraph program do.
    Pure,
    /// A loop of 200 turns with `set` and `switch`.
    Loop,
    /// Five calls, each answered at once: every task is a transaction of its own, and a second one asks.
    Calls,
    /// The same 200 times in a loop, so that the beginning and the end of a run hardly count.
    LongCalls,
    /// Commits of one row each, with nothing else: the limit of SQLite on this disk.
    Sqlite,
    /// The same with a thousand rows in each commit.
    SqliteGrouped,
    /// Runs that begin to wait for a day.
    Park,
    /// Opens the store that `park` left: how long it takes, and how much memory the runs need.
    Open,
    /// One run with most kinds of tasks, taken up where a kill left it; tells what the ledger and the outside know of it.
    /// The folder is not emptied.
    Kinds,
    /// Runs that all are in the middle of their work, for some seconds.
    Active,
}

const SET: &str = r#"
do:
- n0: { set: { n: '${ .n + 1 }', log: '${ .log + ["step 0 done"] }' } }
- n1: { set: { n: '${ .n + 1 }', log: '${ .log + ["step 1 done"] }' } }
- n2: { set: { n: '${ .n + 1 }', log: '${ .log + ["step 2 done"] }' } }
- n3: { set: { n: '${ .n + 1 }', log: '${ .log + ["step 3 done"] }' } }
- n4: { set: { n: '${ .n + 1 }', log: '${ .log + ["step 4 done"] }' } }
"#;

const LOOP: &str = r"
do:
- each:
    for: { each: i, in: '${ [range(200)] }' }
    do:
    - odd:
        switch:
        - yes: { when: '${ $i % 2 == 1 }', then: one }
        - no: { then: two }
    - one: { set: { n: '${ .n + 1 }' }, then: exit }
    - two: { set: { n: '${ .n + 2 }' } }
";

const CALLS: &str = r"
do:
- n0: { call: http, with: { method: get, endpoint: 'http://nobody/' } }
- n1: { call: http, with: { method: get, endpoint: 'http://nobody/' } }
- n2: { call: http, with: { method: get, endpoint: 'http://nobody/' } }
- n3: { call: http, with: { method: get, endpoint: 'http://nobody/' } }
- n4: { call: http, with: { method: get, endpoint: 'http://nobody/' } }
";

const LONG_CALLS: &str = r"
do:
- each:
    for: { each: i, in: '${ [range(200)] }' }
    do:
    - n0: { call: http, with: { method: get, endpoint: 'http://nobody/' } }
";

const DAY: &str = "
do:
- before: { set: { n: 1 } }
- rest: { wait: P1D }
";

const KINDS: &str = r"
schedule: { 'on': { one: { with: { type: go } } } }
do:
- begin: { set: { n: 1, go: true } }
- choose: { switch: [{ yes: { when: .go, then: each } }, { no: { then: exit } }] }
- each:
    for: { each: i, in: '${ [1, 2] }' }
    do: [{ post: { call: http, with: { method: post, endpoint: 'http://nobody/', body: '${ $i }' } } }]
- both:
    fork:
      branches:
      - left: { call: publish, with: { topic: left, payload: 1 } }
      - right: { do: [{ rest: { wait: PT0.02S } }, { tell: { call: http, with: { method: get, endpoint: 'http://nobody/' } } }] }
- again:
    try: [{ thrown: { raise: { error: { type: 'https://example.com/odd', status: 418 } } } }]
    catch: { retry: { delay: PT0.01S, limit: { attempt: { count: 2 } } }, do: [{ caught: { set: { caught: true } } }] }
- say: { emit: { event: { with: { type: said, data: { x: 1 } } } } }
- done: { set: { done: true } }
";

const ACTIVE: &str = "
do:
- each:
    for: { each: i, in: '${ [range(10)] }' }
    do:
    - rest: { wait: PT1S }
    - one: { set: { n: '${ .n + 1 }' } }
";

/// Answers every call at once, and writes its key to a file if there is one: what an outside sees that honours no key.
struct AtOnce(Option<Mutex<File>>);

impl Perform for AtOnce {
    fn perform<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Outcome, Failure>> {
        async move {
            if let Some(outside) = &self.0 {
                let written = outside.lock().map(|mut file| writeln!(file, "{}", call.key.0));
                if !matches!(written, Ok(Ok(()))) {
                    return Err(Failure::new(kind::RUNTIME, "the file of effects cannot be written"));
                }
            }
            Ok(Outcome::Done(Completion { output: json!({"n": 1}), label: call.label.clone(), facts: Vec::new() }))
        }
        .boxed()
    }

    fn may_start(&self, _call: &Call, _workflow: &str) -> Result<Vec<Fact>, Failure> {
        Ok(Vec::new())
    }

    fn keep(&self, _workflow: &str, _label: &Label) -> Keep {
        Keep::Text
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if !matches!(options.mode, Mode::Open | Mode::Kinds) {
        drop(std::fs::remove_dir_all(&options.folder));
    }
    std::fs::create_dir_all(&options.folder)?;
    let path = options.folder.join("node.db");
    let measured = match options.mode {
        Mode::Pure => steps(&path, SET, &options, "completed").await?,
        Mode::Loop => steps(&path, LOOP, &options, "completed").await?,
        Mode::Calls => steps(&path, CALLS, &options, "completed").await?,
        Mode::LongCalls => steps(&path, LONG_CALLS, &options, "completed").await?,
        Mode::Sqlite => sqlite(&path, 1)?,
        Mode::SqliteGrouped => sqlite(&path, 1_000)?,
        Mode::Park => steps(&path, DAY, &options, "waiting").await?,
        Mode::Open => open(&path).await?,
        Mode::Kinds => kinds(&path).await?,
        Mode::Active => steps(&path, ACTIVE, &options, "completed").await?,
    };
    println!("{measured}");
    Ok(())
}

async fn node(path: &Path) -> Result<(Store, Runner), Box<dyn Error>> {
    let store = Store::open(path)?;
    let runner = Runner::open(store.clone(), Arc::new(AtOnce(None))).await?;
    Ok((store, runner))
}

fn workflow(body: &str) -> Result<Arc<Workflow>, Box<dyn Error>> {
    let text = format!("document: {{ dsl: '1.0.3', namespace: bench, name: w, version: '0.1.0' }}\n{body}");
    Ok(Arc::new(Workflow::parse("w.yaml", &text)?))
}

/// Delivers the event that starts the one run, again and again over several lives, and waits for the run's end.
async fn kinds(path: &Path) -> Result<Value, Box<dyn Error>> {
    let outside = path.with_file_name("outside");
    let file = File::options().append(true).create(true).open(&outside)?;
    let store = Store::open(path)?;
    let runner = Runner::open(store.clone(), Arc::new(AtOnce(Some(Mutex::new(file))))).await?;
    runner.set_workflows(Digest::of(b"bench"), vec![workflow(KINDS)?]).await?;
    let mut event = Event::new("1", "bench", "go", json!({}));
    event.time = Some(Timestamp::default());
    runner.deliver(vec![(event, Label::default())]).await?;
    until(&store, &runner, "completed", 1, None).await?;
    let ledger: BTreeMap<String, i64> = store
        .read("count the facts", |c| {
            let mut statement = c.prepare(
                "SELECT fact || ' ' || coalesce(json_extract(body, '$.task'), ''), count(*) FROM ledger GROUP BY 1",
            )?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .await?;
    let ended: (String, Option<String>, i64) = store
        .read("look at the run", |c| {
            c.query_row("SELECT status, output, (SELECT count(*) FROM outbox) FROM run", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })
        .await?;
    runner.close().await;
    let mut effects = BTreeMap::<String, u32>::new();
    for key in std::fs::read_to_string(outside)?.lines() {
        *effects.entry(key.to_owned()).or_default() += 1;
    }
    Ok(json!({ "run": ended, "ledger": ledger, "effects": effects }))
}

/// Starts the runs, waits until all have this status, and tells how many tasks ended a second.
async fn steps(path: &Path, body: &str, options: &Options, status: &'static str) -> Result<Value, Box<dyn Error>> {
    let (store, runner) = node(path).await?;
    let runs = options.runs;
    runner.set_workflows(Digest::of(b"bench"), vec![workflow(body)?]).await?;
    let is_long = matches!(options.mode, Mode::Loop | Mode::LongCalls);
    let pause = (is_long || i64::try_from(runs)? > FEW_RUNS && !options.one_by_one).then_some(LOOK_EVERY);
    let before = resident_kb("VmRSS");
    let began = Instant::now();
    if options.one_by_one {
        for done in 1..=runs {
            start(&runner).await?;
            until(&store, &runner, status, i64::try_from(done)?, pause).await?;
        }
    } else {
        let mut clients = JoinSet::new();
        for client in 0..STARTING_MAX {
            let (runner, own) = (runner.clone(), (client..runs).step_by(STARTING_MAX));
            clients.spawn(async move {
                for _ in own {
                    start(&runner).await?;
                }
                Ok::<_, edge_agent::workflow::Error>(())
            });
        }
        while let Some(done) = clients.join_next().await {
            done??;
        }
    }
    let started_s = began.elapsed().as_secs_f64();
    until(&store, &runner, status, i64::try_from(runs)?, pause).await?;
    let seconds = began.elapsed().as_secs_f64();
    let tasks: i64 = store
        .read("count the tasks", |c| {
            c.query_row("SELECT count(*) FROM ledger WHERE fact = 'task-ended'", [], |r| r.get(0))
        })
        .await?;
    let measured = json!({
        "runs": runs, "steps": tasks, "seconds": seconds, "started_s": started_s, "steps_s": tasks as f64 / seconds,
        "peak_mb": resident_kb("VmHWM") as f64 / 1e3, "before_mb": before as f64 / 1e3,
    });
    runner.close().await;
    Ok(measured)
}

async fn start(runner: &Runner) -> Result<(), edge_agent::workflow::Error> {
    let (name, role, place) = ("bench".to_owned(), "operator".to_owned(), "command line".to_owned());
    let by = Person { name, role, place, comment: None };
    runner.start("bench/w", json!({"n": 0, "log": []}), Label::default(), by).await?;
    Ok(())
}

/// Waits until all runs have this status, or have come to a good end.
async fn until(
    store: &Store,
    runner: &Runner,
    status: &'static str,
    runs: i64,
    pause: Option<Duration>,
) -> Result<(), Box<dyn Error>> {
    let mut changes = runner.changes();
    // By the index over open runs.
    let others = "SELECT count(*) FROM (SELECT 1 FROM run WHERE status IN ('pending', 'running', 'waiting') \
                  AND status <> ?1 LIMIT 1)";
    let all = "SELECT count(*) FROM run WHERE status IN (?1, 'completed')";
    loop {
        changes.borrow_and_update();
        let count = move |c: &rusqlite::Connection| c.prepare_cached(others)?.query_row([status], |row| row.get(0));
        let open: i64 = store.read("count the open runs", count).await?;
        if open == 0 {
            let count = move |c: &rusqlite::Connection| c.prepare_cached(all)?.query_row([status], |row| row.get(0));
            let found: i64 = store.read("count the runs", count).await?;
            return if found == runs { Ok(()) } else { Err(format!("{found} of {runs} runs are {status}").into()) };
        }
        drop(tokio::time::timeout(Duration::from_millis(100), changes.changed()).await);
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

/// What parked runs cost a start.
async fn open(path: &Path) -> Result<Value, Box<dyn Error>> {
    let empty = path.with_file_name("empty.db");
    let (store, runner) = node(&empty).await?;
    runner.close().await;
    drop((store, runner));
    let before = resident_kb("VmRSS");
    let began = Instant::now();
    let (store, runner) = node(path).await?;
    let seconds = began.elapsed().as_secs_f64();
    let parked: i64 = store
        .read("count the runs", |c| {
            c.query_row("SELECT count(*) FROM run WHERE status = 'waiting'", [], |row| row.get(0))
        })
        .await?;
    let after = resident_kb("VmRSS");
    runner.close().await;
    Ok(json!({"parked": parked, "seconds": seconds, "added_mb": after.saturating_sub(before) as f64 / 1e3}))
}

/// Rows a second of bare SQLite, with the settings of the store.
fn sqlite(path: &Path, group: usize) -> Result<Value, Box<dyn Error>> {
    let connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL)")?;
    let (began, mut rows) = (Instant::now(), 0_usize);
    while began.elapsed() < Duration::from_secs(3) {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..group {
            connection
                .prepare_cached("INSERT INTO t (v) VALUES (?1)")?
                .execute(["a row of some hundred bytes ".repeat(4)])?;
            rows += 1;
        }
        connection.execute_batch("COMMIT")?;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(
        json!({"rows": rows, "seconds": seconds, "rows_s": rows as f64 / seconds, "commits_s": (rows / group) as f64 / seconds}),
    )
}

fn resident_kb(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
