//! What of the language this engine performs. A workflow that needs more is refused before it runs, by name and place;
//! the same words come as a configuration error if one gets this far all the same.

use shared::{
    problem::{Problem, Problems},
    workflow::{
        Missing, Workflow, catalog,
        definition::{Call, Definition, FOREACH, Item, Kind, Process, Task},
        expression,
    },
};

use super::{agent::AGENT, task};

/// How deep functions of `use.functions` may call each other.
pub const FUNCTION_DEPTH_MAX: usize = 16;

/// The languages of scripts that a node runs, with their other names.
pub const LANGUAGES: &[&str] = &["js", "javascript", "python", "sh", "shell"];

/// Reads a workflow that this engine is to perform, with the files of its bundle; `read` gives a file by its path.
///
/// # Errors
/// Everything that is wrong with it: what the language forbids, and what this engine cannot perform.
pub fn read(file: &str, text: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Workflow, Problems> {
    Workflow::link_for(file, text, read, &mistakes)
}

/// Whether this engine can perform everything in the workflow.
///
/// # Errors
/// Every task, function and schedule that it cannot perform.
pub fn check(file: &str, workflow: &Workflow) -> Result<(), Problems> {
    let found = mistakes(workflow.definition(), workflow.missing());
    if found.is_empty() {
        return Ok(());
    }
    let problem = |(field, message): (String, String)| workflow.problem(file, &field, message);
    let mut problems: Vec<Problem> = found.into_iter().map(problem).collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(Problems(problems))
}

/// What it cannot perform: the JSON pointer of each, and why.
fn mistakes(definition: &Definition, missing: &[Missing]) -> Found {
    let mut found = Vec::new();
    for (index, extension) in definition.extensions().enumerate() {
        let pointer = format!("/use/extensions/{index}/{}", extension.name);
        for (side, tasks) in [("before", &extension.value.before), ("after", &extension.value.after)] {
            check_list(definition, &format!("{pointer}/{side}"), tasks.as_deref().unwrap_or_default(), &mut found);
        }
    }
    for missing in missing {
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
    found
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

/// Whether scripts in this language are run; of an expression nobody knows.
fn is_run(language: &str) -> bool {
    expression::body(language).is_some() || LANGUAGES.contains(&language.to_ascii_lowercase().as_str())
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
            let mistakes = task::agent_mistakes(call).into_iter();
            found.extend(mistakes.map(|(at, message)| (format!("{pointer}/with{at}"), message)));
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
        Kind::Run(run) => {
            if let Process::Script(script) = &run.process
                && !is_run(&script.language)
            {
                let message = format!("scripts in {:?} are not run: expected js, python or sh", script.language);
                found.push((format!("{pointer}/run/script/language"), message));
            }
        }
        Kind::Call(_) | Kind::Emit(_) | Kind::Raise(_) | Kind::Set(_) | Kind::Switch(_) | Kind::Wait(_) => {}
    }
}
