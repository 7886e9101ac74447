//! The kinds of tasks: how each begins, and how those that hold other tasks go on when these end. One file a kind.

mod agent;
pub(super) mod arguments;
mod call;
mod r#do;
mod emit;
mod r#for;
mod foreach;
mod fork;
pub(super) mod listen;
mod raise;
pub(super) mod run;
mod set;
pub(super) mod subscribe;
mod switch;
mod r#try;
mod wait;

pub(super) use agent::{mistakes as agent_mistakes, whole};

use std::sync::Arc;

use serde_json::Value;
use shared::workflow::definition::Kind;

use super::{definition, effect::Error, extension, record::FrameId, state::Progress, turn::Turn};

/// A task that was just entered does what its kind does.
pub(super) fn start(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    let workflow = Arc::clone(&turn.state.workflow);
    let task = definition::task(workflow.definition(), &turn.state.frames[&frame].definition)?;
    match &task.kind {
        Kind::Call(call) => call::start(turn, frame, call),
        Kind::Do(_) => r#do::start(turn, frame),
        Kind::Emit(emit) => emit::start(turn, frame, emit),
        Kind::For(each) => r#for::start(turn, frame, each),
        Kind::Fork(fork) => fork::start(turn, frame, fork),
        Kind::Raise(raise) => Err(raise::error(turn, frame, raise)?),
        Kind::Set(value) => set::start(turn, frame, value),
        Kind::Switch(cases) => switch::start(turn, frame, cases),
        Kind::Try(_) => r#try::start(turn, frame),
        Kind::Wait(duration) => wait::start(turn, frame, duration),
        Kind::Run(run) => run::start(turn, frame, run),
        Kind::Listen(listen) => listen::start(turn, frame, listen),
    }
}

/// The effect that a task asked for came to a good end with this output.
pub(super) fn answered(turn: &mut Turn, frame: FrameId, output: Value) {
    if turn.state.task(frame).agent.is_some() {
        return agent::answered(turn, frame, output);
    }
    if turn.state.task(frame).subscription.is_some() {
        return subscribe::answered(turn, frame, output);
    }
    let workflow = Arc::clone(&turn.state.workflow);
    let task = definition::task(workflow.definition(), &turn.state.frames[&frame].definition);
    let output = match task.map(|task| &task.kind) {
        Ok(Kind::Run(run)) if !run::is_awaited(run) => Arc::clone(&turn.state.task(frame).input),
        _ => output.into(),
    };
    turn.end(frame, output, None);
}

/// The effect that a task asked for came to a bad end. A tool's is told to its agent.
pub(super) fn unanswered(turn: &mut Turn, frame: FrameId, error: Error) {
    if turn.state.task(frame).agent.is_some() {
        return agent::unanswered(turn, frame, error);
    }
    if turn.state.task(frame).subscription.is_some() {
        return subscribe::unanswered(turn, frame, error);
    }
    turn.fail(frame, error);
}

/// All tasks of a list are done; `data` is what the last one gave.
pub(super) fn list_done(turn: &mut Turn, list: FrameId, data: Arc<Value>) {
    let Some(owner) = turn.state.frames[&list].parent else { return turn.finish(&data) };
    if let Progress::Extending(extending) = turn.progress(owner) {
        let (extending, exited) = (extending.clone(), turn.state.list(list).next.is_none());
        if let Err(error) = extension::done(turn, owner, extending, data, exited) {
            turn.fail(owner, error);
        }
        return;
    }
    let workflow = Arc::clone(&turn.state.workflow);
    let task = definition::task(workflow.definition(), &turn.state.frames[&owner].definition);
    let done = task.and_then(|task| match &task.kind {
        Kind::Call(call) if turn.state.task(owner).subscription.is_some() => match call.foreach() {
            Some(foreach) => subscribe::turned(turn, owner, foreach, &data),
            None => Ok(()),
        },
        Kind::Listen(listen) => listen::turned(turn, owner, listen, &data),
        Kind::For(each) => r#for::turned(turn, owner, each, data),
        Kind::Fork(fork) => {
            fork::branch_done(turn, owner, list, fork, data);
            Ok(())
        }
        Kind::Try(attempt) => {
            r#try::done(turn, owner, attempt, data);
            Ok(())
        }
        _ => {
            turn.end(owner, data, None);
            Ok(())
        }
    });
    if let Err(error) = done {
        turn.fail(owner, error);
    }
}

/// A list of the task `owner` failed.
pub(super) fn list_failed(turn: &mut Turn, owner: FrameId, list: FrameId, error: Error) {
    let workflow = Arc::clone(&turn.state.workflow);
    let task = definition::task(workflow.definition(), &turn.state.frames[&owner].definition);
    let outcome = task.and_then(|task| match &task.kind {
        // What an extension fails of is no failure of what the task itself holds.
        _ if matches!(turn.progress(owner), Progress::Extending(_)) => Err(error),
        Kind::Try(attempt) => r#try::failed(turn, owner, attempt, error),
        Kind::Fork(fork) => fork::branch_failed(turn, owner, list, fork, error),
        _ => Err(error),
    });
    if let Err(error) = outcome {
        turn.fail(owner, error);
    }
}

/// A task has rested as long as it wanted.
pub(super) fn rested(turn: &mut Turn, frame: FrameId) {
    if matches!(turn.progress(frame), Progress::BackingOff { .. }) {
        return r#try::again(turn, frame);
    }
    if turn.state.task(frame).agent.is_some() {
        return agent::late(turn, frame);
    }
    let input = Arc::clone(&turn.state.task(frame).input);
    turn.end(frame, input, None);
}
