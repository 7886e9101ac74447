//! Finding one's place in a workflow: from the JSON pointer of a list to its tasks.

use serde_json::Value;
use shared::workflow::definition::{Definition, Item, Kind, Task};

use super::effect::{Error, kind};

/// The pointer of the reusable functions: the one list whose tasks are called by name.
pub(super) const FUNCTIONS: &str = "/use/functions";

/// The tasks of the list at this pointer.
///
/// # Errors
/// When there is no such list: the records are not of this workflow.
pub(super) fn list<'a>(definition: &'a Definition, pointer: &str) -> Result<&'a [Item<Task>], Error> {
    walk(definition, pointer).ok_or_else(|| missing(pointer))
}

/// The task at this pointer.
///
/// # Errors
/// When there is no such task.
pub(super) fn task<'a>(definition: &'a Definition, pointer: &str) -> Result<&'a Task, Error> {
    let find = || {
        let function = pointer.strip_prefix(FUNCTIONS).and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = function.filter(|name| !name.contains('/')) {
            return definition.function(&unescape(name));
        }
        let (rest, _name) = pointer.rsplit_once('/')?;
        let (list, index) = rest.rsplit_once('/')?;
        Some(&walk(definition, list)?.get(index.parse::<usize>().ok()?)?.value)
    };
    find().ok_or_else(|| missing(pointer))
}

fn missing(pointer: &str) -> Error {
    Error::new(kind::CONFIGURATION, format!("the workflow has nothing at {pointer}"))
}

fn walk<'a>(definition: &'a Definition, pointer: &str) -> Option<&'a [Item<Task>]> {
    let mut steps = pointer.strip_prefix('/')?.split('/');
    let mut tasks: &[Item<Task>] = match steps.next()? {
        "do" => &definition.tasks,
        "use" => match steps.next()? {
            "functions" => inner(definition.function(&unescape(steps.next()?))?, &mut steps)?,
            "extensions" => {
                let extension = &definition.extensions().nth(steps.next()?.parse().ok()?)?.value;
                steps.next()?;
                match steps.next()? {
                    "before" => extension.before.as_deref()?,
                    "after" => extension.after.as_deref()?,
                    _ => return None,
                }
            }
            _ => return None,
        },
        _ => return None,
    };
    while let Some(index) = steps.next() {
        let item = tasks.get(index.parse::<usize>().ok()?)?;
        steps.next()?;
        tasks = inner(&item.value, &mut steps)?;
    }
    Some(tasks)
}

/// The list inside a task that the next steps of the pointer name.
fn inner<'a>(task: &'a Task, steps: &mut std::str::Split<'_, char>) -> Option<&'a [Item<Task>]> {
    match (&task.kind, steps.next()?) {
        (Kind::Call(call), "with") => {
            (steps.next()? == "subscription" && steps.next()? == "foreach" && steps.next()? == "do").then_some(())?;
            call.foreach()?.tasks.as_deref()
        }
        (Kind::Do(tasks), "do") => Some(tasks),
        (Kind::For(each), "do") => Some(&each.tasks),
        (Kind::Listen(listen), "foreach") => {
            (steps.next()? == "do").then_some(())?;
            listen.foreach.as_ref()?.tasks.as_deref()
        }
        (Kind::Try(attempt), "try") => Some(&attempt.tasks),
        (Kind::Try(attempt), "catch") => {
            (steps.next()? == "do").then_some(())?;
            attempt.catch.tasks.as_deref()
        }
        (Kind::Fork(fork), "fork") => {
            (steps.next()? == "branches").then_some(())?;
            Some(&fork.branches)
        }
        _ => None,
    }
}

/// The name that a step of a JSON pointer stands for.
pub(super) fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// The task as it is written, for `$task.definition`.
pub(super) fn raw(task: &Task) -> Value {
    serde_json::to_value(task).expect("a task is plain data")
}
