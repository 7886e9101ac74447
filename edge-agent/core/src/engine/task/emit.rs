//! `emit`: makes an event and hands it out. The event is the task's output.

use serde_json::{Map, Value};
use shared::{event::Event, workflow::definition::Emit};

use super::super::{
    Effect,
    effect::{Error, kind},
    eval::Scope,
    limit,
    record::FrameId,
    turn::Turn,
};

pub(super) fn start(turn: &mut Turn, frame: FrameId, emit: &Emit) -> Result<(), Error> {
    let input = &turn.state.task(frame).input;
    let with = Value::Object(emit.event.with.clone());
    let Value::Object(mut attributes) = Scope::within_task(&turn.state, frame).template(&with, input)? else {
        unreachable!("an object with expressions is an object")
    };
    default_attributes(turn, frame, &mut attributes);
    let output = Value::Object(attributes);
    limit::check("the event", &output)?;
    let not_event =
        |source| Error::new(kind::VALIDATION, format!("what `emit.event.with` gave is no CloudEvent: {source}"));
    let event: Event = serde_json::from_value(output.clone()).map_err(not_event)?;
    let task = turn.state.frames[&frame].definition.clone();
    let label = turn.state.label().clone();
    turn.effect(Effect::Emit { task, event: Box::new(event), label });
    turn.end(frame, output.into(), None);
    Ok(())
}

/// What CloudEvents demands and the document left out. The id names the run and the task's place, so that an event
/// which is handed out twice is still one.
fn default_attributes(turn: &Turn, frame: FrameId, attributes: &mut Map<String, Value>) {
    let mut default = |name: &str, value: String| {
        attributes.entry(name.to_owned()).or_insert(Value::String(value));
    };
    default("specversion", "1.0".to_owned());
    default("id", format!("{}:{}", turn.state.run, turn.state.frames[&frame].place));
    default("source", format!("/workflows/{}", turn.state.workflow.definition().qualified_name()));
    default("time", turn.now.to_string());
    if attributes.contains_key("data") {
        attributes.entry("datacontenttype".to_owned()).or_insert_with(|| "application/json".into());
    }
}
