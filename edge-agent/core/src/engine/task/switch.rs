//! `switch`: the first case whose condition holds says where the flow goes; failing that the case without a condition;
//! failing that the task's own `then`. The data passes through.

use std::sync::Arc;

use shared::workflow::definition::{Case, Item};

use super::super::{effect::Error, eval::Scope, record::FrameId, turn::Turn};

pub(super) fn start(turn: &mut Turn, frame: FrameId, cases: &[Item<Case>]) -> Result<(), Error> {
    let input = Arc::clone(&turn.state.task(frame).input);
    let scope = Scope::within_task(&turn.state, frame);
    let mut chosen = None;
    for case in cases {
        let Some(when) = &case.value.when else { continue };
        if scope.condition(when, &input)? {
            chosen = Some(&case.value);
            break;
        }
    }
    let chosen = chosen.or_else(|| cases.iter().map(|case| &case.value).find(|case| case.when.is_none()));
    turn.end(frame, input, chosen.map(|case| case.then.clone()));
    Ok(())
}
