//! A run from its beginning to its end, with mocked calls and simulated time: waits pass at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;
use shared::{event::Event, id::RunId, label::Label, time::Timestamp, workflow::Workflow};

use super::case::{Case, Failing, Mock, Mocks, Outcome};
use crate::engine::{
    Command, Effect, Phase, Record, State, Step, decide,
    effect::{Ask, Call, Error, kind},
    history,
};

/// Decisions of one run; beyond it, the case has no end.
const STEPS_MAX: usize = 20_000;
/// 2026-01-01T00:00:00Z.
const BEGIN_US: i64 = 1_767_225_600_000_000;

/// What came of a case.
pub struct Played {
    pub phase: Phase,
    pub tasks: Vec<history::TaskView>,
    /// Every call in order: function and input.
    pub calls: Vec<(String, Value)>,
    pub emitted: Vec<Event>,
    /// Why the run could not go on: a call without a mock, an event that nobody sends.
    pub stuck: Option<String>,
}

/// Plays a case.
#[must_use]
pub fn play(workflow: &Arc<Workflow>, case: &Case) -> Played {
    let begin = case.now.unwrap_or(Timestamp::from_micros(BEGIN_US));
    let run = RunId::derive(begin, case.name.as_bytes());
    let mut stage = Stage {
        state: State::new(run, Arc::clone(workflow)),
        now: begin,
        case,
        records: Vec::new(),
        calls: Vec::new(),
        emitted: Vec::new(),
        answers: BTreeMap::new(),
        used: HashMap::new(),
        heard: 0,
    };
    let stuck = stage.go().err();
    let tasks = history::tasks(&stage.records);
    Played { phase: stage.state.phase().clone(), tasks, calls: stage.calls, emitted: stage.emitted, stuck }
}

struct Stage<'a> {
    state: State,
    now: Timestamp,
    case: &'a Case,
    records: Vec<Record>,
    calls: Vec<(String, Value)>,
    emitted: Vec<Event>,
    /// When each call under way is answered, and how.
    answers: BTreeMap<Ask, (Timestamp, Outcome)>,
    /// How often each list of mocks was asked.
    used: HashMap<String, usize>,
    heard: usize,
}

impl Stage<'_> {
    fn go(&mut self) -> Result<(), String> {
        self.take(Command::Start { input: Arc::new(self.case.input.clone()), label: Label::default() })?;
        for _ in 0..STEPS_MAX {
            if *self.state.phase() != Phase::Running {
                return Ok(());
            }
            let command = self.next()?;
            self.take(command)?;
        }
        Err(format!("the run has not ended after {STEPS_MAX} steps and stands at {}", self.place()))
    }

    /// What happens next: an event that is listened for, else what is due first.
    fn next(&mut self) -> Result<Command, String> {
        if self.state.is_listening()
            && let Some(event) = self.case.events.get(self.heard)
        {
            self.heard += 1;
            let id = event.id.clone().unwrap_or_else(|| format!("event-{}", self.heard));
            let source = event.source.clone().unwrap_or_else(|| "https://skerry.invalid/test".to_owned());
            let mut heard = Event::new(id, source, event.kind.clone(), event.data.clone());
            heard.subject.clone_from(&event.subject);
            return Ok(Command::Hear { event: Arc::new(heard), label: Label::default() });
        }
        let answer = self.answers.iter().min_by_key(|(ask, (at, _))| (*at, **ask)).map(|(ask, (at, _))| (*at, *ask));
        match (answer, self.state.wake_at()) {
            (Some((at, ask)), wake) if wake.is_none_or(|wake| at <= wake) => {
                self.now = self.now.max(at);
                let Some((_, outcome)) = self.answers.remove(&ask) else { return Ok(Command::Continue) };
                Ok(match outcome {
                    Outcome::Output(output) => Command::Complete { ask, output, label: Label::default() },
                    Outcome::Error(error) => Command::Fail { ask, error: failing(error), label: Label::default() },
                })
            }
            (_, Some(wake)) => {
                self.now = self.now.max(wake);
                Ok(Command::Wake)
            }
            _ if self.state.is_listening() => Err(format!(
                "the run listens at {} and there is no more event: expected another one in `events`",
                self.place()
            )),
            _ => Err(format!("the run waits at {} and nothing will happen any more", self.place())),
        }
    }

    fn take(&mut self, command: Command) -> Result<(), String> {
        let mut command = Some(command);
        while let Some(now) = command.take() {
            let decided = decide(&self.state, now, self.now);
            let Step { records, effects, more, after, .. } = decided.map_err(|rejection| rejection.to_string())?;
            self.state = after;
            self.records.extend(records);
            for effect in effects {
                self.perform(effect)?;
            }
            command = more.then_some(Command::Continue);
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Emit { event, .. } => self.emitted.push(*event),
            Effect::Withdraw { ask } => drop(self.answers.remove(&ask)),
            Effect::Call { ask, call } => {
                let Mock { outcome, after } = self.mock(&call)?;
                self.calls.push((call.function.clone(), call.input.clone()));
                self.answers.insert(ask, (self.now.plus(after), outcome));
            }
        }
        Ok(())
    }

    fn mock(&mut self, call: &Call) -> Result<Mock, String> {
        let name = call.task.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
        let keys = [call.task.as_str(), name.as_str(), call.function.as_str()];
        let found = keys.into_iter().find_map(|key| Some((key, self.case.mocks.get(key)?)));
        let Some((key, mocks)) = found else {
            let (function, task) = (&call.function, &call.task);
            return Err(format!(
                "{task} calls `{function}` and nothing says what comes back: expected `{name}` or `{function}` in `mocks`"
            ));
        };
        match mocks {
            Mocks::Always(mock) => Ok(Mock::clone(mock)),
            Mocks::Each(each) => {
                let used = self.used.entry(key.to_owned()).or_insert(0);
                *used += 1;
                each.get(*used - 1).cloned().ok_or_else(|| {
                    format!("{} makes call {used} of `{key}`, and its mocks are {}", call.task, each.len())
                })
            }
        }
    }

    fn place(&self) -> String {
        self.state.at().collect::<Vec<_>>().join(", ")
    }
}

/// The mock's error; one of the specification's may be named by its last word.
fn failing(failing: Failing) -> Error {
    let Failing { kind: named, status, title, detail } = failing;
    let standard = kind::STANDARD.iter().find(|(kind, _)| kind.rsplit('/').next() == Some(&named) || *kind == named);
    let (kind, usual) = standard.copied().unwrap_or((named.as_str(), 500));
    let base = Error::new((kind, status.unwrap_or(usual)), "");
    Error { title: title.or(base.title.clone()), detail, ..base }
}
