//! A task as it is written: flat, its kind named by a key (`call`, `do`, ..). `Task` is the same thing with the
//! impossible combinations gone.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Timeout,
    call::Call,
    data::{Export, Input, Output},
    duration::Duration,
    event::{Read, Strategy},
    fault::Catch,
    form::{Item, Reference},
    run::Run,
    task::{Case, Common, Emit, For, Foreach, Fork, Kind, Listen, Loop, Raise, Task, Tasks, Then, Try},
};

/// A task as it is written: every key that some kind of task has.
#[derive(Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a task: an object")]
pub(super) struct TaskForm {
    #[serde(rename = "if", default, skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fork: Option<Fork>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    emit: Option<Emit>,
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    each: Option<Loop>,
    #[serde(rename = "while", default, skip_serializing_if = "Option::is_none")]
    while_true: Option<String>,
    #[serde(rename = "do", default, skip_serializing_if = "Option::is_none")]
    tasks: Option<Tasks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listen: Option<ListenForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    foreach: Option<Foreach>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raise: Option<Raise>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Box<Run>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    switch: Option<Vec<Item<Case>>>,
    #[serde(rename = "try", default, skip_serializing_if = "Option::is_none")]
    attempt: Option<Tasks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    catch: Option<Catch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Input>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    export: Option<Export>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Reference<Timeout>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    then: Option<Then>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
}

/// The keys of which a task has exactly one; `do` is one only where no `for` stands beside it.
const KEYS: &str = "call, do, emit, for, fork, listen, raise, run, set, switch, try, wait";

impl TaskForm {
    fn keys(&self) -> Vec<&'static str> {
        let keys = [
            (self.call.is_some(), "call"),
            (self.tasks.is_some() && self.each.is_none(), "do"),
            (self.emit.is_some(), "emit"),
            (self.each.is_some(), "for"),
            (self.fork.is_some(), "fork"),
            (self.listen.is_some(), "listen"),
            (self.raise.is_some(), "raise"),
            (self.run.is_some(), "run"),
            (self.set.is_some(), "set"),
            (self.switch.is_some(), "switch"),
            (self.attempt.is_some(), "try"),
            (self.wait.is_some(), "wait"),
        ];
        keys.into_iter().filter_map(|(set, key)| set.then_some(key)).collect()
    }

    /// Keys that only go with one kind of task, and stand beside another.
    fn misplaced(&self, key: &str) -> Option<(&'static str, &'static str)> {
        let companions = [
            (self.with.is_some(), "with", "call"),
            (self.while_true.is_some(), "while", "for"),
            (self.foreach.is_some(), "foreach", "listen"),
            (self.catch.is_some(), "catch", "try"),
        ];
        companions.into_iter().find(|(set, _, owner)| *set && *owner != key).map(|(_, name, owner)| (name, owner))
    }
}

impl TryFrom<TaskForm> for Task {
    type Error = String;

    fn try_from(form: TaskForm) -> Result<Self, String> {
        let keys = form.keys();
        let &[key] = keys.as_slice() else {
            let found = if keys.is_empty() { "none".to_owned() } else { keys.join(" and ") };
            return Err(format!("a task needs exactly one of the keys {KEYS}; found {found}"));
        };
        if let Some((name, owner)) = form.misplaced(key) {
            return Err(format!("`{name}` goes with `{owner}` only, and this task is a `{key}`"));
        }
        let common = Common {
            condition: form.condition,
            input: form.input,
            output: form.output,
            export: form.export,
            timeout: form.timeout,
            then: form.then,
            metadata: form.metadata,
        };
        // Exactly one of these is set, as counted above.
        let kind = if let Some(function) = form.call {
            Kind::Call(Call::new(function, form.with)?)
        } else if let Some(each) = form.each {
            let tasks = form.tasks.ok_or("`for` needs `do`, the tasks to perform for each item")?;
            Kind::For(For { each, condition: form.while_true, tasks })
        } else if let Some(tasks) = form.attempt {
            let catch = form.catch.ok_or("`try` needs `catch`, what to do with errors (`catch: {}` takes them all)")?;
            Kind::Try(Box::new(Try { tasks, catch }))
        } else if let Some(listen) = form.listen {
            Kind::Listen(Box::new(Listen { to: listen.to, read: listen.read, foreach: form.foreach }))
        } else if let Some(set) = form.set {
            Kind::Set(settable(set)?)
        } else if let Some(cases) = form.switch {
            if cases.is_empty() {
                return Err("`switch` needs at least one case".to_owned());
            }
            Kind::Switch(cases)
        } else {
            let composite = form.tasks.map(Kind::Do).or(form.fork.map(Kind::Fork));
            let simple = form.emit.map(Kind::Emit).or(form.raise.map(Kind::Raise));
            let slow = form.run.map(Kind::Run).or(form.wait.map(Kind::Wait));
            composite.or(simple).or(slow).ok_or_else(|| format!("a task needs one of the keys {KEYS}"))?
        };
        Ok(Self { common, kind })
    }
}

fn settable(value: Value) -> Result<Value, String> {
    match &value {
        Value::String(_) => Ok(value),
        Value::Object(map) if !map.is_empty() => Ok(value),
        _ => Err("`set` needs an object with at least one key, or an expression".to_owned()),
    }
}

impl From<Task> for TaskForm {
    fn from(task: Task) -> Self {
        let mut form = Self {
            condition: task.common.condition,
            input: task.common.input,
            output: task.common.output,
            export: task.common.export,
            timeout: task.common.timeout,
            then: task.common.then,
            metadata: task.common.metadata,
            ..Self::default()
        };
        match task.kind {
            Kind::Call(call) => {
                form.call = Some(call.function);
                form.with = call.with;
            }
            Kind::Do(tasks) => form.tasks = Some(tasks),
            Kind::Fork(fork) => form.fork = Some(fork),
            Kind::Emit(emit) => form.emit = Some(emit),
            Kind::For(each) => {
                form.each = Some(each.each);
                form.while_true = each.condition;
                form.tasks = Some(each.tasks);
            }
            Kind::Listen(listen) => {
                form.listen = Some(ListenForm { to: listen.to, read: listen.read });
                form.foreach = listen.foreach;
            }
            Kind::Raise(raise) => form.raise = Some(raise),
            Kind::Run(run) => form.run = Some(run),
            Kind::Set(value) => form.set = Some(value),
            Kind::Switch(cases) => form.switch = Some(cases),
            Kind::Try(attempt) => {
                form.attempt = Some(attempt.tasks);
                form.catch = Some(attempt.catch);
            }
            Kind::Wait(duration) => form.wait = Some(duration),
        }
        form
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenForm {
    to: Strategy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<Read>,
}
