//! `call`: a function. One that the workflow defines itself is a task with the arguments as its input; a built-in one is
//! an effect, and the task waits for its outcome.

use std::sync::Arc;

use serde_json::Value;
use shared::{label::Label, workflow::definition::Call};

use super::super::{
    Effect,
    agent::{AGENT, CHAT},
    definition::FUNCTIONS,
    effect::{self, EffectKey, Error, kind},
    eval::Scope,
    limit,
    record::{FrameId, Record},
    support,
    turn::{Opening, Turn},
};
use super::{agent, arguments, subscribe};

pub(super) fn start(turn: &mut Turn, frame: FrameId, call: &Call) -> Result<(), Error> {
    let input = Arc::clone(&turn.state.task(frame).input);
    let with = call.with.clone().unwrap_or_default();
    let workflow = Arc::clone(&turn.state.workflow);
    if workflow.definition().function(&call.function).is_some() {
        let arguments = Scope::within_task(&turn.state, frame).template(&Value::Object(with), &input)?;
        limit::check("the arguments of the call", &arguments)?;
        let name = workflow.definition().function_name(&call.function).unwrap_or_else(|| call.function.clone());
        return enter(turn, frame, &name, arguments);
    }
    support::function(call).map_err(|message| Error::new(kind::CONFIGURATION, message))?;
    let arguments = arguments::of(turn, frame, &Value::Object(with), &input)?;
    if call.name() == AGENT {
        return agent::start(turn, frame, arguments);
    }
    if call.foreach().is_some() {
        return subscribe::start(turn, frame, arguments);
    }
    ask(turn, frame, call.name(), arguments)
}

/// Performs the task that `use.functions` has under this name. It gets a list of its own, so that its end and its
/// errors come to the calling task like those of any other list.
fn enter(turn: &mut Turn, frame: FrameId, function: &str, arguments: Value) -> Result<(), Error> {
    let depth = turn.state.ancestors(frame).filter(|(_, frame)| frame.definition == FUNCTIONS).count();
    if depth >= support::FUNCTION_DEPTH_MAX {
        let detail = format!("functions call each other more than {} deep", support::FUNCTION_DEPTH_MAX);
        return Err(Error::new(kind::LIMIT, detail));
    }
    let name = function.replace('~', "~0").replace('/', "~1");
    let place = format!("{}/call/{name}", turn.state.frames[&frame].place);
    let opening = Opening::within(turn, frame, "", arguments.into());
    turn.open(Opening { definition: FUNCTIONS.to_owned(), place, only: Some(0), ..opening });
    Ok(())
}

/// Asks the world for something, and waits for the outcome.
pub(super) fn ask(turn: &mut Turn, frame: FrameId, function: &str, input: Value) -> Result<(), Error> {
    ask_for(turn, frame, "", function, input)
}

/// The same for one of several things that a task asks for; `step` follows the task's place in the key.
pub(super) fn ask_for(turn: &mut Turn, frame: FrameId, step: &str, function: &str, input: Value) -> Result<(), Error> {
    let label = turn.state.label().clone();
    ask_with(turn, frame, step, (function, input), label)
}

/// The same for something that is treated as more than the run is.
pub(super) fn ask_with(
    turn: &mut Turn,
    frame: FrameId,
    step: &str,
    (function, input): (&str, Value),
    label: Label,
) -> Result<(), Error> {
    limit::check("the arguments of the call", &input)?;
    let state = &turn.state;
    let document = &state.workflow.definition().document;
    let call = Arc::new(effect::Call {
        key: EffectKey(format!("{}:{}{step}", state.run, state.frames[&frame].place)),
        run: state.run,
        task: state.frames[&frame].definition.clone(),
        workflow: format!("{}/{}:{}", document.namespace, document.name, document.version),
        function: function.to_owned(),
        input,
        label,
        deadline: state.gives_up_at(frame),
        agent: state.agent(frame),
        asked_at: turn.now,
        ahead_us: 0,
    });
    let ask = turn.next_ask();
    // What an agent's model is given follows from the agent's records.
    let kept = if function == CHAT {
        Arc::new(effect::Call { input: Value::Null, ..effect::Call::clone(&call) })
    } else {
        Arc::clone(&call)
    };
    turn.record(Record::Asked { frame, ask, call: kept });
    turn.effect(Effect::Call { ask, call });
    Ok(())
}
