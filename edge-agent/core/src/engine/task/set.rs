//! `set`: makes data.

use serde_json::Value;

use super::super::{effect::Error, eval::Scope, record::FrameId, turn::Turn};

pub(super) fn start(turn: &mut Turn, frame: FrameId, value: &Value) -> Result<(), Error> {
    let input = &turn.state.task(frame).input;
    let output = Scope::within_task(&turn.state, frame).template(value, input)?;
    turn.end(frame, output.into(), None);
    Ok(())
}
