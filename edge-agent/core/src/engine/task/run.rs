//! `run`: a process or another workflow. Both are effects: the first is performed by a room, the second by the runner.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::workflow::{
    definition::{Returns, Run},
    expression,
};

use super::super::{effect::Error, record::FrameId, turn::Turn};
use super::{arguments, call};

/// The function of an effect that runs another workflow.
pub const WORKFLOW: &str = "workflow";

/// The parts of a process that are a program, not data: an expression only if they are nothing else.
const PROGRAMS: [&str; 2] = ["command", "code"];

pub(super) fn start(turn: &mut Turn, frame: FrameId, run: &Run) -> Result<(), Error> {
    let (function, mut written) = run.process.parts();
    let input = Arc::clone(&turn.state.task(frame).input);
    let mut programs = Vec::new();
    if let Value::Object(map) = &mut written {
        for name in PROGRAMS {
            let is_program = |value: &Value| {
                value.as_str().is_some_and(|text| expression::body(text).is_none_or(|body| body.contains("${")))
            };
            if map.get(name).is_some_and(is_program) {
                programs.extend(map.get_mut(name).map(|program| (name, program.take())));
            }
        }
    }
    let mut arguments = arguments::of(turn, frame, &written, &input)?;
    for (name, program) in programs {
        arguments[name] = program;
    }
    arguments["await"] = json!(is_awaited(run));
    arguments["return"] = json!(run.returns.unwrap_or(Returns::Stdout));
    call::ask(turn, frame, function, arguments)
}

/// Whether the task waits for the end of what it runs; otherwise it gives its own input.
pub(super) fn is_awaited(run: &Run) -> bool {
    run.await_end != Some(false)
}
