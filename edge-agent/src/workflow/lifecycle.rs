//! What happens to runs and tasks, as events (dsl.md, "Lifecycle Events"): made only of kinds that a workflow of this node
//! waits for by name.
//!
//! Whatever goes back to a lifecycle event makes none itself, so that no run can keep itself going: how many such events
//! lie between a run and what came from outside travels with runs, with their children and retries, and with the events
//! that they emit.

use std::collections::BTreeSet;

use edge_core::{
    engine::{Ending, Phase, Record, State, record::FrameId},
    hear::{Arrival, filter, gather},
};
use serde_json::{Value, json};
use shared::{
    event::Event,
    id::RunId,
    label::Label,
    time::Timestamp,
    workflow::{
        Workflow,
        definition::{Item, Kind, Strategy, Task},
    },
};

use super::{
    commit::Commit,
    journal::Loaded,
    runner::Inner,
    withheld::{self, Why},
};

/// How the types of all lifecycle events begin.
pub(super) const PREFIX: &str = "io.serverlessworkflow.";

/// How many lifecycle events may lie between a run and what came from outside. One is enough to tell somebody; with two,
/// each run that tells would be told of in turn.
pub(super) const GENERATIONS_MAX: u32 = 1;

/// The first word of what started a run, when that was a lifecycle event.
pub(super) const TRIGGER: &str = "lifecycle";

/// Whether this is the type of a lifecycle event.
pub(super) fn is_one(kind: &str) -> bool {
    kind.starts_with("io.serverlessworkflow.workflow.") || kind.starts_with("io.serverlessworkflow.task.")
}

/// The types of lifecycle events that a workflow waits for.
pub(super) fn wanted(workflow: &Workflow, types: &mut BTreeSet<String>) {
    let definition = workflow.definition();
    if let Some(on) = definition.schedule.as_ref().and_then(|schedule| schedule.on.as_ref()) {
        of_strategy(on, types);
    }
    of_tasks(&definition.tasks, types);
}

fn of_strategy(strategy: &Strategy, types: &mut BTreeSet<String>) {
    let kinds = gather::filters(strategy).filter_map(|filter| filter::literal(filter, "type"));
    types.extend(kinds.filter(|kind| kind.starts_with(PREFIX)).map(str::to_owned));
}

fn of_tasks(tasks: &[Item<Task>], types: &mut BTreeSet<String>) {
    for item in tasks {
        match &item.value.kind {
            Kind::Listen(listen) => {
                of_strategy(&listen.to, types);
                let tasks = listen.foreach.as_ref().and_then(|foreach| foreach.tasks.as_deref());
                of_tasks(tasks.unwrap_or_default(), types);
            }
            Kind::Call(call) => of_tasks(call.tasks(), types),
            Kind::Do(tasks) => of_tasks(tasks, types),
            Kind::For(each) => of_tasks(&each.tasks, types),
            Kind::Fork(fork) => of_tasks(&fork.branches, types),
            Kind::Try(attempt) => {
                of_tasks(&attempt.tasks, types);
                of_tasks(attempt.catch.tasks.as_deref().unwrap_or_default(), types);
            }
            _ => {}
        }
    }
}

impl Inner {
    /// Adds the lifecycle events of a step that go out, and those that a workflow waits for, or what is said of them when they may not be made.
    pub(super) fn tell_lifecycle(&self, loaded: &Loaded, label: &Label, commit: &mut Commit) {
        let wanted = self.catalog.lifecycle();
        if wanted.is_empty() && !self.outlet.is_open() {
            return;
        }
        let mut events = of_step(&loaded.state, &commit.records, loaded.steps, commit.now);
        commit.told = self.outlet.chosen(&events);
        events.retain(|event| wanted.contains(&event.kind));
        if commit.generation < GENERATIONS_MAX {
            let generation = commit.generation + 1;
            let made = events.into_iter().map(|event| Arrival { event, label: label.clone(), generation });
            commit.emitted.extend(made);
        } else if let Some(first) = events.first() {
            let (count, kind) = (events.len() as u64, first.kind.clone());
            commit.withheld = count;
            let entry = withheld::entry(&commit.workflow, Some(commit.run), Why::Loop, count, &kind, commit.now);
            commit.entries.push(entry);
        }
    }
}

/// Every lifecycle event of a step. `before` is the state that the step was decided on, `step` its number.
fn of_step(before: &State, records: &[Record], step: i64, now: Timestamp) -> Vec<Event> {
    let events = Events::new(before.run, &before.workflow.definition().qualified_name(), step);
    let mut made = Made { state: before.clone(), events, now };
    for record in records {
        made.record(record);
        let before = made.open();
        made.state.apply(record);
        made.swept(record, before);
        made.task_began(record);
    }
    made.events.made
}

/// The lifecycle events of an end that no record tells of. `workflow` is `namespace/name`, `word` the run's status.
pub(super) fn of_end(
    run: RunId,
    workflow: &str,
    step: i64,
    word: &str,
    at: Timestamp,
    error: Option<Value>,
) -> Vec<Event> {
    let mut events = Events::new(run, workflow, step);
    let more = error.map_or_else(|| json!({}), |error| json!({ "error": error }));
    events.of_run(word, at, &format!("{word}At"), more);
    events.made
}

/// Whether the runner made this event, not a task.
pub(super) fn is_made(event: &Event) -> bool {
    is_one(&event.kind) && event.id.contains(ID)
}

/// What stands in the ids of lifecycle events behind the run's.
const ID: &str = ":lifecycle:";

/// Events that one step of a run makes.
struct Events {
    run: RunId,
    /// `namespace/name`.
    workflow: String,
    /// `NAME-RUN.NAMESPACE`, as the specification names a run.
    name: String,
    step: i64,
    made: Vec<Event>,
}

impl Events {
    fn new(run: RunId, workflow: &str, step: i64) -> Self {
        let (namespace, name) = workflow.split_once('/').unwrap_or(("", workflow));
        let name = format!("{name}-{}.{namespace}", run.to_string().to_lowercase());
        Self { run, workflow: workflow.to_owned(), name, step, made: Vec::new() }
    }

    fn push(&mut self, what: &str, at: Timestamp, data: Value) {
        let source = format!("/workflows/{}", self.workflow);
        let id = format!("{}{ID}{}.{}", self.run, self.step, self.made.len());
        let mut event = Event::new(id, source, format!("{PREFIX}{what}.v1"), data);
        event.subject = Some(self.run.to_string());
        event.time = Some(at);
        self.made.push(event);
    }

    fn of_run(&mut self, word: &str, at: Timestamp, key: &str, more: Value) {
        let mut data = json!({ "name": self.name, key: at });
        merge(&mut data, more);
        self.push(&format!("workflow.{word}"), at, data);
        let status = match word {
            "started" | "resumed" => "running",
            word => word,
        };
        let data = json!({ "name": self.name, "updatedAt": at, "status": status });
        self.push("workflow.status-changed", at, data);
    }
}

struct Made {
    state: State,
    events: Events,
    /// When the step is decided.
    now: Timestamp,
}

impl Made {
    fn of_task(&mut self, word: &str, frame: u32, at: Timestamp, key: &str, more: Value) {
        let Some(task) = self.state.reference(frame) else { return };
        let mut data = json!({ "workflow": self.events.name, "task": task, key: at });
        merge(&mut data, more);
        self.events.push(&format!("task.{word}"), at, data);
    }

    fn record(&mut self, record: &Record) {
        let none = || json!({});
        match record {
            Record::Started { at, .. } => {
                let document = &self.state.workflow.definition().document;
                let definition =
                    json!({ "name": document.name, "namespace": document.namespace, "version": document.version });
                self.events.of_run("started", *at, "startedAt", json!({ "definition": definition }));
            }
            Record::Suspended { at } => {
                self.events.of_run("suspended", *at, "suspendedAt", none());
                self.of_open_tasks("suspended", *at, "suspendedAt");
            }
            Record::Resumed { at } => {
                self.events.of_run("resumed", *at, "resumedAt", none());
                self.of_open_tasks("resumed", *at, "resumedAt");
            }
            Record::Ended { at, ending, error, .. } => {
                let (word, key) = match ending {
                    Ending::Completed => ("completed", "completedAt"),
                    Ending::Faulted => ("faulted", "faultedAt"),
                    Ending::Cancelled => ("cancelled", "cancelledAt"),
                };
                if *ending != Ending::Completed && *self.state.phase() == Phase::Running {
                    self.of_open_tasks("cancelled", *at, "cancelledAt");
                }
                let more = error.as_ref().map_or_else(none, |error| json!({ "error": error }));
                self.events.of_run(word, *at, key, more);
            }
            // A task whose `if` was false was there, and has nothing more to do.
            Record::TaskSkipped { frame, at } | Record::TaskEnded { frame, at, .. } => {
                self.of_task("completed", *frame, *at, "completedAt", none())
            }
            Record::TaskFaulted { frame, at, error } => {
                self.of_task("faulted", *frame, *at, "faultedAt", json!({ "error": error }));
            }
            Record::TryBegan { frame, attempt, at } if *attempt > 0 => {
                self.of_task("retried", *frame, *at, "retriedAt", none());
            }
            Record::ListenBegan { at, .. } => {
                let data = json!({ "name": self.events.name, "startedAt": at });
                self.events.push("workflow.correlation-started", *at, data);
            }
            Record::ListenClosed { .. } => {
                let data = json!({ "name": self.events.name, "completedAt": self.now });
                self.events.push("workflow.correlation-completed", self.now, data);
            }
            Record::EventTaken { at, fixes, closes: true, .. } => {
                let data = json!({ "name": self.events.name, "completedAt": at, "correlationKeys": fixes });
                self.events.push("workflow.correlation-completed", *at, data);
            }
            _ => {}
        }
    }

    fn of_open_tasks(&mut self, word: &str, at: Timestamp, key: &str) {
        for frame in self.state.open_tasks() {
            self.of_task(word, frame, at, key, json!({}));
        }
    }

    /// The open tasks and their references.
    fn open(&self) -> Vec<(FrameId, Option<String>)> {
        self.state.open_tasks().into_iter().map(|frame| (frame, self.state.reference(frame))).collect()
    }

    /// What went away with another task: the branches that lost a race, what an error or a timeout left behind.
    fn swept(&mut self, record: &Record, before: Vec<(FrameId, Option<String>)>) {
        let (own, at) = match record {
            Record::TaskEnded { frame, at, .. } | Record::TaskSkipped { frame, at } => (Some(*frame), *at),
            Record::TaskFaulted { frame, at, .. } => (Some(*frame), *at),
            // Told already, by how the run ended.
            Record::Ended { .. } => return,
            _ => (None, self.now),
        };
        let still: BTreeSet<FrameId> = self.state.open_tasks().into_iter().collect();
        for (frame, task) in before {
            if let (false, true, Some(task)) = (still.contains(&frame), own != Some(frame), task) {
                let data = json!({ "workflow": self.events.name, "task": task, "cancelledAt": at });
                self.events.push("task.cancelled", at, data);
            }
        }
    }

    /// A task has a reference only once it is there.
    fn task_began(&mut self, record: &Record) {
        if let Record::TaskStarted { frame, at, .. } = record {
            self.of_task("created", *frame, *at, "createdAt", json!({}));
            self.of_task("started", *frame, *at, "startedAt", json!({}));
        }
    }
}

fn merge(data: &mut Value, more: Value) {
    if let (Value::Object(data), Value::Object(more)) = (data, more) {
        data.extend(more);
    }
}
