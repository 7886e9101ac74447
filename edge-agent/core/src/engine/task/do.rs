//! `do`: tasks one after another.

use std::sync::Arc;

use super::super::{
    effect::Error,
    record::FrameId,
    turn::{Opening, Turn},
};

pub(super) fn start(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    let data = Arc::clone(&turn.state.task(frame).input);
    let opening = Opening::within(turn, frame, "do", data);
    turn.open(opening);
    Ok(())
}
