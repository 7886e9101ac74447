//! What each kind of task promises: a workflow, what happens to it, and what it asks and gives.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::{id::RunId, label::Label, time::Timestamp, workflow::Workflow};

use super::{effect::kind, *};

mod agents;
mod conformance;
mod control;
mod extensions;
mod faults;
mod flows;
mod histories;
mod kit;
mod listens;
mod messages;
mod restart;
mod waits;

const T0: i64 = 1_700_000_000_000_000;

fn workflow(text: &str) -> Arc<Workflow> {
    let head = "document: { dsl: '1.0.3', namespace: test, name: sample, version: '0.1.0' }\n";
    let text = if text.contains("dsl:") { text.to_owned() } else { format!("{head}{text}") };
    Arc::new(Workflow::parse("sample.yaml", &text).unwrap_or_else(|problems| panic!("{problems}\n{text}")))
}

/// A run that is driven by hand; every step is applied, and its effects and records are kept.
struct Driven {
    state: State,
    now: Timestamp,
    effects: Vec<Effect>,
    records: Vec<Record>,
}

impl Driven {
    fn start(text: &str, input: Value) -> Self {
        let now = Timestamp::from_micros(T0);
        let run = RunId::derive(now, b"test");
        let mut driven = Self { state: State::new(run, workflow(text)), now, effects: Vec::new(), records: Vec::new() };
        driven.command(Command::Start { input: input.into(), label: Label::default() });
        driven
    }

    fn command(&mut self, command: Command) {
        self.try_command(command).expect("the command fits");
    }

    fn try_command(&mut self, command: Command) -> Result<(), Rejection> {
        let mut step = decide(&self.state, command, self.now)?;
        loop {
            step.records.iter().for_each(|record| self.state.apply(record));
            self.records.extend(step.records);
            self.effects.extend(step.effects);
            if !step.more {
                return Ok(());
            }
            step = decide(&self.state, Command::Continue, self.now).expect("there is more");
        }
    }

    /// An event comes; every run that ends by it or not has remembered it or nothing.
    fn hear(&mut self, id: &str, kind: &str, data: Value) {
        let event = shared::event::Event::new(id, "https://here", kind, data);
        if self.is_running() {
            self.command(Command::Hear { event: event.into(), label: Label::default() });
        }
    }

    /// Throws the state away and folds it from the serialised records, as a restart does.
    fn refold(&mut self) {
        let journal = serde_json::to_string(&self.records).expect("records are plain data");
        let read: Vec<Record> = serde_json::from_str(&journal).expect("they read as they were written");
        assert_eq!(read, self.records);
        self.state = State::new(self.state.run, Arc::clone(&self.state.workflow));
        read.iter().for_each(|record| self.state.apply(record));
    }

    /// Lets time pass, and wakes the run.
    fn after(&mut self, millis: i64) {
        self.now = self.now.plus_micros(millis * 1_000);
        self.command(Command::Wake);
    }

    /// The effect asked last is answered well.
    fn complete(&mut self, output: Value) {
        let ask = self.asked().0;
        self.command(Command::Complete { ask, output, label: Label::default() });
    }

    fn fail(&mut self, kind: (&str, u16)) {
        let ask = self.asked().0;
        self.command(Command::Fail { ask, error: effect::Error::new(kind, "on purpose"), label: Label::default() });
    }

    fn asked(&self) -> (effect::Ask, Arc<effect::Call>) {
        let (ask, _) = self.state.asked().last().expect("something is asked");
        (ask, self.state.performed(ask).expect("it is asked"))
    }

    fn output(&self) -> Value {
        match self.state.phase() {
            Phase::Ended { ending: Ending::Completed, output: Some(output), .. } => Value::clone(output),
            other => panic!("the run has not completed: {other:?}"),
        }
    }

    fn error(&self) -> effect::Error {
        match self.state.phase() {
            Phase::Ended { ending: Ending::Faulted, error: Some(error), .. } => error.clone(),
            other => panic!("the run has not faulted: {other:?}"),
        }
    }

    fn is_running(&self) -> bool {
        *self.state.phase() == Phase::Running
    }
}

/// Runs a workflow that asks for nothing, and compares its output.
#[track_caller]
fn check(text: &str, input: Value, expected: Value) {
    assert_eq!(Driven::start(text, input).output(), expected, "{text}");
}
