//! What of the language this engine performs. A workflow that needs more is refused before it runs, by name and place;
//! the same words come as a configuration error if one gets this far all the same.

use shared::{
    problem::{Problem, Problems},
    workflow::{
        Workflow, catalog,
        definition::{Call, Definition, Item, Kind, Schedule, Task},
    },
};

/// How deep functions of `use.functions` may call each other.
pub const FUNCTION_DEPTH_MAX: usize = 16;

/// Whether this engine can perform everything in the workflow.
///
/// # Errors
/// Every task, function and schedule that it cannot perform.
pub fn check(file: &str, workflow: &Workflow) -> Result<(), Problems> {
    let definition = workflow.definition();
    let mut found = Vec::new();
    if let Some(schedule) = &definition.schedule {
        found.extend(check_schedule(schedule));
    }
    for (index, extension) in definition.extensions().enumerate() {
        let field = format!("/use/extensions/{index}/{}", extension.name);
        found.push((field, "extensions are not supported by this version of the engine".to_owned()));
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

fn check_schedule(schedule: &Schedule) -> Option<(String, String)> {
    use shared::workflow::definition::Strategy;
    let not = |field: &str, what: &str| {
        Some((field.to_owned(), format!("{what} is not supported by this version of the engine")))
    };
    match (&schedule.on, &schedule.after) {
        (_, Some(_)) => not("/schedule/after", "a start after the last run's end"),
        (Some(Strategy::All(_)), _) => not("/schedule/on/all", "waiting for all of several events"),
        (Some(Strategy::Any { until: Some(_), .. }), _) => {
            not("/schedule/on/until", "collecting events until a condition")
        }
        _ => None,
    }
}

type Found = Vec<(String, String)>;

fn check_list(definition: &Definition, pointer: &str, tasks: &[Item<Task>], found: &mut Found) {
    for (index, item) in tasks.iter().enumerate() {
        check_task(definition, &format!("{pointer}/{index}/{}", item.name), &item.value, found);
    }
}

fn check_task(definition: &Definition, pointer: &str, task: &Task, found: &mut Found) {
    match &task.kind {
        Kind::Listen(_) => {
            let message = format!("`{}` is not supported by this version of the engine", task.kind.key());
            found.push((pointer.to_owned(), message));
        }
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
