//! Tasks: the expressions of each kind, and the names that it refers to.

use serde_json::Value;

use super::{AFTER_TASK, BEFORE_TASK, Checker, Site, TASK, undefined};
use crate::workflow::{
    definition::{
        Authentication, Catch, Collection, Common, For, Foreach, Item, Kind, Reference, RetryPolicy, Run, Task,
        Timeout, Try,
    },
    expression,
};

/// What variables are called that have no name in the document.
const ITEM: &str = "item";
const INDEX: &str = "index";
const ERROR: &str = "error";

impl Checker<'_> {
    /// A list of tasks.
    pub(super) fn tasks(&mut self, tasks: &[Item<Task>]) {
        self.flow(tasks);
        for (index, item) in tasks.iter().enumerate() {
            self.at(&[&index.to_string(), &item.name], |checker| checker.task(&item.value, tasks));
        }
    }

    /// One task of this list.
    pub(super) fn task(&mut self, task: &Task, list: &[Item<Task>]) {
        self.common(&task.common, list);
        match &task.kind {
            Kind::Call(call) => self.call(call),
            Kind::Do(tasks) => self.at(&["do"], |checker| checker.tasks(tasks)),
            Kind::Fork(fork) => self.at(&["fork", "branches"], |checker| checker.branches(&fork.branches)),
            Kind::Emit(emit) => self.at(&["emit", "event", "with"], |checker| {
                if !emit.event.with.contains_key("type") {
                    checker.wrong("an event needs a `type`");
                }
                checker.part(&emit.event.with, TASK);
            }),
            Kind::For(each) => self.each(each),
            Kind::Listen(listen) => {
                self.at(&["listen", "to"], |checker| checker.strategy(&listen.to, TASK));
                if let Some(foreach) = &listen.foreach {
                    self.at(&["foreach"], |checker| checker.foreach(foreach));
                }
            }
            Kind::Raise(raise) => self.at(&["raise", "error"], |checker| match &raise.error {
                Reference::Inline(error) => checker.part(error, TASK),
                Reference::Named(name) => checker.named("error", name, "use.errors"),
            }),
            Kind::Run(run) => self.at(&["run"], |checker| checker.run(run)),
            Kind::Set(value) => self.at(&["set"], |checker| match value {
                Value::String(text) => checker.expression(text, TASK),
                object => checker.template(object, TASK),
            }),
            Kind::Switch(cases) => {
                for (index, case) in cases.iter().enumerate() {
                    self.at(&["switch", &index.to_string(), &case.name], |checker| {
                        if let Some(when) = &case.value.when {
                            checker.at(&["when"], |checker| checker.expression(when, TASK));
                        }
                        checker.target(&case.value.then, list);
                    });
                }
            }
            Kind::Try(attempt) => self.attempt(attempt, list),
            Kind::Wait(duration) => self.at(&["wait"], |checker| checker.duration(duration, TASK)),
        }
    }

    fn common(&mut self, common: &Common, list: &[Item<Task>]) {
        if let Some(condition) = &common.condition {
            self.at(&["if"], |checker| checker.expression(condition, BEFORE_TASK));
        }
        self.input(common.input.as_ref(), BEFORE_TASK);
        self.output(common.output.as_ref(), TASK);
        self.export(common.export.as_ref());
        self.timeout(common.timeout.as_ref(), TASK);
        if let Some(then) = &common.then {
            self.target(then, list);
        }
    }

    pub(super) fn timeout(&mut self, timeout: Option<&Reference<Timeout>>, site: Site) {
        match timeout {
            None => {}
            Some(Reference::Inline(timeout)) => {
                self.at(&["timeout", "after"], |checker| checker.duration(&timeout.after, site));
            }
            Some(Reference::Named(name)) => {
                self.at(&["timeout"], |checker| checker.named("timeout", name, "use.timeouts"));
            }
        }
    }

    /// A name under `use` must exist.
    fn named(&mut self, what: &str, name: &str, place: &str) {
        let Some(uses) = &self.definition.uses else {
            return self.wrong(undefined(what, name, place, &[""; 0]));
        };
        let known: Vec<&String> = match what {
            "error" => uses.errors.iter().flatten().map(|(name, _)| name).collect(),
            "retry" => uses.retries.iter().flatten().map(|(name, _)| name).collect(),
            _ => uses.timeouts.iter().flatten().map(|(name, _)| name).collect(),
        };
        if !known.iter().any(|known| *known == name) {
            self.wrong(undefined(what, name, place, &known));
        }
    }

    /// Branches stand side by side: none leads to another.
    fn branches(&mut self, branches: &[Item<Task>]) {
        self.unique(branches);
        for (index, item) in branches.iter().enumerate() {
            self.at(&[&index.to_string(), &item.name], |checker| checker.task(&item.value, &[]));
        }
    }

    fn each(&mut self, each: &For) {
        self.at(&["for", "in"], |checker| match &each.each.collection {
            Collection::Expression(text) => checker.expression(text, TASK),
            Collection::Inline(items) => checker.part(items, TASK),
        });
        let item = each.each.item.as_deref().unwrap_or(ITEM);
        let index = each.each.index.as_deref().unwrap_or(INDEX);
        self.knowing(&[item, index], |checker| {
            if let Some(condition) = &each.condition {
                checker.at(&["while"], |checker| checker.expression(condition, TASK));
            }
            checker.at(&["do"], |checker| checker.tasks(&each.tasks));
        });
    }

    pub(super) fn foreach(&mut self, foreach: &Foreach) {
        let item = foreach.item.as_deref().unwrap_or(ITEM);
        let index = foreach.index.as_deref().unwrap_or(INDEX);
        self.knowing(&[item, index], |checker| {
            checker.at(&["do"], |checker| checker.tasks(foreach.tasks.as_deref().unwrap_or_default()));
            checker.output(foreach.output.as_ref(), TASK);
            checker.export(foreach.export.as_ref());
        });
    }

    fn attempt(&mut self, attempt: &Try, list: &[Item<Task>]) {
        self.at(&["try"], |checker| checker.tasks(&attempt.tasks));
        self.at(&["catch"], |checker| {
            let error = attempt.catch.variable.as_deref().unwrap_or(ERROR);
            checker.knowing(&[error], |checker| checker.catch(&attempt.catch, list));
        });
    }

    fn catch(&mut self, catch: &Catch, list: &[Item<Task>]) {
        for (key, text) in [("when", &catch.when), ("exceptWhen", &catch.except_when)] {
            if let Some(text) = text {
                self.at(&[key], |checker| checker.expression(text, TASK));
            }
        }
        self.at(&["retry"], |checker| match &catch.retry {
            None => {}
            Some(Reference::Inline(retry)) => checker.retry(retry),
            Some(Reference::Named(name)) => checker.named("retry", name, "use.retries"),
        });
        self.at(&["do"], |checker| checker.tasks(catch.tasks.as_deref().unwrap_or_default()));
        if let Some(then) = &catch.then {
            self.target(then, list);
        }
    }

    pub(super) fn retry(&mut self, retry: &RetryPolicy) {
        for (key, text) in [("when", &retry.when), ("exceptWhen", &retry.except_when)] {
            if let Some(text) = text {
                self.at(&[key], |checker| checker.expression(text, TASK));
            }
        }
        if let Some(delay) = &retry.delay {
            self.at(&["delay"], |checker| checker.duration(delay, TASK));
        }
        for (key, part) in
            [("limit", serde_json::to_value(&retry.limit)), ("jitter", serde_json::to_value(&retry.jitter))]
        {
            self.at(&[key], |checker| checker.template(&part.unwrap_or_default(), TASK));
        }
    }

    fn run(&mut self, run: &Run) {
        let (key, process) = run.process.parts();
        self.at(&[key], |checker| {
            let Value::Object(parts) = process else { return };
            checker.authentications(&Value::Object(parts.clone()));
            for (part, value) in &parts {
                match value {
                    // `${ }` inside a program's text is the program's own business.
                    Value::String(text) if matches!(part.as_str(), "command" | "code") => {
                        if expression::body(text).is_some_and(|body| !body.contains("${")) {
                            checker.at(&[part], |checker| checker.expression(text, TASK));
                        }
                    }
                    value => checker.at(&[part], |checker| checker.template(value, TASK)),
                }
            }
        });
    }

    /// A secret that an authentication takes its values from must be declared.
    pub(super) fn secret(&mut self, authentication: &Authentication, declared: &[String]) {
        let (method, secret) = match authentication {
            Authentication::Named(_) => return,
            Authentication::Basic(credentials) => ("basic", &credentials.secret),
            Authentication::Digest(credentials) => ("digest", &credentials.secret),
            Authentication::Bearer(bearer) => ("bearer", &bearer.secret),
            Authentication::OAuth2(grant) => ("oauth2", &grant.secret),
            Authentication::Oidc(grant) => ("oidc", &grant.secret),
        };
        if let Some(secret) = secret
            && !declared.contains(secret)
        {
            let message = undefined("secret", secret, "use.secrets", declared);
            self.at(&[method, "use"], |checker| checker.wrong(message));
        }
    }
}

// `output.as` sees what `export.as` sees but the output itself, which is its `.`.
const _: () = assert!(AFTER_TASK.len() == TASK.len() + 1);
