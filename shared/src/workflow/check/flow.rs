//! Where the flow goes inside one list: targets must stand in it, names must be unique, and every task be reached.

use std::collections::BTreeSet;

use super::Checker;
use crate::workflow::definition::{Item, Kind, Task, Then};

impl Checker<'_> {
    /// Looks at a list as a whole.
    pub(super) fn flow(&mut self, tasks: &[Item<Task>]) {
        if self.unique(tasks) {
            self.reached(tasks);
        }
    }

    /// Whether no two tasks of a list share a name.
    pub(super) fn unique(&mut self, tasks: &[Item<Task>]) -> bool {
        let mut seen = BTreeSet::new();
        let mut unique = true;
        for (index, item) in tasks.iter().enumerate() {
            let message = match item.name.as_str() {
                "continue" | "exit" | "end" => "this name is a word of the language: expected another",
                name if !seen.insert(name) => "another task of this list has the same name: expected a name of its own",
                _ => continue,
            };
            unique = false;
            self.at(&[&index.to_string(), &item.name], |checker| checker.wrong_key(message));
        }
        unique
    }

    /// A `then` must name a task of its list.
    pub(super) fn target(&mut self, then: &Then, list: &[Item<Task>]) {
        let Then::Task(name) = then else { return };
        if list.iter().any(|item| item.name == *name) {
            return;
        }
        let names: Vec<&str> = list.iter().map(|item| item.name.as_str()).collect();
        let names =
            if names.is_empty() { String::new() } else { format!(" or a task of this list ({})", names.join(", ")) };
        let message = format!("there is no task `{name}` in this list: expected continue, exit, end{names}");
        self.at(&["then"], |checker| checker.wrong(message));
    }

    fn reached(&mut self, tasks: &[Item<Task>]) {
        let mut reached = BTreeSet::new();
        let mut open = vec![0];
        while let Some(index) = open.pop() {
            if index < tasks.len() && reached.insert(index) {
                open.extend(successors(tasks, index));
            }
        }
        for (index, item) in tasks.iter().enumerate() {
            if !reached.contains(&index) {
                let message =
                    "nothing leads to this task: expected a `then` that names it, or a task before it that goes on";
                self.at(&[&index.to_string(), &item.name], |checker| checker.wrong_key(message));
            }
        }
    }
}

/// The positions that may come after this one.
fn successors(tasks: &[Item<Task>], index: usize) -> Vec<usize> {
    let task = &tasks[index].value;
    let next = index + 1;
    let go = |then: &Then| match then {
        Then::Continue => Some(next),
        Then::Exit | Then::End => None,
        Then::Task(name) => tasks.iter().position(|item| item.name == *name),
    };
    let mut after = Vec::new();
    match &task.kind {
        Kind::Switch(cases) => {
            after.extend(cases.iter().filter_map(|case| go(&case.value.then)));
            if cases.iter().all(|case| case.value.when.is_some()) {
                after.extend(task.common.then.as_ref().map_or(Some(next), go));
            }
        }
        Kind::Raise(_) => {}
        kind => {
            after.extend(task.common.then.as_ref().map_or(Some(next), go));
            if let Kind::Try(attempt) = kind {
                after.extend(attempt.catch.then.as_ref().and_then(go));
            }
        }
    }
    if task.common.condition.is_some() {
        // A task that is skipped goes on to the next one.
        after.push(next);
    }
    after
}
