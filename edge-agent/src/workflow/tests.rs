//! The runner over a real store: what is kept, what is performed, and what a restart makes of it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use edge_core::engine::effect::{Call, Completion, Failure, Keep, kind};
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::{Value, json};
use shared::{
    digest::Digest,
    event::{Event, FINDING_TYPE},
    id::RunId,
    label::{DataClass, Label},
    ledger::entry::{CallEnd, Content, Fact, Verdict},
    wire::v1::{PendingApproval, RunSummary},
    workflow::Workflow,
};

use super::*;
use crate::{
    clock,
    store::{Store, runs},
};

mod agents;
mod approvals;
mod children;
mod conformance;
mod control;
mod cuts;
mod episodes;
mod examples;
#[path = "../../core/src/engine/tests/kit.rs"]
mod kit;
mod listens;
mod outlet;
mod restarts;
mod rooms;
mod schedules;
mod seeds;
pub(crate) mod simulated;
mod starts;

/// Somebody who may steer runs.
fn person() -> Person {
    let (name, place) = ("Ada".to_owned(), "command line".to_owned());
    Person { name, role: "operator".to_owned(), place, comment: Some("on purpose".to_owned()) }
}

/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// Performs by a script, and remembers what it was asked.
#[derive(Default)]
struct Script {
    asked: Mutex<Vec<(String, Value)>>,
    /// `hang` never answers; `park` parks while it is set.
    is_down: std::sync::atomic::AtomicBool,
}

impl Script {
    fn keys(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(key, _)| key.split_once(':').unwrap().1.to_owned()).collect()
    }

    fn set_down(&self, down: bool) {
        self.is_down.store(down, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A request that left for a model and broke off.
fn sent() -> Fact {
    Fact::ModelCalled {
        target: "cloud/large".to_owned(),
        model: "large".to_owned(),
        prompt: Content::digested("a"),
        answer: Content::digested(""),
        ended: CallEnd::Cut,
        tokens_in: 0,
        tokens_out: 0,
        cost_micro_usd: 0,
        duration_ms: 1,
    }
}

impl Perform for Script {
    fn perform<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Outcome, Failure>> {
        async move {
            self.asked.lock().unwrap().push((call.key.0.clone(), call.input.clone()));
            let down = self.is_down.load(std::sync::atomic::Ordering::SeqCst);
            let said = Fact::RouteChosen { choice: call.function.clone(), reasons: Vec::new() };
            match call.function.as_str() {
                "approve" => {
                    let text = |name: &str| call.input[name].as_str().unwrap().to_owned();
                    let (role, title, shown) = (text("role"), text("title"), call.input["proposal"].clone());
                    let proposal = Proposal { role, title, shown, keep: Keep::Text };
                    Ok(Outcome::Ask { proposal, facts: vec![said] })
                }
                "infer" if down => {
                    let ask_again_at = Some(clock::now().plus(Duration::from_secs(3_600)));
                    let facts = vec![sent(), said];
                    Err(Failure { facts, ask_again_at, ..Failure::new(kind::COMMUNICATION, "no link") })
                }
                // An agent's first turn wants two tools; the next is its answer.
                "chat" => {
                    let output = if call.key.0.ends_with("/turn/0") {
                        json!({"toolCalls": [
                            {"id": "a", "name": "retrieve", "arguments": {"query": "a"}}, {"id": "b", "name": "fetch", "arguments": {}},
                        ]})
                    } else {
                        json!({"text": "done"})
                    };
                    Ok(Outcome::Done(Completion { output, label: call.label.clone(), facts: vec![said] }))
                }
                "http" | "asyncapi" if down => futures::future::pending().await,
                "embed" => Err(Failure::new(kind::COMMUNICATION, "always")),
                "classify" => panic!("on purpose"),
                _ => {
                    let output = json!({"did": call.function, "with": call.input});
                    Ok(Outcome::Done(Completion { output, label: call.label.clone(), facts: vec![said] }))
                }
            }
        }
        .boxed()
    }

    fn may_start(&self, call: &Call, workflow: &str) -> Result<Vec<Fact>, Failure> {
        let choice = format!("start {workflow} for {}", call.agent.as_ref().map_or("", |agent| &agent.name));
        Ok(vec![Fact::RouteChosen { choice, reasons: Vec::new() }])
    }

    fn pace(&self, call: &Call) -> Pace {
        if call.function == "asyncapi" { Pace::Long } else { Pace::Quick }
    }

    fn keep(&self, _workflow: &str, label: &Label) -> Keep {
        if label.class > DataClass::Internal { Keep::Digest } else { Keep::Text }
    }
}

/// A node's runs over a store that outlives the runner.
struct Node {
    dir: tempfile::TempDir,
    store: Store,
    script: Arc<Script>,
    runner: Runner,
    workflows: Vec<Arc<Workflow>>,
}

impl Node {
    async fn new(bodies: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let workflows = bodies.iter().enumerate().map(|(n, body)| workflow(n, body)).collect();
        Self::open(dir, workflows).await
    }

    async fn open(dir: tempfile::TempDir, workflows: Vec<Arc<Workflow>>) -> Self {
        let store = Store::open(&path(&dir)).unwrap();
        let script = Arc::new(Script::default());
        let runner = Runner::open(store.clone(), Arc::clone(&script) as Arc<dyn Perform>).await.unwrap();
        runner.set_workflows(Digest::of(b"bundle"), workflows.clone()).await.unwrap();
        Self { dir, store, script, runner, workflows }
    }

    /// Ends the runner as a kill would for all that the store sees, and opens another on the same store.
    async fn reopen(self) -> Self {
        self.reopen_with(|_| ()).await
    }

    async fn reopen_with(self, between: impl FnOnce(&rusqlite::Connection)) -> Self {
        self.runner.close().await;
        drop((self.runner, self.store));
        between(&rusqlite::Connection::open(path(&self.dir)).unwrap());
        Self::open(self.dir, self.workflows).await
    }

    async fn start(&self, input: Value) -> RunId {
        self.runner.start("test/w0", input, Label::default(), person()).await.unwrap().run.unwrap()
    }

    async fn deliver(&self, id: &str, kind: &str, data: Value) {
        let event = Event::new(id, "https://here", kind, data);
        self.runner.deliver(vec![(event, Label::default())]).await.unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        self.until(move |c| c.query_row(sql, [], |row| row.get::<_, i64>(0)).ok()).await
    }

    /// The one run of this workflow with this status.
    async fn until_one(&self, workflow: &'static str, status: &'static str) -> RunId {
        let filter = move || runs::Filter {
            workflow: Some(workflow.to_owned()),
            status: Some(status.to_owned()),
            ..runs::Filter::default()
        };
        self.until(move |c| runs::list(c, &filter()).unwrap().pop()).await.run
    }

    /// Waits until the store says so.
    async fn until<T: Send + 'static>(
        &self,
        query: impl Fn(&rusqlite::Connection) -> Option<T> + Send + Sync + Clone + 'static,
    ) -> T {
        let mut changes = self.runner.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let query = query.clone();
                if let Some(found) = self.store.read("look", move |c| Ok(query(c))).await.unwrap() {
                    return found;
                }
                // A change between the read and here is seen by the version that `borrow_and_update` marked.
                drop(tokio::time::timeout(Duration::from_millis(50), changes.changed()).await);
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("what was waited for comes")
    }

    async fn until_status(&self, run: RunId, status: &'static str) -> RunSummary {
        self.until(move |c| runs::one(c, run).unwrap().filter(|summary| summary.status == status)).await
    }

    async fn output(&self, run: RunId) -> Value {
        self.until_status(run, "completed").await;
        self.until(move |c| runs::detail(c, run).unwrap()).await.output.unwrap()
    }

    async fn until_asked(&self) -> PendingApproval {
        self.until(|c| runs::approvals_pending(c).unwrap().into_iter().next()).await
    }

    /// The facts of the ledger, by name, with their number.
    async fn facts(&self, name: &'static str) -> usize {
        let count = move |c: &rusqlite::Connection| {
            c.query_row("SELECT count(*) FROM ledger WHERE fact = ?1", [name], |row| row.get::<_, i64>(0)).ok()
        };
        usize::try_from(self.until(count).await).unwrap()
    }
}

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("node.db")
}

fn workflow(number: usize, body: &str) -> Arc<Workflow> {
    let text = format!("document: {{ dsl: '1.0.3', namespace: test, name: w{number}, version: '0.1.0' }}\n{body}");
    Arc::new(Workflow::parse("w.yaml", &text).unwrap_or_else(|problems| panic!("{problems}\n{text}")))
}

fn finding(id: &str) -> Event {
    let data = json!({"device": "pump-7", "channel": "vibration", "detector": "limits", "severity": "critical"});
    let mut event = Event::new(id, "skerry://basel/line", FINDING_TYPE, data);
    event.subject = Some("pump-7/vibration".to_owned());
    event.time = Some("2026-11-21T08:00:00Z".parse().unwrap());
    event
}
