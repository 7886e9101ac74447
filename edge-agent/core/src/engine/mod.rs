//! The workflow engine: what may happen to a run, what is remembered, what is asked of the world.
//!
//! `decide` is the whole of it. It never waits, reads no clock and performs nothing: records are to be written, then
//! effects performed, and their outcomes come back as commands.

mod agent;
pub mod command;
mod definition;
pub mod effect;
mod eval;
mod extension;
mod flow;
mod fold;
pub mod history;
pub mod limit;
pub mod record;
pub mod retry;
pub mod state;
mod subscription;
pub mod support;
mod task;
mod turn;
pub mod waits;

use std::sync::Arc;

use serde_json::Value;
use shared::{time::Timestamp, workflow::secret};

pub use agent::{AGENT, CHAT, Said, ToolCall, Usage};
pub use command::{Command, Rejection};
pub use effect::Effect;
pub use record::{Ending, Record};
pub use state::{Phase, State};
pub use task::{listen::Interest, run::WORKFLOW as RUN_WORKFLOW, subscribe::closing};

/// What a decision gives: what to remember, then what to do.
#[derive(Debug, Clone)]
pub struct Step {
    pub records: Vec<Record>,
    /// For each record by which a task ended, the task's reference; for the others nothing.
    pub references: Vec<Option<String>>,
    pub effects: Vec<Effect>,
    /// The step was full: `Continue` goes on where it stopped.
    pub more: bool,
    /// The state after it: the one before, with the records applied.
    pub after: State,
}

/// Decides what a command makes of a run.
///
/// # Errors
/// When the command does not fit the state; nothing is to be remembered then.
pub fn decide(state: &State, command: Command, now: Timestamp) -> Result<Step, Rejection> {
    match (state.phase(), &command) {
        (Phase::New, Command::Start { .. }) | (Phase::Running, _) => {}
        (Phase::New, _) => return Err(Rejection::NotStarted),
        (Phase::Ended { .. }, _) => return Err(Rejection::Ended),
    }
    let mut turn = turn::Turn::new(state.clone(), now);
    if state.suspended.is_some() {
        return at_rest(turn, state, command);
    }
    match command {
        Command::Start { .. } if *state.phase() == Phase::Running => return Err(Rejection::AlreadyStarted),
        Command::Start { input, label } => turn.begin(harmless(input), label),
        Command::Complete { ask, output, label } => {
            let task = turn.answered(ask, label).ok_or(Rejection::NotAsked(ask))?;
            let output = secret::neutralised(output);
            match limit::check("the output of the call", &output) {
                Ok(()) => task::answered(&mut turn, task, output),
                Err(error) => task::unanswered(&mut turn, task, error),
            }
        }
        Command::Fail { ask, error, label } => {
            let task = turn.answered(ask, label).ok_or(Rejection::NotAsked(ask))?;
            task::unanswered(&mut turn, task, error.harmless());
        }
        Command::Wake => turn.wake(),
        Command::Hear { event, label } => task::listen::take(&mut turn, &event, &label),
        Command::Miss { events } => task::listen::missed(&mut turn, events),
        Command::Continue => turn.take_up(),
        Command::Suspend => {
            turn.record(Record::Suspended { at: now });
            return Ok(turn.step(state));
        }
        Command::Resume => {}
        Command::Cancel => turn.end_run(Ending::Cancelled, None, None),
    }
    turn.run();
    Ok(turn.step(state))
}

/// Decides for a run that rests: outcomes are kept, and nothing else happens until it goes on or is cancelled.
fn at_rest(mut turn: turn::Turn, state: &State, command: Command) -> Result<Step, Rejection> {
    let mut held = |ask, label, outcome: Result<Value, effect::Error>| {
        let frame = turn.answered(ask, label).ok_or(Rejection::NotAsked(ask))?;
        let outcome = outcome.map(secret::neutralised).and_then(|output| {
            limit::check("the output of the call", &output)?;
            Ok(output)
        });
        let (output, error) = match outcome {
            Ok(output) => (Some(Arc::new(output)), None),
            Err(error) => (None, Some(error.harmless())),
        };
        turn.record(Record::Held { frame, output, error });
        Ok(())
    };
    match command {
        Command::Start { .. } => return Err(Rejection::AlreadyStarted),
        Command::Complete { ask, output, label } => held(ask, label, Ok(output))?,
        Command::Fail { ask, error, label } => held(ask, label, Err(error))?,
        Command::Resume => {
            turn.record(Record::Resumed { at: turn.now });
            turn.take_up();
            turn.wake();
            turn.run();
        }
        Command::Cancel => turn.end_run(Ending::Cancelled, None, None),
        Command::Wake | Command::Continue | Command::Hear { .. } | Command::Miss { .. } | Command::Suspend => {}
    }
    Ok(turn.step(state))
}

/// What comes from outside refers to no secret.
fn harmless(value: Arc<Value>) -> Arc<Value> {
    if secret::any_marked(&value) { Arc::new(secret::neutralised(Value::clone(&value))) } else { value }
}

#[cfg(test)]
mod tests;
