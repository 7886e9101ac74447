//! What workflows of a bundle name of each other and of the bundle's other files: workflows that they run, guards. Only
//! what is written out is known before a run.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::{
    problem::{
        Problem, dotted,
        yaml::{Side, locate},
    },
    workflow::{
        Workflow,
        definition::{Call, Item, Kind, Process, Subflow, Task},
    },
};

use super::Rules;

/// Every name that stands for nothing. `named`: the file of each workflow.
pub(super) fn unknown(rules: &Rules, named: &BTreeMap<String, String>, texts: &[(String, String)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for workflow in &rules.workflows {
        let mut look = Look { rules, at: Vec::new(), found: Vec::new() };
        look.workflow(workflow);
        let file = named.get(&workflow.definition().qualified_name());
        let Some((file, text)) = texts.iter().find(|(path, _)| Some(path) == file) else { continue };
        problems.extend(look.found.into_iter().map(|(at, message)| {
            let (line, column) = locate(text, &at, Side::Value).unzip();
            Problem { file: file.clone(), line, column, field: dotted(&at), message }
        }));
    }
    problems
}

struct Look<'r> {
    rules: &'r Rules,
    at: Vec<String>,
    found: Vec<(Vec<String>, String)>,
}

impl Look<'_> {
    fn within(&mut self, steps: &[&str], look: impl FnOnce(&mut Self)) {
        let depth = self.at.len();
        self.at.extend(steps.iter().map(|step| (*step).to_owned()));
        look(self);
        self.at.truncate(depth);
    }

    fn wrong(&mut self, message: String) {
        self.found.push((self.at.clone(), message));
    }

    fn workflow(&mut self, workflow: &Workflow) {
        let definition = workflow.definition();
        self.within(&["do"], |look| look.tasks(&definition.tasks));
        for (name, task) in definition.uses.iter().flat_map(|uses| uses.functions.iter().flatten()) {
            self.within(&["use", "functions", name], |look| look.task(task));
        }
        for (index, extension) in definition.extensions().enumerate() {
            for (side, tasks) in [("before", &extension.value.before), ("after", &extension.value.after)] {
                let steps = ["use", "extensions", &index.to_string(), &extension.name, side];
                self.within(&steps, |look| look.tasks(tasks.as_deref().unwrap_or_default()));
            }
        }
    }

    fn tasks(&mut self, tasks: &[Item<Task>]) {
        for (index, item) in tasks.iter().enumerate() {
            self.within(&[&index.to_string(), &item.name], |look| look.task(&item.value));
        }
    }

    fn task(&mut self, task: &Task) {
        match &task.kind {
            Kind::Call(call) => self.call(call),
            Kind::Run(run) => {
                if let Process::Workflow(subflow) = &run.process {
                    self.within(&["run", "workflow"], |look| look.subflow(subflow));
                }
            }
            Kind::Do(tasks) => self.within(&["do"], |look| look.tasks(tasks)),
            Kind::For(each) => self.within(&["do"], |look| look.tasks(&each.tasks)),
            Kind::Fork(fork) => self.within(&["fork", "branches"], |look| look.tasks(&fork.branches)),
            Kind::Listen(listen) => {
                let tasks = listen.foreach.as_ref().and_then(|foreach| foreach.tasks.as_deref());
                self.within(&["foreach", "do"], |look| look.tasks(tasks.unwrap_or_default()));
            }
            Kind::Try(attempt) => {
                self.within(&["try"], |look| look.tasks(&attempt.tasks));
                let tasks = attempt.catch.tasks.as_deref().unwrap_or_default();
                self.within(&["catch", "do"], |look| look.tasks(tasks));
            }
            Kind::Emit(_) | Kind::Raise(_) | Kind::Set(_) | Kind::Switch(_) | Kind::Wait(_) => {}
        }
    }

    fn call(&mut self, call: &Call) {
        self.within(&["with", "subscription", "foreach", "do"], |look| look.tasks(call.tasks()));
        let Some(with) = &call.with else { return };
        match call.name() {
            "guard" => self.within(&["with"], |look| look.guard(with.get("policy"))),
            "agent" => self.within(&["with"], |look| look.agent(&Value::Object(with.clone()))),
            _ => {}
        }
    }

    fn guard(&mut self, policy: Option<&Value>) {
        let Some(name) = policy.and_then(literal) else { return };
        if !self.rules.guards.contains_key(name) {
            let known = self.rules.guards.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("{name:?} is no guard: expected a file guards/{name}.yaml; there is [{known}]");
            self.within(&["policy"], |look| look.wrong(message));
        }
    }

    /// The workflows that an agent has as tools, and those of the agents that it may hand over to.
    fn agent(&mut self, with: &Value) {
        for (index, tool) in with.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let index = index.to_string();
            if let Some(reference) = tool.get("workflow").and_then(literal) {
                let name = reference.split(':').next().unwrap_or(reference);
                self.within(&["tools", &index, "workflow"], |look| look.name(name));
            }
            if tool.get("function").and_then(Value::as_str) == Some("guard") {
                let policy = tool.get("with").and_then(|with| with.get("policy"));
                self.within(&["tools", &index, "with"], |look| look.guard(policy));
            }
            if let Some(agent) = tool.get("agent") {
                self.within(&["tools", &index, "agent"], |look| look.agent(agent));
            }
        }
    }

    fn subflow(&mut self, subflow: &Subflow) {
        let parts = [&subflow.namespace, &subflow.name].map(|part| literal(&Value::String(part.clone())).is_some());
        if parts == [true, true] {
            let name = format!("{}/{}", subflow.namespace, subflow.name);
            self.within(&["name"], |look| look.name(&name));
        }
    }

    fn name(&mut self, name: &str) {
        let known: Vec<String> =
            self.rules.workflows.iter().map(|workflow| workflow.definition().qualified_name()).collect();
        if !known.iter().any(|known| known == name) {
            self.wrong(format!("the bundle has no workflow {name}: expected one of {}", known.join(", ")));
        }
    }
}

/// A text that is no expression.
fn literal(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.contains("${"))
}
