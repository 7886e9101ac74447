//! What of the language this engine performs. A workflow that needs more is refused before it runs, by name and place;
//! the same words come as a configuration error if one gets this far all the same.

use shared::{
    problem::{Problem, Problems},
    workflow::{
        Workflow, catalog,
        definition::{Call, Definition, FOREACH, Item, Kind, Task},
    },
};

use super::{agent::AGENT, task};

/// How deep functions of `use.functions` may call each other.
pub const FUNCTION_DEPTH_MAX: usize = 16;

/// Whether this engine can perform everything in the workflow.
///
/// # Errors
/// Every task, function and schedule that it cannot perform.
pub fn check(file: &str, workflow: &Workflow) -> Result<(), Problems> {
    let definition = workflow.definition();
    let mut found = Vec::new();
    for (index, extension) in definition.extensions().enumerate() {
        let pointer = format!("/use/extensions/{index}/{}", extension.name);
        for (side, tasks) in [("before", &extension.value.before), ("after", &extension.value.after)] {
            check_list(definition, &format!("{pointer}/{side}"), tasks.as_deref().unwrap_or_default(), &mut found);
        }
    }
    for missing in workflow.missing() {
        let message = format!(
            "this is not in the bundle: expected it there at `{}`, as a node fetches nothing by itself",
            missing.path
        );
        found.push((missing.pointer.clone(), message));
    }
    let functions = definition.uses.iter().flat_map(|uses| uses.functions.iter().flatten());
    for (name, task) in functions {
        check_task(definition, &format!("/use/functions/{name}"), task, &mut found);
    }
    check_list(definition, "/do", &definition.tasks, &mut found);
    if found.is_empty() {
        return Ok(());
    }
    let problem = |(field, message): (String, String)| workflow.problem(file, &field, message);
    let mut problems: Vec<Problem> = found.into_iter().map(problem).collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(Problems(problems))
}

/// Whether a call that no function of `use.functions` takes is one of a built-in function.
///
/// # Errors
/// What was expected, in one sentence.
pub(super) fn function(call: &Call) -> Result<(), String> {
    let known = catalog::function(call.name()).is_some_and(|function| function.is_performed);
    let fits = |asked: Option<&str>, known: &str| asked.is_none_or(|asked| asked == known);
    if known && fits(call.version(), catalog::VERSION) && fits(call.catalog(), catalog::NAME) {
        return Ok(());
    }
    let performed = catalog::functions().iter().filter(|function| function.is_performed).map(|function| function.name);
    let (performed, version) = (performed.collect::<Vec<_>>().join(", "), catalog::VERSION);
    Err(format!(
        "`{}` is not performed by this version: expected one of {performed} (version {version}), or a name under `use.functions`",
        call.function
    ))
}

type Found = Vec<(String, String)>;

fn check_list(definition: &Definition, pointer: &str, tasks: &[Item<Task>], found: &mut Found) {
    for (index, item) in tasks.iter().enumerate() {
        check_task(definition, &format!("{pointer}/{index}/{}", item.name), &item.value, found);
    }
}

fn check_task(definition: &Definition, pointer: &str, task: &Task, found: &mut Found) {
    match &task.kind {
        Kind::Listen(listen) => {
            let tasks = listen.foreach.as_ref().and_then(|foreach| foreach.tasks.as_deref());
            check_list(definition, &format!("{pointer}/foreach/do"), tasks.unwrap_or_default(), found);
        }
        Kind::Call(call) if !call.tasks().is_empty() => {
            check_list(definition, &format!("{pointer}/{FOREACH}/do"), call.tasks(), found);
        }
        Kind::Call(call) if call.name() == AGENT => {
            found.extend(task::agent_mistake(call).map(|message| (format!("{pointer}/with"), message)));
        }
        // What a catalog describes is there, or was missed above.
        Kind::Call(call) if call.catalog().is_some_and(|name| name != catalog::NAME) => {}
        Kind::Call(call) if call.function.contains("://") => {}
        Kind::Call(call) if definition.function(&call.function).is_none() => {
            found.extend(function(call).err().map(|message| (format!("{pointer}/call"), message)));
        }
        Kind::Do(tasks) => check_list(definition, &format!("{pointer}/do"), tasks, found),
        Kind::For(each) => check_list(definition, &format!("{pointer}/do"), &each.tasks, found),
        Kind::Fork(fork) => check_list(definition, &format!("{pointer}/fork/branches"), &fork.branches, found),
        Kind::Try(attempt) => {
            check_list(definition, &format!("{pointer}/try"), &attempt.tasks, found);
            let handlers = attempt.catch.tasks.as_deref().unwrap_or_default();
            check_list(definition, &format!("{pointer}/catch/do"), handlers, found);
        }
        Kind::Call(_)
        | Kind::Emit(_)
        | Kind::Raise(_)
        | Kind::Run(_)
        | Kind::Set(_)
        | Kind::Switch(_)
        | Kind::Wait(_) => {}
    }
}
