//! `for`: the same tasks for each item of a collection, as long as `while` holds. What one turn gives is what the next
//! one gets; the last turn's output is the loop's.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::workflow::definition::{Collection, For};

use super::super::{
    effect::{Error, kind},
    eval::Scope,
    limit,
    record::{FrameId, Record},
    state::Progress,
    turn::{Opening, Turn},
};

pub(super) fn start(turn: &mut Turn, frame: FrameId, each: &For) -> Result<(), Error> {
    let data = Arc::clone(&turn.state.task(frame).input);
    let scope = Scope::within_task(&turn.state, frame);
    let collection = match &each.each.collection {
        Collection::Expression(expression) => scope.expression(expression, &data)?,
        Collection::Inline(items) => scope.template(&Value::Array(items.clone()), &data)?,
    };
    limit::check("the collection of the loop", &collection)?;
    let Value::Array(items) = collection else {
        let detail = format!("`for.in` gave {}, expected an array", kind_of(&collection));
        return Err(Error::new(kind::EXPRESSION, detail));
    };
    turn.record(Record::LoopBegan { frame, items: Arc::new(items) });
    turn_to(turn, frame, each, 0, data)
}

/// A turn is over and gave this.
pub(super) fn turned(turn: &mut Turn, frame: FrameId, each: &For, data: Arc<Value>) -> Result<(), Error> {
    let Progress::Looping { index, .. } = turn.progress(frame) else { unreachable!("a `for` with a list is looping") };
    let next = index + 1;
    turn_to(turn, frame, each, next, data)
}

fn turn_to(turn: &mut Turn, frame: FrameId, each: &For, index: u32, data: Arc<Value>) -> Result<(), Error> {
    let Progress::Looping { items, .. } = turn.progress(frame) else { unreachable!("the loop has begun") };
    let Some(item) = items.get(index as usize).cloned() else {
        turn.end(frame, data, None);
        return Ok(());
    };
    let item_name = each.each.item.as_deref().unwrap_or("item");
    let index_name = each.each.index.as_deref().unwrap_or("index");
    let variables = vec![(item_name.to_owned(), Arc::new(item)), (index_name.to_owned(), Arc::new(json!(index)))];
    let scope = Scope::within_task(&turn.state, frame).with_variables(&variables);
    if let Some(condition) = &each.condition
        && !scope.condition(condition, &data)?
    {
        turn.end(frame, data, None);
        return Ok(());
    }
    turn.record(Record::LoopTurned { frame, index });
    let opening = Opening::within(turn, frame, "do", data);
    let place = format!("{}#{index}/do", turn.state.frames[&frame].place);
    turn.open(Opening { place, variables, ..opening });
    Ok(())
}

/// The JSON type of a value, for people.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
