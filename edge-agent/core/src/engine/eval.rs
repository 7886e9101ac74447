//! Expressions in their scope: what `$context`, `$input`, `$task` and the others mean where an expression stands
//! (dsl.md, "Runtime expression arguments"). A variable is made only when an expression asks for it.

use std::{sync::Arc, time};

use serde_json::{Value, json};
use shared::{
    time::Timestamp,
    workflow::{
        definition::{Definition, Duration, Schema},
        expression::{EvaluateError, Expressions},
    },
};

use super::{
    definition,
    effect::{Error, kind},
    extension,
    record::FrameId,
    state::{Body, Progress, State},
    task::arguments,
};

/// Where an expression stands, and so what its variables are.
pub(super) struct Scope<'a> {
    state: &'a State,
    /// `None`: at the workflow itself, before its first or after its last task.
    frame: Option<FrameId>,
    /// The raw input and the start of the run; the state has them only once it has begun.
    begun: (&'a Value, Timestamp),
    has_input: bool,
    raw_output: Option<&'a Value>,
    output: Option<&'a Value>,
    variables: &'a [(String, Arc<Value>)],
    context: &'a Value,
}

impl<'a> Scope<'a> {
    /// At the workflow's own `input`, `output` and `timeout`.
    pub fn workflow(state: &'a State, raw_input: &'a Value, started_at: Timestamp) -> Self {
        let begun = (raw_input, started_at);
        Self {
            state,
            frame: None,
            begun,
            has_input: false,
            raw_output: None,
            output: None,
            variables: &[],
            context: &state.context,
        }
    }

    /// At a task's `if` and `input.from`: there is no `$input` yet.
    pub fn before_input(state: &'a State, frame: FrameId) -> Self {
        Self { frame: Some(frame), ..Self::workflow(state, &state.input, state.started_at) }
    }

    /// In what a task is made of.
    pub fn within_task(state: &'a State, frame: FrameId) -> Self {
        Self { has_input: true, ..Self::before_input(state, frame) }
    }

    /// At a task's `output.as`.
    pub fn after_task(state: &'a State, frame: FrameId, raw_output: &'a Value) -> Self {
        Self { raw_output: Some(raw_output), ..Self::within_task(state, frame) }
    }

    /// At a task's `export.as`.
    pub fn with_output(self, output: &'a Value) -> Self {
        Self { output: Some(output), ..self }
    }

    /// With variables that no open list has yet.
    pub fn with_variables(self, variables: &'a [(String, Arc<Value>)]) -> Self {
        Self { variables, ..self }
    }

    /// With another context than the run's.
    pub fn with_context(self, context: &'a Value) -> Self {
        Self { context, ..self }
    }

    /// An expression, in `${ }` or bare.
    pub fn expression(&self, text: &str, dot: &Value) -> Result<Value, Error> {
        self.expressions().evaluate(text, dot, &|name| self.variable(name)).map_err(failed)
    }

    /// An expression whose value is true or false; as in jq, `null` and `false` are false and everything else is true.
    pub fn condition(&self, text: &str, dot: &Value) -> Result<bool, Error> {
        self.expressions().holds(text, dot, &|name| self.variable(name)).map_err(failed)
    }

    /// Data with expressions in it: every string that is a whole `${ }`, at any depth, is replaced by its value.
    pub fn template(&self, template: &Value, dot: &Value) -> Result<Value, Error> {
        self.expressions().fill(template, dot, &|name| self.variable(name)).map_err(failed)
    }

    /// `input.from`, `output.as`, `export.as`: an expression, in `${ }` or bare, or an object with expressions in it.
    pub fn transform(&self, value: &Value, dot: &Value) -> Result<Value, Error> {
        self.expressions().transform(value, dot, &|name| self.variable(name)).map_err(failed)
    }

    /// The names of the variables that an expression needs.
    pub fn needed(&self, text: &str) -> Result<Vec<String>, Error> {
        self.expressions().variables(text).map_err(failed)
    }

    pub fn definition(&self) -> &Definition {
        self.state.workflow.definition()
    }

    fn expressions(&self) -> &Expressions {
        self.state.workflow.expressions()
    }

    /// A span of time, evaluated if it is an expression.
    pub fn duration(&self, duration: &Duration, dot: &Value) -> Result<time::Duration, Error> {
        let (Duration::Expression(text), None) = (duration, duration.span()) else {
            return Ok(duration.span().unwrap_or_default());
        };
        let value = self.expression(text, dot)?;
        Duration::span_of(&value).map_err(|error| Error::new(kind::EXPRESSION, error.to_string()))
    }

    /// What a variable is here; `None` when there is none of this name. Those of secrets are the expressions' own.
    pub fn variable(&self, name: &str) -> Option<Value> {
        match name {
            "context" => Some(self.context.clone()),
            "input" if self.has_input => self.frame.map(|frame| Value::clone(&self.state.task(frame).input)),
            "output" => self.output.cloned(),
            "authorization" if self.has_input => self.authorization(),
            "task" => self.frame.map(|frame| self.task(self.extended(frame))),
            "workflow" => Some(self.workflow_descriptor()),
            "runtime" => Some(json!({
                "name": "Skerry",
                "version": env!("CARGO_PKG_VERSION"),
                "metadata": {},
            })),
            _ => self.own(name).map(|value| Value::clone(&value)),
        }
    }

    /// How the task's call authenticates, as far as that is known before it is performed (dsl.md, "Authorization
    /// Descriptor"): what a server grants or asks for is not, and secrets are references.
    fn authorization(&self) -> Option<Value> {
        let frame = self.frame.map(|frame| self.extended(frame))?;
        let task = definition::task(self.definition(), &self.state.frames[&frame].definition).ok()?;
        // Its own expressions cannot ask for what they make.
        let scope = Scope { has_input: false, ..Self::before_input(self.state, frame) };
        arguments::authorization(&scope, task, &self.state.task(frame).input)
    }

    /// The item of a loop, a caught error: the innermost list that has a variable of this name. A function of
    /// `use.functions` sees its arguments and nothing of its caller.
    fn own(&self, name: &str) -> Option<Arc<Value>> {
        let find = |variables: &[(String, Arc<Value>)]| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| Arc::clone(value))
        };
        if let Some(value) = find(self.variables) {
            return Some(value);
        }
        for (_, frame) in self.state.ancestors(self.frame?) {
            if let Body::List(list) = &frame.body
                && let Some(value) = find(&list.variables)
            {
                return Some(value);
            }
            if frame.definition == definition::FUNCTIONS {
                return None;
            }
        }
        None
    }

    /// The task itself, or the one that it extends.
    fn extended(&self, id: FrameId) -> FrameId {
        let root = self.state.ancestors(id).find(|(_, frame)| extension::is_root(&frame.definition));
        root.and_then(|(_, frame)| frame.parent).unwrap_or(id)
    }

    fn task(&self, id: FrameId) -> Value {
        let frame = &self.state.frames[&id];
        let task = self.state.task(id);
        let written = definition::task(self.state.workflow.definition(), &frame.definition);
        let mut descriptor = json!({
            "name": task.name,
            "reference": frame.definition,
            "definition": written.map_or(Value::Null, definition::raw),
            "input": *task.raw_input,
            "startedAt": instant(task.started_at),
        });
        let extended = match &task.progress {
            Progress::Extending(extending) => extending.output.as_deref(),
            _ => None,
        };
        if let Some(output) = self.raw_output.or(extended) {
            descriptor["output"] = output.clone();
        }
        descriptor
    }

    fn workflow_descriptor(&self) -> Value {
        let (input, started_at) = self.begun;
        let definition = serde_json::to_value(self.state.workflow.definition()).expect("a definition is plain data");
        json!({
            "id": self.state.run.to_string(),
            "definition": definition,
            "input": input,
            "startedAt": instant(started_at),
        })
    }
}

fn instant(at: Timestamp) -> Value {
    json!({
        "iso8601": at.to_string(),
        "epoch": { "seconds": at.as_millis().div_euclid(1_000), "milliseconds": at.as_millis() },
    })
}

fn failed(error: EvaluateError) -> Error {
    Error::new(kind::EXPRESSION, error.to_string())
}

/// Whether a value has the shape that the schema at `pointer` asks for; `what` names the value.
///
/// # Errors
/// When it has not, or the schema lies where it could not be read.
pub(super) fn validate(state: &State, _schema: &Schema, pointer: &str, what: &str, value: &Value) -> Result<(), Error> {
    let Some(validator) = state.workflow.schema(&format!("{pointer}/schema")) else {
        let detail =
            format!("the schema at {pointer}/schema is not at hand: expected it in the workflow or in its bundle");
        return Err(Error::new(kind::CONFIGURATION, detail));
    };
    let Some(mismatch) = validator.mismatches(value).into_iter().next() else { return Ok(()) };
    Err(Error::new(kind::VALIDATION, format!("{what} does not fit its schema: {mismatch}")))
}
