//! `fork`: branches at the same time. Each gets the task's input. Without `compete` the output is the array of theirs, in
//! the order in which they are written, and one that fails fails the task; in a race the first to end wins, a branch
//! that fails drops out, and the task fails when none is left.

use std::sync::Arc;

use serde_json::Value;
use shared::workflow::definition::Fork;

use super::super::{
    effect::Error,
    record::{FrameId, Record},
    state::{Branch, Progress},
    turn::{Opening, Turn},
};

pub(super) fn start(turn: &mut Turn, frame: FrameId, fork: &Fork) -> Result<(), Error> {
    let branches = u32::try_from(fork.branches.len()).expect("a document within its size limit has fewer branches");
    turn.record(Record::ForkBegan { frame, branches });
    let input = Arc::clone(&turn.state.task(frame).input);
    if branches == 0 {
        turn.end(frame, Value::Array(Vec::new()).into(), None);
        return Ok(());
    }
    let mut lists = Vec::new();
    for branch in 0..branches {
        let opening = Opening::within(turn, frame, "fork/branches", Arc::clone(&input));
        lists.push(turn.open_later(Opening { only: Some(branch), ..opening }));
    }
    lists.into_iter().rev().for_each(|list| turn.advance(list));
    Ok(())
}

pub(super) fn branch_done(turn: &mut Turn, frame: FrameId, list: FrameId, fork: &Fork, data: Arc<Value>) {
    let branch = turn.state.list(list).only.expect("a branch is one task of the list");
    turn.record(Record::BranchEnded { frame, branch, output: Some(Arc::clone(&data)) });
    if fork.compete == Some(true) {
        return turn.end(frame, data, None);
    }
    let Progress::Forked { branches } = turn.progress(frame) else { unreachable!("a branch ends in a fork") };
    let outputs: Option<Vec<Value>> = branches
        .iter()
        .map(|branch| match branch {
            Branch::Done(output) => Some(Value::clone(output)),
            Branch::Open | Branch::Failed => None,
        })
        .collect();
    if let Some(outputs) = outputs {
        turn.end(frame, Value::Array(outputs).into(), None);
    }
}

/// `Err`: the error is that of the whole task.
pub(super) fn branch_failed(
    turn: &mut Turn,
    frame: FrameId,
    list: FrameId,
    fork: &Fork,
    error: Error,
) -> Result<(), Error> {
    if fork.compete != Some(true) {
        return Err(error);
    }
    let branch = turn.state.list(list).only.expect("a branch is one task of the list");
    turn.record(Record::BranchEnded { frame, branch, output: None });
    let Progress::Forked { branches } = turn.progress(frame) else { unreachable!("a branch fails in a fork") };
    if branches.contains(&Branch::Open) { Ok(()) } else { Err(error) }
}
