//! `foreach`: what is done with each event or message of a subscription, one after the other.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::workflow::definition::Foreach;

use super::super::{
    effect::Error,
    eval::Scope,
    flow::OutputRules,
    record::FrameId,
    turn::{Opening, Turn},
};

/// The item and its number as the tasks know them.
fn variables(foreach: &Foreach, item: &Arc<Value>, index: u32) -> Vec<(String, Arc<Value>)> {
    let item_name = foreach.item.as_deref().unwrap_or("item");
    let index_name = foreach.index.as_deref().unwrap_or("index");
    vec![(item_name.to_owned(), Arc::clone(item)), (index_name.to_owned(), Arc::new(json!(index)))]
}

/// Opens the tasks for an item; `step` is where the `foreach` stands in its task. `false`: there are none.
pub(super) fn open(
    turn: &mut Turn,
    frame: FrameId,
    foreach: &Foreach,
    step: &str,
    item: &Arc<Value>,
    index: u32,
) -> bool {
    if foreach.tasks.as_ref().is_none_or(Vec::is_empty) {
        return false;
    }
    let data = Arc::clone(&turn.state.task(frame).input);
    let opening = Opening::within(turn, frame, &format!("{step}/do"), data);
    let place = format!("{}#{index}/{step}/do", turn.state.frames[&frame].place);
    turn.open(Opening { place, variables: variables(foreach, item, index), ..opening });
    true
}

/// What an item comes to: what the task gives for it (without `output` the item itself), and the new context if one is
/// exported. `data` is what its tasks gave.
///
/// # Errors
/// An expression that fails, a value that does not fit its schema or is too large.
pub(super) fn made(
    turn: &Turn,
    frame: FrameId,
    foreach: &Foreach,
    step: &str,
    (item, index): (&Arc<Value>, u32),
    data: &Arc<Value>,
) -> Result<(Arc<Value>, Option<Arc<Value>>), Error> {
    let variables = variables(foreach, item, index);
    let scope = Scope::within_task(&turn.state, frame).with_variables(&variables);
    let pointer = format!("{}/{step}", turn.state.frames[&frame].definition);
    let rules = OutputRules {
        output: foreach.output.as_ref(),
        export: foreach.export.as_ref(),
        pointer: &pointer,
        said: "the output of the item",
    };
    let place = |error: Error| Error { instance: error.instance.or_else(|| Some(pointer.clone())), ..error };
    rules.apply(&turn.state, scope, data, item).map_err(place)
}
