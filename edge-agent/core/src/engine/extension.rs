//! Extensions: tasks before and after those of a kind. What the tasks before give changes nothing unless one says
//! `then: exit`: then it takes the place of the task's own output. What the tasks after give is discarded. Inside,
//! `$task` is the task that is extended. The tasks of an extension are not extended themselves.

use std::sync::Arc;

use serde_json::Value;
use shared::workflow::definition::{Extended, Extension, Kind, Then};

use super::{
    definition,
    effect::Error,
    eval::Scope,
    record::{FrameId, Record},
    state::{Extending, Progress},
    task,
    turn::{Opening, Turn},
};

/// Where the tasks of extensions are.
pub(super) const EXTENSIONS: &str = "/use/extensions/";

/// Whether the list at this pointer belongs to an extension itself, not to a task in it.
pub(super) fn is_root(pointer: &str) -> bool {
    pointer.strip_prefix(EXTENSIONS).is_some_and(|rest| rest.split('/').count() == 3)
}

/// Begins what comes before the task, or the task itself.
pub(super) fn start(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    if before(turn, frame, 0)? { Ok(()) } else { task::start(turn, frame) }
}

/// Begins the first extension from `first` on that has something before the task. `false`: there is none.
fn before(turn: &mut Turn, frame: FrameId, first: u32) -> Result<bool, Error> {
    let Some(extension) =
        next(turn, frame, first, |extension| extension.before.as_ref().is_some_and(|t| !t.is_empty()))?
    else {
        return Ok(false);
    };
    turn.record(Record::ExtensionBegan { frame, extension, output: None, then: None });
    let data = Arc::clone(&turn.state.task(frame).input);
    open(turn, frame, extension, "before", data);
    Ok(true)
}

/// The task has come to its raw output. `true`: something comes after it, and the end of the task after that.
pub(super) fn end(turn: &mut Turn, frame: FrameId, output: &Arc<Value>, then: Option<Then>) -> Result<bool, Error> {
    if matches!(turn.progress(frame), Progress::Extending(_)) {
        return Ok(false);
    }
    after(turn, frame, 0, output, then)
}

fn after(turn: &mut Turn, frame: FrameId, first: u32, output: &Arc<Value>, then: Option<Then>) -> Result<bool, Error> {
    let Some(extension) =
        next(turn, frame, first, |extension| extension.after.as_ref().is_some_and(|t| !t.is_empty()))?
    else {
        return Ok(false);
    };
    turn.record(Record::ExtensionBegan { frame, extension, output: Some(Arc::clone(output)), then });
    open(turn, frame, extension, "after", Arc::clone(output));
    Ok(true)
}

fn open(turn: &mut Turn, frame: FrameId, extension: u32, side: &str, data: Arc<Value>) {
    let workflow = Arc::clone(&turn.state.workflow);
    let name = workflow.definition().extensions().nth(extension as usize).map_or("", |item| &item.name);
    let name = name.replace('~', "~0").replace('/', "~1");
    let definition = format!("{EXTENSIONS}{extension}/{name}/{side}");
    let place = format!("{}/{side}/{name}", turn.state.frames[&frame].place);
    let opening = Opening::within(turn, frame, "", data);
    turn.open(Opening { definition, place, ..opening });
}

/// The tasks of an extension are done and gave `data`; `exited`: one of them said `then: exit`.
pub(super) fn done(
    turn: &mut Turn,
    frame: FrameId,
    extending: Extending,
    data: Arc<Value>,
    exited: bool,
) -> Result<(), Error> {
    let Extending { extension, output, then } = extending;
    match output {
        None if exited => {
            turn.end(frame, data, None);
            Ok(())
        }
        None => {
            turn.record(Record::ExtensionsPassed { frame });
            if before(turn, frame, extension + 1)? { Ok(()) } else { task::start(turn, frame) }
        }
        Some(output) => {
            if !after(turn, frame, extension + 1, &output, then.clone())? {
                turn.end(frame, output, then);
            }
            Ok(())
        }
    }
}

/// The first extension from `first` on that applies to the task and is wanted.
fn next(turn: &Turn, frame: FrameId, first: u32, is_wanted: impl Fn(&Extension) -> bool) -> Result<Option<u32>, Error> {
    let workflow = &turn.state.workflow;
    if workflow.definition().extensions().next().is_none() || is_inside(turn, frame) {
        return Ok(None);
    }
    let task = definition::task(workflow.definition(), &turn.state.frames[&frame].definition)?;
    let input = &turn.state.task(frame).input;
    for (number, item) in (0_u32..).zip(workflow.definition().extensions()) {
        let extension = &item.value;
        if number < first || !extends(extension.extend, &task.kind) || !is_wanted(extension) {
            continue;
        }
        let scope = Scope::within_task(&turn.state, frame);
        if extension.when.as_ref().map_or(Ok(true), |when| scope.condition(when, input))? {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn is_inside(turn: &Turn, frame: FrameId) -> bool {
    turn.state.ancestors(frame).any(|(_, frame)| frame.definition.starts_with(EXTENSIONS))
}

fn extends(extended: Extended, kind: &Kind) -> bool {
    match extended {
        Extended::All => true,
        Extended::Composite => matches!(kind, Kind::Do(_) | Kind::Fork(_)),
        Extended::Call => matches!(kind, Kind::Call(_)),
        Extended::Emit => matches!(kind, Kind::Emit(_)),
        Extended::For => matches!(kind, Kind::For(_)),
        Extended::Listen => matches!(kind, Kind::Listen(_)),
        Extended::Raise => matches!(kind, Kind::Raise(_)),
        Extended::Run => matches!(kind, Kind::Run(_)),
        Extended::Set => matches!(kind, Kind::Set(_)),
        Extended::Switch => matches!(kind, Kind::Switch(_)),
        Extended::Try => matches!(kind, Kind::Try(_)),
        Extended::Wait => matches!(kind, Kind::Wait(_)),
    }
}
