//! Tasks: what all have in common, and what each kind adds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    Timeout,
    call::Call,
    data::{Export, Input, Output},
    duration::Duration,
    event::{Read, Strategy},
    fault::{Catch, ErrorDefinition},
    form::{Item, Reference},
    run::Run,
    task_form::TaskForm,
};

/// Named tasks in order.
pub type Tasks = Vec<Item<Task>>;

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TaskForm", into = "TaskForm")]
pub struct Task {
    pub common: Common,
    pub kind: Kind,
}

/// What every task may have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Common {
    /// `if`: an expression; the task is skipped when it is false.
    pub condition: Option<String>,
    pub input: Option<Input>,
    pub output: Option<Output>,
    pub export: Option<Export>,
    pub timeout: Option<Reference<Timeout>>,
    /// What comes next; the next task in the list when absent.
    pub then: Option<Then>,
    pub metadata: Option<Map<String, Value>>,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Call(Call),
    Do(Tasks),
    Fork(Fork),
    Emit(Emit),
    For(For),
    Listen(Box<Listen>),
    Raise(Raise),
    Run(Box<Run>),
    /// An expression, or an object with expressions in it.
    Set(Value),
    Switch(Vec<Item<Case>>),
    Try(Box<Try>),
    Wait(Duration),
}

impl Kind {
    /// The key that names the kind in a document.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Do(_) => "do",
            Self::Fork(_) => "fork",
            Self::Emit(_) => "emit",
            Self::For(_) => "for",
            Self::Listen(_) => "listen",
            Self::Raise(_) => "raise",
            Self::Run(_) => "run",
            Self::Set(_) => "set",
            Self::Switch(_) => "switch",
            Self::Try(_) => "try",
            Self::Wait(_) => "wait",
        }
    }
}

/// Where the flow goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// To the next task.
    Continue,
    /// Out of the list that the task stands in.
    Exit,
    /// To the end of the workflow.
    End,
    /// To the task of this name in the same list.
    Task(String),
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continue => "continue",
            Self::Exit => "exit",
            Self::End => "end",
            Self::Task(name) => name,
        })
    }
}

impl Serialize for Then {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Then {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "continue" => Self::Continue,
            "exit" => Self::Exit,
            "end" => Self::End,
            name => Self::Task(name.to_owned()),
        })
    }
}

/// Branches at the same time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    pub branches: Tasks,
    /// Whether the first branch to end wins and the others are cancelled; `false` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compete: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emit {
    pub event: EmitEvent,
}

/// The event to emit. The schema lets anything stand beside `with`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmitEvent {
    /// Attributes of the event; values may be expressions. `id`, `source` and `time` are made when absent.
    pub with: Map<String, Value>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `for` with its companions.
#[derive(Debug, Clone, PartialEq)]
pub struct For {
    pub each: Loop,
    /// Goes on only as long as this expression is true.
    pub condition: Option<String>,
    pub tasks: Tasks,
}

/// What a loop goes over, and what it calls the item and its index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loop {
    /// The variable of the item; `item` when absent.
    #[serde(rename = "each", default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    #[serde(rename = "in")]
    pub collection: Collection,
    /// The variable of the index; `index` when absent.
    #[serde(rename = "at", default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
}

/// An expression that gives an array, or the array itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Collection {
    Expression(String),
    Inline(Vec<Value>),
}

impl Serialize for Collection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Expression(text) => serializer.serialize_str(text),
            Self::Inline(items) => items.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Collection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Expression(text)),
            Value::Array(items) => Ok(Self::Inline(items)),
            _ => Err(serde::de::Error::custom("expected an expression that gives an array, or an array")),
        }
    }
}

/// `listen` with its companion.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    pub to: Strategy,
    pub read: Option<Read>,
    pub foreach: Option<Foreach>,
}

/// What to do with each event as it comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreach {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    #[serde(rename = "at", default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    #[serde(rename = "do", default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Tasks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    pub error: Reference<ErrorDefinition>,
}

/// One case of a `switch`; without `when` it is the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    pub then: Then,
}

/// `try` with its companion.
#[derive(Debug, Clone, PartialEq)]
pub struct Try {
    pub tasks: Tasks,
    pub catch: Catch,
}
