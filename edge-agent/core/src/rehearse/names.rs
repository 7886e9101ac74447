//! What a case may name: the tasks of a workflow and what they call.

use std::collections::BTreeSet;

use shared::workflow::{
    catalog,
    definition::{Definition, FOREACH, Item, Kind, Process, Task},
};

use crate::engine::{AGENT, CHAT};

/// The names that a workflow has.
#[derive(Default)]
pub(super) struct Names<'d> {
    tasks: BTreeSet<&'d str>,
    /// The JSON pointers of the tasks.
    pointers: BTreeSet<String>,
    /// The functions that its tasks call, or its agents may: what a mock stands for.
    pub functions: BTreeSet<&'d str>,
}

impl<'d> Names<'d> {
    pub fn of(definition: &'d Definition) -> Self {
        let mut names = Self::default();
        names.list("/do", &definition.tasks);
        for (name, task) in definition.uses.iter().flat_map(|uses| uses.functions.iter().flatten()) {
            names.task(format!("/use/functions/{}", escape(name)), name, task);
        }
        for (path, task) in &definition.linked {
            names.task(format!("/use/functions/{}", escape(path)), path, task);
        }
        for (index, extension) in definition.extensions().enumerate() {
            let pointer = format!("/use/extensions/{index}/{}", escape(&extension.name));
            for (side, tasks) in [("before", &extension.value.before), ("after", &extension.value.after)] {
                names.list(&format!("{pointer}/{side}"), tasks.as_deref().unwrap_or_default());
            }
        }
        names
    }

    /// Whether something that is called goes by this name.
    pub fn is_mocked(&self, name: &str) -> bool {
        self.tasks.contains(name) || self.pointers.contains(name) || self.functions.contains(name)
    }

    /// What may have been meant by this name.
    pub fn like(&self, name: &str) -> Vec<&str> {
        match name.strip_prefix('/') {
            Some(_) => self.pointers.iter().map(String::as_str).collect(),
            None => self.tasks.union(&self.functions).copied().collect(),
        }
    }

    fn list(&mut self, pointer: &str, tasks: &'d [Item<Task>]) {
        for (index, item) in tasks.iter().enumerate() {
            self.task(format!("{pointer}/{index}/{}", escape(&item.name)), &item.name, &item.value);
        }
    }

    fn task(&mut self, pointer: String, name: &'d str, task: &'d Task) {
        match &task.kind {
            Kind::Call(call) => {
                self.list(&format!("{pointer}/{FOREACH}/do"), call.tasks());
                self.functions.insert(call.name());
                if call.name() == AGENT {
                    // A turn of its model, and whatever it may call; an expression may give it tools too.
                    let own = catalog::functions().iter().map(|function| function.name);
                    self.functions.extend(own.chain([CHAT, "workflow"]));
                }
            }
            Kind::Run(run) => drop(self.functions.insert(match &run.process {
                Process::Container(_) => "container",
                Process::Script(_) => "script",
                Process::Shell(_) => "shell",
                Process::Workflow(_) => "workflow",
            })),
            Kind::Do(tasks) => self.list(&format!("{pointer}/do"), tasks),
            Kind::For(each) => self.list(&format!("{pointer}/do"), &each.tasks),
            Kind::Fork(fork) => self.list(&format!("{pointer}/fork/branches"), &fork.branches),
            Kind::Listen(listen) => {
                let tasks = listen.foreach.as_ref().and_then(|foreach| foreach.tasks.as_deref());
                self.list(&format!("{pointer}/foreach/do"), tasks.unwrap_or_default());
            }
            Kind::Try(attempt) => {
                self.list(&format!("{pointer}/try"), &attempt.tasks);
                self.list(&format!("{pointer}/catch/do"), attempt.catch.tasks.as_deref().unwrap_or_default());
            }
            Kind::Emit(_) | Kind::Raise(_) | Kind::Set(_) | Kind::Switch(_) | Kind::Wait(_) => {}
        }
        self.tasks.insert(name);
        self.pointers.insert(pointer);
    }
}

/// A step of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
