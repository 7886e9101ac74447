//! What a run asks of the world, and what comes back. The key of an effect does not depend on the attempt, so that a
//! receiver which honours it sees one effect however often the node was killed.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    event::Event,
    id::RunId,
    label::Label,
    ledger::entry::{Content, Fact},
    problem::words,
    time::Timestamp,
    workflow::secret,
};

/// Names one effect for ever: the run and the task's place with iterations, such as `01J...:/do/2/each#3/do/0/ask`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectKey(pub String);

/// Names one asking within its run; counted up from 0. A task that is tried again asks anew under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ask(pub u32);

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the world is to do after a step's records are on the disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Perform the call and come back with its outcome.
    Call { ask: Ask, call: Arc<Call> },
    /// Hand the event to whoever waits for it. Nothing comes back.
    Emit { task: String, event: Box<Event>, label: Label },
    /// Nobody waits for this asking any more. What is under way ends by itself; what has not begun need not.
    Withdraw { ask: Ask },
}

/// A function that a task calls, with its arguments evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub key: EffectKey,
    pub run: RunId,
    /// The task's reference: a JSON pointer into the workflow.
    pub task: String,
    /// `namespace/name:version` of the workflow.
    pub workflow: String,
    /// The built-in function without version and catalog (`infer`, `http`, `openapi`, ..), or what a `run` task runs:
    /// `shell`, `script`, `container`, `workflow`.
    pub function: String,
    /// The arguments, evaluated. Secrets stand in them as references: `shared::workflow::secret::resolve` puts values in
    /// their place, in the moment of performing and nowhere else.
    pub input: Value,
    /// The join of the labels of all that flowed into the run so far.
    pub label: Label,
    /// When the caller gives up: the nearest timeout of the task, the workflow and the scopes between.
    pub deadline: Option<Timestamp>,
    /// The agent that wants it, if it is one's model call or one of its tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// When this effect was asked for the first time; asking again (parked, or after a restart) does not change it.
    pub asked_at: Timestamp,
    /// How far the time of runs, in which all instants here are, is ahead of the wall clock while the call is performed, in
    /// microseconds: more than nothing while that clock is wrong.
    #[serde(skip)]
    pub ahead_us: i64,
}

/// Who acts when it is not the workflow itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub name: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl Call {
    /// An instant of the run's time by the wall clock, which rooms go by.
    #[must_use]
    pub const fn by_wall(&self, at: Timestamp) -> Timestamp {
        at.plus_micros(self.ahead_us.saturating_neg())
    }

    /// When the caller gives up, by the wall clock.
    #[must_use]
    pub fn gives_up_at(&self) -> Option<Timestamp> {
        self.deadline.map(|deadline| self.by_wall(deadline))
    }

    /// The arguments, parsed at the door.
    ///
    /// # Errors
    /// A validation error that names the field and what was expected.
    pub fn arguments<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_path_to_error::deserialize(&self.input).map_err(|error| {
            let field = error.path().to_string();
            let at = if field == "." { String::new() } else { format!("{field}: ") };
            let why = words::of_serde(&error.inner().to_string());
            Failure::new(kind::VALIDATION, format!("{} of {}: {at}{why}", self.function, self.task))
        })
    }
}

/// Whether the ledger may keep the text of what went in and came out, or its digest alone. Policy says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Text,
    Digest,
}

impl Keep {
    /// What the ledger says of this text.
    #[must_use]
    pub fn content(self, text: &str) -> Content {
        match self {
            Self::Text => Content::kept(text),
            Self::Digest => Content::digested(text),
        }
    }
}

/// A call that came to a good end.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    pub output: Value,
    /// The label of what came out; the run's label becomes its join with this.
    pub label: Label,
    /// What the ledger must say of it, in order. The runner appends these in the transaction that records the outcome.
    pub facts: Vec<Fact>,
}

/// A call that came to a bad end. Becomes an error of the DSL that `catch` can take.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub error: Error,
    pub facts: Vec<Fact>,
    /// The label of what the error quotes; the run's label becomes its join with this.
    pub label: Label,
    /// `Some`: not now, but ask again at this time (a parked inference); the run waits durably meanwhile.
    pub ask_again_at: Option<Timestamp>,
}

/// An error in the form of the DSL (RFC 7807): `type` is a URI such as
/// `https://serverlessworkflow.io/spec/1.0.0/errors/timeout`, `instance` the JSON pointer of the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// The standard error types of the DSL, by their last path segment.
pub mod kind {
    pub const CONFIGURATION: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/configuration", 400);
    pub const VALIDATION: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/validation", 400);
    pub const EXPRESSION: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/expression", 400);
    pub const AUTHENTICATION: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/authentication", 401);
    pub const AUTHORIZATION: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/authorization", 403);
    pub const TIMEOUT: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/timeout", 408);
    pub const COMMUNICATION: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/communication", 500);
    /// The types that the DSL names.
    pub const STANDARD: &[(&str, u16)] =
        &[CONFIGURATION, VALIDATION, EXPRESSION, AUTHENTICATION, AUTHORIZATION, TIMEOUT, COMMUNICATION, RUNTIME];
    /// A run outgrew what it may hold or do, see `engine::limit`: the DSL's type for it, with a status of its own.
    pub const LIMIT: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/runtime", 413);
    pub const RUNTIME: (&str, u16) = ("https://serverlessworkflow.io/spec/1.0.0/errors/runtime", 500);
}

impl Error {
    #[must_use]
    pub fn new(kind: (&str, u16), detail: impl Into<String>) -> Self {
        let title = kind.0.rsplit('/').next().map(str::to_owned);
        Self { kind: kind.0.to_owned(), status: kind.1, title, detail: Some(detail.into()), instance: None }
    }

    /// The error of a call, which may quote what came from outside: it refers to no secret.
    #[must_use]
    pub fn harmless(self) -> Self {
        let text = |text: String| match secret::neutralised(Value::String(text)) {
            Value::String(text) => text,
            _ => String::new(),
        };
        let Self { kind, status, title, detail, instance } = self;
        Self {
            kind: text(kind),
            status,
            title: title.map(text),
            detail: detail.map(text),
            instance: instance.map(text),
        }
    }

    /// The error as expressions see it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("an error is plain data")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, facts: Vec::new(), label: Label::default(), ask_again_at: None }
    }
}

impl Failure {
    /// A failure with nothing for the ledger beyond the error itself.
    #[must_use]
    pub fn new(kind: (&str, u16), detail: impl Into<String>) -> Self {
        Error::new(kind, detail).into()
    }
}
