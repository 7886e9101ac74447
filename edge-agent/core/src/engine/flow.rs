//! How data flows through a workflow and its tasks (dsl.md, "Data Flow"): raw input, `if`, schema, `input.from`, the
//! task itself, `output.as`, schema, `export.as`, schema, and on to the next task.

use std::sync::Arc;

use serde_json::Value;
use shared::{
    time::Timestamp,
    workflow::definition::{Export, Output, Reference, Then, Timeout},
};

use super::{
    definition,
    effect::{Error, kind},
    eval::{Scope, validate},
    limit,
    record::{FrameId, Record},
    state::State,
    turn::Turn,
};

/// What the workflow makes of its raw input, and until when it must be done.
pub(super) fn workflow_input(
    state: &State,
    raw: &Arc<Value>,
    now: Timestamp,
) -> Result<(Arc<Value>, Option<Timestamp>), Error> {
    let at = |pointer: &str, error: Error| Error { instance: Some(pointer.to_owned()), ..error };
    limit::check("the input of the workflow", raw).map_err(|error| at("/input", error))?;
    let scope = Scope::workflow(state, raw, now);
    let input = state.workflow.definition().input.as_ref();
    let validated =
        input.and_then(|i| i.schema.as_ref()).map_or(Ok(()), |s| validate(state, s, "/input", "the input", raw));
    validated.map_err(|error| at("/input/schema", error))?;
    let data = match input.and_then(|i| i.from.as_ref()) {
        Some(from) => Arc::new(scope.transform(from, raw).map_err(|error| at("/input/from", error))?),
        None => Arc::clone(raw),
    };
    limit::check("the transformed input of the workflow", &data).map_err(|error| at("/input/from", error))?;
    let timeout = state.workflow.definition().timeout.as_ref();
    let deadline = deadline(state, timeout, &scope, &data, now).map_err(|error| at("/timeout", error))?;
    Ok((data, deadline))
}

/// What the workflow makes of its last task's output.
pub(super) fn workflow_output(state: &State, raw: &Arc<Value>) -> Result<Arc<Value>, Error> {
    let at = |pointer: &str, error: Error| Error { instance: Some(pointer.to_owned()), ..error };
    let Some(output) = &state.workflow.definition().output else { return Ok(Arc::clone(raw)) };
    let scope = Scope::workflow(state, &state.input, state.started_at);
    let made = match &output.value {
        Some(value) => Arc::new(scope.transform(value, raw).map_err(|error| at("/output/as", error))?),
        None => Arc::clone(raw),
    };
    limit::check("the output of the workflow", &made).map_err(|error| at("/output/as", error))?;
    if let Some(schema) = &output.schema {
        validate(state, schema, "/output", "the output", &made).map_err(|error| at("/output/schema", error))?;
    }
    Ok(made)
}

/// What comes before a task does anything. `false`: its condition is, and the list goes on.
pub(super) fn prepare(turn: &mut Turn, frame: FrameId) -> Result<bool, Error> {
    let workflow = Arc::clone(&turn.state.workflow);
    let task = definition::task(workflow.definition(), &turn.state.frames[&frame].definition)?;
    let common = &task.common;
    let scope = Scope::before_input(&turn.state, frame);
    let raw = &turn.state.task(frame).raw_input;
    if let Some(condition) = &common.condition
        && !scope.condition(condition, raw)?
    {
        let list = turn.state.list_of(frame);
        turn.record(Record::TaskSkipped { frame, at: turn.now });
        turn.advance(list);
        return Ok(false);
    }
    if let Some(schema) = common.input.as_ref().and_then(|input| input.schema.as_ref()) {
        let pointer = format!("{}/input", turn.state.frames[&frame].definition);
        validate(&turn.state, schema, &pointer, "the input", raw)?;
    }
    let from = common.input.as_ref().and_then(|input| input.from.as_ref());
    let input = from.map(|from| scope.transform(from, raw)).transpose()?;
    input.as_ref().map_or(Ok(()), |input| limit::check("the transformed input", input))?;
    let seen = input.as_ref().unwrap_or(raw);
    let deadline = deadline(&turn.state, common.timeout.as_ref(), &scope, seen, turn.now)?;
    if input.is_some() || deadline.is_some() {
        turn.record(Record::TaskPrepared { frame, input: input.map(Arc::new), deadline });
    }
    Ok(true)
}

/// What comes after a task has its raw output: where the flow goes is in `then`, or in the task itself.
pub(super) fn complete(turn: &mut Turn, frame: FrameId, raw: &Arc<Value>, then: Option<Then>) -> Result<(), Error> {
    let workflow = Arc::clone(&turn.state.workflow);
    let task = definition::task(workflow.definition(), &turn.state.frames[&frame].definition)?;
    let common = &task.common;
    limit::check("the output", raw)?;
    let scope = Scope::after_task(&turn.state, frame, raw);
    let rules = OutputRules {
        output: common.output.as_ref(),
        export: common.export.as_ref(),
        pointer: &turn.state.frames[&frame].definition,
        said: "the transformed output",
    };
    let (output, context) = rules.apply(&turn.state, scope, raw, raw)?;
    let then = then.or_else(|| common.then.clone()).unwrap_or(Then::Continue);
    let next = next(turn, frame, &then)?;
    let list = turn.state.list_of(frame);
    turn.record(Record::TaskEnded { frame, at: turn.now, output: Arc::clone(&output), context, next });
    if then == Then::End {
        turn.finish(&output);
    } else {
        turn.advance(list);
    }
    Ok(())
}

/// What a task, or an item of it, says of its output and of the context.
pub(super) struct OutputRules<'a> {
    pub output: Option<&'a Output>,
    pub export: Option<&'a Export>,
    /// Where both stand in the document.
    pub pointer: &'a str,
    /// What messages call the output.
    pub said: &'a str,
}

impl OutputRules<'_> {
    /// The output that is made of `data`, or `otherwise`, and the context that is exported.
    ///
    /// # Errors
    /// An expression that fails, a value that does not fit its schema or is too large.
    pub fn apply(
        &self,
        state: &State,
        scope: Scope<'_>,
        data: &Arc<Value>,
        otherwise: &Arc<Value>,
    ) -> Result<(Arc<Value>, Option<Arc<Value>>), Error> {
        let Self { pointer, said, .. } = self;
        let output = match self.output.and_then(|output| output.value.as_ref()) {
            Some(value) => Arc::new(scope.transform(value, data)?),
            None => Arc::clone(otherwise),
        };
        limit::check(said, &output)?;
        if let Some(schema) = self.output.and_then(|output| output.schema.as_ref()) {
            validate(state, schema, &format!("{pointer}/output"), said, &output)?;
        }
        let scope = scope.with_output(&output);
        let export = self.export;
        let context = export.and_then(|e| e.value.as_ref()).map(|value| scope.transform(value, &output)).transpose()?;
        if let Some(context) = &context {
            limit::check("the exported context", context)?;
            if let Some(schema) = export.and_then(|export| export.schema.as_ref()) {
                validate(state, schema, &format!("{pointer}/export"), "the exported context", context)?;
            }
        }
        Ok((output, context.map(Arc::new)))
    }
}

/// The index of the task that follows, `None` when the list is done. `exit` leaves the list that the task stands in: in
/// the body of a loop that is the turn, not the loop.
fn next(turn: &Turn, frame: FrameId, then: &Then) -> Result<Option<u32>, Error> {
    let list = turn.state.list_of(frame);
    if turn.state.list(list).only.is_some() {
        return Ok(None);
    }
    match then {
        Then::Exit | Then::End => Ok(None),
        Then::Continue => Ok(Some(turn.state.task(frame).index + 1)),
        Then::Task(name) => {
            let tasks = definition::list(turn.state.workflow.definition(), &turn.state.frames[&list].definition)?;
            let found = tasks.iter().position(|item| item.name == *name);
            let missing =
                || Error::new(kind::CONFIGURATION, format!("`then` names {name:?}, and the list has no such task"));
            found.map(|index| u32::try_from(index).ok()).ok_or_else(missing)
        }
    }
}

/// The instant that lies a timeout from now.
fn deadline(
    state: &State,
    timeout: Option<&Reference<Timeout>>,
    scope: &Scope<'_>,
    dot: &Value,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let Some(reference) = timeout else { return Ok(None) };
    let unknown = || Error::new(kind::CONFIGURATION, "the timeout names none that `use.timeouts` defines");
    let timeout = state.workflow.definition().timeout(reference).ok_or_else(unknown)?;
    Ok(Some(now.plus(scope.duration(&timeout.after, dot)?)))
}
