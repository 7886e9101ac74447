//! `call`: a function. One that the workflow defines itself is a task with the arguments as its input; a built-in one is
//! an effect, and the task waits for its outcome.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use shared::workflow::definition::Call;

use super::super::{
    Effect,
    definition::FUNCTIONS,
    effect::{self, EffectKey, Error, kind},
    eval::Scope,
    limit,
    record::{FrameId, Record},
    support,
    turn::{Opening, Turn},
};

pub(super) fn start(turn: &mut Turn, frame: FrameId, call: &Call) -> Result<(), Error> {
    let input = Arc::clone(&turn.state.task(frame).input);
    let with = Value::Object(call.with.clone().unwrap_or_default());
    let Value::Object(mut arguments) = Scope::within_task(&turn.state, frame).template(&with, &input)? else {
        unreachable!("an object with expressions is an object")
    };
    let workflow = Arc::clone(&turn.state.workflow);
    if workflow.definition().function(&call.function).is_some() {
        let arguments = Value::Object(arguments);
        limit::check("the arguments of the call", &arguments)?;
        return enter(turn, frame, &call.function, arguments);
    }
    support::function(call).map_err(|message| Error::new(kind::CONFIGURATION, message))?;
    if call.name() == "http" {
        complete_http(turn, call, &input, &mut arguments)?;
    }
    let arguments = Value::Object(arguments);
    limit::check("the arguments of the call", &arguments)?;
    ask(turn, frame, call.name(), arguments);
    Ok(())
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

fn ask(turn: &mut Turn, frame: FrameId, function: &str, input: Value) {
    let state = &turn.state;
    let document = &state.workflow.definition().document;
    let around = state.ancestors(frame).filter_map(|(_, frame)| frame.deadline);
    let call = Arc::new(effect::Call {
        key: EffectKey(format!("{}:{}", state.run, state.frames[&frame].place)),
        run: state.run,
        task: state.frames[&frame].definition.clone(),
        workflow: format!("{}/{}:{}", document.namespace, document.name, document.version),
        function: function.to_owned(),
        input,
        label: state.label().clone(),
        deadline: around.chain(state.deadline).min(),
        asked_at: turn.now,
    });
    let ask = turn.next_ask();
    turn.record(Record::Asked { frame, ask, call: Arc::clone(&call) });
    turn.effect(Effect::Call { ask, call });
}

/// What an HTTP call says by reference to the run, in full: the variables of the URI template, which are members of the
/// task's input, and the authentication that `use.authentications` holds.
fn complete_http(turn: &Turn, call: &Call, input: &Value, arguments: &mut Map<String, Value>) -> Result<(), Error> {
    let written = call.with.as_ref().and_then(|with| with.get("endpoint"));
    match (written, arguments.get_mut("endpoint")) {
        (Some(Value::String(template)), Some(endpoint)) => *endpoint = expand(template, endpoint, input)?,
        (Some(Value::Object(written)), Some(Value::Object(endpoint))) => {
            if let (Some(Value::String(template)), Some(uri)) = (written.get("uri"), endpoint.get_mut("uri")) {
                *uri = expand(template, uri, input)?;
            }
            if let Some(authentication) = endpoint.get_mut("authentication")
                && let Some(Value::String(name)) = authentication.get("use")
            {
                *authentication = named_authentication(turn, name, input)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn named_authentication(turn: &Turn, name: &str, input: &Value) -> Result<Value, Error> {
    let uses = turn.state.workflow.definition().uses.as_ref();
    let found = uses.and_then(|uses| uses.authentications.as_ref()).and_then(|all| all.get(name));
    let unknown = || Error::new(kind::CONFIGURATION, format!("`use.authentications` has no {name:?}"));
    let found = serde_json::to_value(found.ok_or_else(unknown)?).expect("an authentication is plain data");
    Scope::workflow(&turn.state, &turn.state.input, turn.now).template(&found, input)
}

/// Fills in a literal URI template (RFC 6570, level 1); what an expression gave stays as it is.
fn expand(template: &str, evaluated: &Value, input: &Value) -> Result<Value, Error> {
    if template.trim_start().starts_with("${") {
        return Ok(evaluated.clone());
    }
    let mut uri = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let unclosed =
            || Error::new(kind::CONFIGURATION, format!("the URI template {template:?} has an unclosed brace"));
        let (name, after) = after.split_once('}').ok_or_else(unclosed)?;
        let value = match input.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => {
                let detail = format!(
                    "the URI template {template:?} wants {name:?} from the task's input: expected a string, number or boolean there"
                );
                return Err(Error::new(kind::EXPRESSION, detail));
            }
        };
        uri.push_str(before);
        percent_encode(&value, &mut uri);
        rest = after;
    }
    uri.push_str(rest);
    Ok(json!(uri))
}

fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}
