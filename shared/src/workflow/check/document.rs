//! The parts around the tasks: what the document says of itself, its schedule, what it defines for reuse.

use std::sync::LazyLock;

use regex::Regex;

use super::{Checker, SCHEDULE, TASK, WORKFLOW};
use crate::{
    time::{SPAN, span},
    workflow::{
        definition::{Episodes, Evaluate, EvaluateMode, EventFilter, Schedule, Strategy, Until, Use, episodes},
        schedule::Cron,
    },
};

/// A label of a host name, as the schema has it.
static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$").ok());

/// A semantic version (semver.org).
static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$").ok()
});

fn fits(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

impl Checker<'_> {
    pub(super) fn document(&mut self) {
        let definition = self.definition;
        self.head();
        self.input(definition.input.as_ref(), WORKFLOW);
        self.output(definition.output.as_ref(), WORKFLOW);
        self.timeout(definition.timeout.as_ref(), WORKFLOW);
        if let Some(evaluate) = &definition.evaluate {
            self.evaluate(evaluate);
        }
        if let Some(schedule) = &definition.schedule {
            self.at(&["schedule"], |checker| checker.schedule(schedule));
        }
        if let Some(uses) = &definition.uses {
            self.at(&["use"], |checker| checker.uses(uses));
        }
        self.at(&["do"], |checker| checker.tasks(&definition.tasks));
        self.linked();
    }

    /// The functions of catalogs. Where they are called their pointer is that of a function of the workflow.
    fn linked(&mut self) {
        let definition = self.definition;
        for (path, task) in &definition.linked {
            let before = self.mistakes.len();
            self.at(&["use", "functions", path], |checker| checker.task(task, &[]));
            for mistake in &mut self.mistakes[before..] {
                let inside: String = mistake.path.iter().skip(3).map(|step| format!("/{step}")).collect();
                mistake.message = format!("{path}: {inside}: {}", mistake.message);
                mistake.path = vec!["document".to_owned()];
            }
        }
    }

    fn head(&mut self) {
        let document = &self.definition.document;
        if !document.dsl.starts_with("1.0.") || !fits(&VERSION, &document.dsl) {
            let message =
                format!("version {:?} of the language is not supported: expected 1.0.x, such as 1.0.3", document.dsl);
            self.at(&["document", "dsl"], |checker| checker.wrong(message));
        }
        for (key, name) in [("namespace", &document.namespace), ("name", &document.name)] {
            if !fits(&NAME, name) {
                let message =
                    format!("{name:?} is no {key}: expected 1 to 63 letters, digits and -, with none of - at the ends");
                self.at(&["document", key], |checker| checker.wrong(message));
            }
        }
        if !fits(&VERSION, &document.version) {
            let message = format!("{:?} is no version: expected a semantic version such as 1.0.0", document.version);
            self.at(&["document", "version"], |checker| checker.wrong(message));
        }
        self.at(&episodes::PATH, |checker| match document.episodes() {
            Ok(Some(episodes)) => checker.episodes(&episodes),
            Ok(None) => {}
            Err(message) => checker.wrong(message),
        });
    }

    fn episodes(&mut self, episodes: &Episodes) {
        for (key, text) in [("situation", &episodes.situation), ("subject", &episodes.subject)] {
            if let Some(text) = text {
                self.at(&[key], |checker| checker.text(text, SCHEDULE));
            }
        }
        if let Some(text) = episodes.keep_for.as_ref().filter(|text| span(text).is_none_or(|span| span.is_zero())) {
            let message = format!("found {text:?}, expected {SPAN}");
            self.at(&["keepFor"], |checker| checker.wrong(message));
        }
    }

    fn evaluate(&mut self, evaluate: &Evaluate) {
        if let Some(language) = evaluate.language.as_deref().filter(|language| *language != "jq") {
            let message = format!("expressions in {language:?} are not supported: expected jq");
            self.at(&["evaluate", "language"], |checker| checker.wrong(message));
        }
        if evaluate.mode == Some(EvaluateMode::Loose) {
            let message = "loose mode is not supported, as it cannot tell a text from an expression: expected strict";
            self.at(&["evaluate", "mode"], |checker| checker.wrong(message));
        }
    }

    fn schedule(&mut self, schedule: &Schedule) {
        let Schedule { every, cron, after, on, read } = schedule;
        if every.is_none() && cron.is_none() && after.is_none() && on.is_none() {
            self.wrong("a schedule needs at least one of `every`, `cron`, `after` and `on`");
        }
        if read.is_some() && on.is_none() {
            self.at(&["read"], |checker| checker.wrong_key("`read` goes with `on` only"));
        }
        for (key, duration) in [("every", every), ("after", after)] {
            let Some(duration) = duration else { continue };
            self.at(&[key], |checker| {
                checker.duration(duration, SCHEDULE);
                if duration.span().is_some_and(|span| span.is_zero()) {
                    checker.wrong("expected a duration longer than zero");
                }
            });
        }
        if let Some(cron) = cron
            && let Err(error) = Cron::parse(cron)
        {
            self.at(&["cron"], |checker| checker.wrong(error.to_string()));
        }
        if let Some(on) = on {
            self.at(&["on"], |checker| checker.strategy(on, SCHEDULE));
        }
    }

    pub(super) fn strategy(&mut self, strategy: &Strategy, site: super::Site) {
        match strategy {
            Strategy::One(filter) => self.at(&["one"], |checker| checker.filter(filter, site)),
            Strategy::All(filters) => self.filters("all", filters, site),
            Strategy::Any { filters, until } => {
                self.filters("any", filters, site);
                match until {
                    None => {}
                    Some(Until::Condition(text)) => self.at(&["until"], |checker| checker.expression(text, site)),
                    Some(Until::Consumed(strategy)) => self.at(&["until"], |checker| checker.strategy(strategy, site)),
                }
            }
        }
    }

    fn filters(&mut self, key: &str, filters: &[EventFilter], site: super::Site) {
        for (index, filter) in filters.iter().enumerate() {
            self.at(&[key, &index.to_string()], |checker| checker.filter(filter, site));
        }
    }

    fn filter(&mut self, filter: &EventFilter, site: super::Site) {
        if filter.with.is_empty() {
            self.at(&["with"], |checker| checker.wrong("expected at least one attribute of the event, such as `type`"));
        }
        for (key, value) in &filter.with {
            self.at(&["with", key], |checker| {
                checker.template(value, site);
                if let Some(Err(error)) = value.as_str().filter(|text| text.starts_with('^')).map(Regex::new) {
                    checker.wrong(format!("this begins with ^ and is no regular expression: {error}"));
                }
            });
        }
        for (name, correlation) in filter.correlate.iter().flatten() {
            self.at(&["correlate", name], |checker| {
                checker.at(&["from"], |checker| checker.expression(&correlation.from, site));
                if let Some(expect) = &correlation.expect {
                    checker.at(&["expect"], |checker| checker.text(expect, site));
                }
            });
        }
    }

    fn uses(&mut self, uses: &Use) {
        for (name, error) in uses.errors.iter().flatten() {
            self.at(&["errors", name], |checker| checker.part(error, TASK));
        }
        for (name, retry) in uses.retries.iter().flatten() {
            self.at(&["retries", name], |checker| {
                checker.knowing(&["error"], |checker| checker.retry(retry));
            });
        }
        for (name, timeout) in uses.timeouts.iter().flatten() {
            self.at(&["timeouts", name, "after"], |checker| checker.duration(&timeout.after, TASK));
        }
        for (name, function) in uses.functions.iter().flatten() {
            self.at(&["functions", name], |checker| checker.task(function, &[]));
        }
        for (index, item) in uses.extensions.iter().flatten().enumerate() {
            let extension = &item.value;
            self.at(&["extensions", &index.to_string(), &item.name], |checker| {
                if let Some(when) = &extension.when {
                    checker.at(&["when"], |checker| checker.expression(when, TASK));
                }
                for (key, tasks) in [("before", &extension.before), ("after", &extension.after)] {
                    checker.at(&[key], |checker| checker.tasks(tasks.as_deref().unwrap_or_default()));
                }
            });
        }
        for (name, authentication) in uses.authentications.iter().flatten() {
            self.at(&["authentications", name], |checker| {
                checker.part(authentication, TASK);
                checker.secret(authentication, checker.definition.secrets());
            });
        }
    }
}
