//! What a case says. Unknown keys are refused: a word that is misspelt must not make a test that always passes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use shared::{
    problem::{
        Problems, near, words,
        yaml::{Document, Side},
    },
    time::Timestamp,
    workflow::{
        Workflow,
        definition::{Duration, some_status},
        expression::{self, Expression},
    },
};

use super::names::Names;
use crate::engine::effect::kind;

/// One case of a workflow.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// The raw input; of a run that an event starts, the list with the event's data.
    #[serde(default = "nothing")]
    pub input: Value,
    /// What tasks that listen hear, in this order, each as soon as one listens.
    #[serde(default)]
    pub events: Vec<Heard>,
    /// By the name of a task, its JSON pointer, or the name of a function; a task's own goes before its function's.
    #[serde(default)]
    pub mocks: BTreeMap<String, Mocks>,
    /// When the run begins; 2026-01-01T00:00:00Z unless told.
    #[serde(default)]
    pub now: Option<Timestamp>,
    pub expect: Expect,
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// An event, with as much as the test needs of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(default)]
    pub data: Value,
}

/// What a task's calls give: always the same, or one after the other.
#[derive(Debug, Clone)]
pub enum Mocks {
    Always(Box<Mock>),
    /// A call beyond the last fails the case.
    Each(Vec<Mock>),
}

/// What one call gives, and after how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    output: Option<Value>,
    #[serde(default)]
    error: Option<Failing>,
    #[serde(default)]
    after: Option<Duration>,
}

/// The error of a mock. `type` may be the last word of one of the specification's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, deserialize_with = "some_status")]
    pub status: Option<u16>,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub detail: Option<String>,
}

/// The outcome of a call.
#[derive(Debug, Clone)]
pub struct Mock {
    pub outcome: Outcome,
    /// How long the call takes, of the run's simulated time.
    pub after: std::time::Duration,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    Output(Value),
    Error(Failing),
}

/// What is to come of the run. What is left out is not looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The names of all tasks that were entered and not skipped, in this order.
    #[serde(default)]
    pub path: Option<Vec<String>>,
    /// Some of them, in this order.
    #[serde(default)]
    pub visits: Option<Vec<String>>,
    /// The output itself; or, in `${ }`, what must be true of it.
    #[serde(default, deserialize_with = "present")]
    pub output: Option<Value>,
    /// The type of the error that the run ends with, in full or its last word.
    #[serde(default)]
    pub error: Option<String>,
    /// For each function the inputs of its calls, in order; each in part: what is left out may be anything.
    #[serde(default)]
    pub calls: BTreeMap<String, Vec<Value>>,
}

/// `output: null` expects null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Mocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = |value: Value| mock(value).map_err(D::Error::custom);
        match value {
            Value::Array(each) => Ok(Self::Each(each.into_iter().map(read).collect::<Result<_, _>>()?)),
            one => Ok(Self::Always(Box::new(read(one)?))),
        }
    }
}

fn mock(value: Value) -> Result<Mock, String> {
    let Given { output, error, after } =
        serde_json::from_value(value).map_err(|error| format!("a mock: {}", words::of_serde(&error.to_string())))?;
    let outcome = match (output, error) {
        (Some(output), None) => Outcome::Output(output),
        (None, Some(error)) => Outcome::Error(error),
        (None, None) => return Err("a mock has neither `output` nor `error`: expected one of them".to_owned()),
        (Some(_), Some(_)) => return Err("a mock has `output` and `error`: expected one of them".to_owned()),
    };
    let after = match &after {
        None => std::time::Duration::ZERO,
        Some(after) => {
            after.span().ok_or("the `after` of a mock is an expression: expected a duration, such as PT5S")?
        }
    };
    Ok(Mock { outcome, after })
}

/// The cases of a file, for this workflow.
///
/// # Errors
/// What is wrong with them, with line and field: what cannot be read, names that the workflow does not have, conditions
/// that are no jq.
pub fn parse(file: &str, text: &str, workflow: &Workflow) -> Result<Vec<Case>, Problems> {
    let one = |problem| Problems(vec![problem]);
    let document = Document::read(file, text).map_err(one)?;
    let cases: Vec<Case> = document.part(&[]).map_err(one)?;
    if cases.is_empty() {
        return Err(one(document.problem(&[], Side::Value, "the file has no case: expected a list of them")));
    }
    let names = Names::of(workflow.definition());
    let mut found = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let within = |steps: &[&str]| {
            [index.to_string()].into_iter().chain(steps.iter().map(|&step| step.to_owned())).collect::<Vec<_>>()
        };
        let mut wrong = |steps: &[&str], side, message| found.push(document.problem(&within(steps), side, message));
        for name in case.mocks.keys().filter(|name| !names.is_mocked(name)) {
            let hint = near::hint(name, names.like(name));
            wrong(&["mocks", name], Side::Key, format!("there is no task and no function `{name}`{hint}"));
        }
        for (name, mocks) in &case.mocks {
            for kind in mocks.unknown_errors() {
                let known = kind::STANDARD.iter().filter_map(|(kind, _)| kind.rsplit('/').next());
                let hint = near::hint(kind, known);
                wrong(
                    &["mocks", name],
                    Side::Value,
                    format!("`{kind}` is no type of an error, and no URI of one{hint}"),
                );
            }
        }
        for function in case.expect.calls.keys().filter(|name| !names.functions.contains(name.as_str())) {
            let hint = near::hint(function, names.functions.iter().copied());
            let message = format!("the workflow calls no function `{function}`{hint}");
            wrong(&["expect", "calls", function], Side::Key, message);
        }
        let condition = case.expect.output.as_ref().and_then(Value::as_str).and_then(expression::body);
        if let Some(Err(error)) = condition.map(Expression::compile) {
            wrong(&["expect", "output"], Side::Value, format!("the condition does not compile: {error}"));
        }
    }
    if found.is_empty() { Ok(cases) } else { Err(Problems(found)) }
}

impl Mocks {
    /// Words for errors that stand for none of the specification's.
    fn unknown_errors(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Self::Always(one) => std::slice::from_ref(&**one),
            Self::Each(each) => each,
        };
        all.iter()
            .filter_map(|mock| match &mock.outcome {
                Outcome::Error(failing) if !failing.kind.contains([':', '/']) => Some(failing.kind.as_str()),
                _ => None,
            })
            .filter(|word| !kind::STANDARD.iter().any(|(kind, _)| kind.rsplit('/').next() == Some(*word)))
    }
}
