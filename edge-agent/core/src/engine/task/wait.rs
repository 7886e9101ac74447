//! `wait`: rests for a while. The data passes through.

use shared::workflow::definition::Duration;

use super::super::{
    effect::Error,
    eval::Scope,
    record::{FrameId, Record},
    turn::Turn,
};

pub(super) fn start(turn: &mut Turn, frame: FrameId, duration: &Duration) -> Result<(), Error> {
    let input = &turn.state.task(frame).input;
    let span = Scope::within_task(&turn.state, frame).duration(duration, input)?;
    turn.record(Record::WaitBegan { frame, until: turn.now.plus(span) });
    Ok(())
}
