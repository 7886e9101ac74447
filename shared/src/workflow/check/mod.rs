//! What the language's schema cannot see: names that lead nowhere, expressions that do not compile or ask for what is
//! not there, tasks that nothing reaches, arguments that a function does not take. Everything wrong is found at once.

mod document;
mod flow;
mod function;
mod task;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{
    catalog::{Schema as CompiledSchema, SchemaError},
    definition::{
        self, Authentication, Definition, Duration, Export, ExternalResource, Input, Output, Schema, SchemaSource,
    },
    expression::{self, Expressions},
    link::{self, Files, Missing},
};
use crate::problem::yaml::Side;

/// Something wrong, and the path to it in the document.
#[derive(Debug)]
pub(super) struct Mistake {
    pub path: Vec<String>,
    pub side: Side,
    pub message: String,
}

/// Variables at each kind of place (dsl.md, "Runtime expression arguments"), beside those of loops and `catch`.
type Site = &'static [&'static str];
const SCHEDULE: Site = &[];
const WORKFLOW: Site = &["context", "runtime", "secrets", "workflow"];
const BEFORE_TASK: Site = &["authorization", "context", "runtime", "secrets", "task", "workflow"];
const TASK: Site = &["authorization", "context", "input", "runtime", "secrets", "task", "workflow"];
const AFTER_TASK: Site = &["authorization", "context", "input", "output", "runtime", "secrets", "task", "workflow"];

/// The schemas of a document by the JSON pointer of where they stand, compiled.
pub(super) type Schemas = BTreeMap<String, CompiledSchema>;

/// Checks a document and compiles its expressions and schemas. What did not compile is a mistake.
pub(super) fn check(definition: &Definition, files: &Files) -> (Checked, Vec<Mistake>) {
    let mut checker = Checker {
        definition,
        files,
        missing: Vec::new(),
        expressions: Expressions::default(),
        schemas: Schemas::new(),
        mistakes: Vec::new(),
        path: Vec::new(),
        variables: Vec::new(),
    };
    checker.document();
    let Checker { expressions, schemas, missing, mistakes, .. } = checker;
    (Checked { expressions, schemas, missing }, mistakes)
}

/// What a document comes to, if it has no mistake.
pub(super) struct Checked {
    pub expressions: Expressions,
    pub schemas: Schemas,
    pub missing: Vec<Missing>,
}

struct Checker<'d> {
    definition: &'d Definition,
    files: &'d Files,
    missing: Vec<Missing>,
    expressions: Expressions,
    schemas: Schemas,
    mistakes: Vec<Mistake>,
    /// Where we are.
    path: Vec<String>,
    /// The variables of the loops and catches around us.
    variables: Vec<String>,
}

impl Checker<'_> {
    /// Does something one or more steps further down.
    fn at(&mut self, steps: &[&str], then: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        self.path.extend(steps.iter().map(|&step| step.to_owned()));
        then(self);
        self.path.truncate(before);
    }

    /// Does something where these variables are known too.
    fn knowing(&mut self, variables: &[&str], then: impl FnOnce(&mut Self)) {
        let before = self.variables.len();
        self.variables.extend(variables.iter().map(|&name| name.to_owned()));
        then(self);
        self.variables.truncate(before);
    }

    /// Something is wrong with the value here.
    fn wrong(&mut self, message: impl Into<String>) {
        self.mistakes.push(Mistake { path: self.path.clone(), side: Side::Value, message: message.into() });
    }

    /// Something is wrong with this key or name here.
    fn wrong_key(&mut self, message: impl Into<String>) {
        self.mistakes.push(Mistake { path: self.path.clone(), side: Side::Key, message: message.into() });
    }

    /// A text that is jq, in `${ }` or bare.
    fn expression(&mut self, text: &str, site: Site) {
        if expression::body(text).is_none() && text.contains("${") {
            return self.wrong(broken(text));
        }
        let (needed, secrets): (Vec<String>, Vec<String>) = match self.expressions.add(text) {
            Ok(compiled) => {
                (compiled.variables().map(str::to_owned).collect(), compiled.secrets().map(str::to_owned).collect())
            }
            Err(error) if is_unclosed(text) => return self.wrong(format!("{UNCLOSED} ({error})")),
            Err(error) if text.matches("${").count() > 1 => return self.wrong(format!("{MIXED} ({error})")),
            Err(error) => return self.wrong(format!("the expression does not compile: {error}")),
        };
        let declared = self.definition.secrets();
        for secret in secrets.iter().filter(|secret| !declared.contains(secret)) {
            self.wrong(undefined("secret", secret, "use.secrets", declared));
        }
        for name in needed {
            if site.contains(&name.as_str()) || self.variables.contains(&name) {
                continue;
            }
            let mut known: Vec<String> = site.iter().map(|&name| name.to_owned()).collect();
            known.extend(self.variables.iter().cloned());
            known.sort();
            known.dedup();
            let known =
                if known.is_empty() { "no variable".to_owned() } else { format!("one of ${}", known.join(", $")) };
            self.wrong(format!("`${name}` is not known here: expected {known}"));
        }
    }

    /// A text that is an expression if it is in `${ }`, and itself otherwise.
    fn text(&mut self, text: &str, site: Site) {
        if expression::body(text).is_some() {
            self.expression(text, site);
        } else if text.contains("${") {
            self.wrong(broken(text));
        }
    }

    /// JSON with texts in it at any depth.
    fn template(&mut self, value: &Value, site: Site) {
        match value {
            Value::String(text) => self.text(text, site),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(&[&index.to_string()], |checker| checker.template(item, site));
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    self.at(&[key], |checker| checker.template(value, site));
                }
            }
            _ => {}
        }
    }

    /// A part of the definition in which every text may be an expression.
    fn part(&mut self, part: &impl Serialize, site: Site) {
        let value = serde_json::to_value(part).unwrap_or_default();
        self.template(&value, site);
    }

    /// `from` and `as`: an expression, bare or not, or an object with expressions in it.
    fn transform(&mut self, key: &str, form: Option<&Value>, site: Site) {
        match form {
            None => {}
            Some(Value::String(text)) => self.at(&[key], |checker| checker.expression(text, site)),
            Some(object @ Value::Object(_)) => self.at(&[key], |checker| checker.template(object, site)),
            Some(_) => self.at(&[key], |checker| checker.wrong("expected an expression or an object")),
        }
    }

    fn input(&mut self, input: Option<&Input>, site: Site) {
        let Some(input) = input else { return };
        self.at(&["input"], |checker| {
            checker.schema(input.schema.as_ref());
            checker.transform("from", input.from.as_ref(), site);
        });
    }

    fn output(&mut self, output: Option<&Output>, site: Site) {
        let Some(output) = output else { return };
        self.at(&["output"], |checker| {
            checker.schema(output.schema.as_ref());
            checker.transform("as", output.value.as_ref(), site);
        });
    }

    fn export(&mut self, export: Option<&Export>) {
        let Some(export) = export else { return };
        self.at(&["export"], |checker| {
            checker.schema(export.schema.as_ref());
            checker.transform("as", export.value.as_ref(), AFTER_TASK);
        });
    }

    fn schema(&mut self, schema: Option<&Schema>) {
        let Some(schema) = schema else { return };
        if let Some(format) = schema.format.as_deref().filter(|format| !format.starts_with("json")) {
            let message = format!("schemas of format {format:?} are not supported: expected json");
            self.at(&["schema", "format"], |checker| checker.wrong(message));
        }
        match &schema.source {
            SchemaSource::Document(document) => {
                self.at(&["schema"], |checker| checker.compile("document", document));
            }
            SchemaSource::Resource(resource) => {
                self.at(&["schema", "resource"], |checker| checker.resource(resource, WORKFLOW));
                let path = link::schema(resource);
                match self.files.get(&path).map(|text| super::source::read(text)) {
                    Some(Ok(document)) => self.at(&["schema"], |checker| checker.compile("resource", &document)),
                    Some(Err((_, error))) => {
                        self.at(&["schema", "resource"], |checker| checker.wrong(format!("{path}: {error}")));
                    }
                    None => self.at(&["schema"], |checker| checker.lacks(path)),
                }
            }
        }
    }

    /// Keeps the schema that stands here, under `key`, compiled.
    fn compile(&mut self, key: &str, document: &Value) {
        match CompiledSchema::compile(document) {
            Ok(compiled) => drop(self.schemas.insert(self.pointer(), compiled)),
            // What a file holds has no place in this text.
            Err(error) if key == "resource" => self.at(&[key], |checker| checker.wrong(error.to_string())),
            Err(error) => self.at(&[key], |checker| checker.no_schema(&error)),
        }
    }

    /// A schema stands here that is none.
    fn no_schema(&mut self, error: &SchemaError) {
        let steps: Vec<String> = error.pointer.split('/').skip(1).map(super::unescape).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        self.at(&steps, |checker| checker.wrong(format!("this is no JSON schema: {}", error.reason)));
    }

    /// The bundle must have a file for what stands here.
    fn lacks(&mut self, path: String) {
        self.missing.push(Missing { pointer: self.pointer(), path });
    }

    fn pointer(&self) -> String {
        self.path.iter().map(|step| format!("/{}", super::escape(step))).collect()
    }

    fn resource(&mut self, resource: &ExternalResource, site: Site) {
        self.part(resource, site);
        if let definition::Endpoint::Configured(endpoint) = &resource.endpoint
            && let Some(authentication) = &endpoint.authentication
        {
            self.at(&["endpoint", "authentication"], |checker| checker.authentication(authentication));
        }
    }

    /// Where an address or arguments have an `authentication`, at any depth that the language has one: what it names must
    /// exist.
    fn authentications(&mut self, value: &Value) {
        let Value::Object(map) = value else { return };
        for (key, value) in map {
            if key == "authentication" {
                if let Ok(authentication) = serde_json::from_value::<Authentication>(value.clone()) {
                    self.at(&[key], |checker| checker.authentication(&authentication));
                }
            } else if definition::AUTHENTICATED.contains(&key.as_str()) {
                self.at(&[key], |checker| checker.authentications(value));
            }
        }
    }

    /// A named authentication must exist, and a secret that one takes its values from.
    fn authentication(&mut self, authentication: &Authentication) {
        self.secret(authentication, self.definition.secrets());
        let Authentication::Named(name) = authentication else { return };
        let uses = self.definition.uses.as_ref();
        let known: Vec<&String> =
            uses.iter().flat_map(|uses| uses.authentications.iter().flatten()).map(|(n, _)| n).collect();
        if !known.contains(&name) {
            let message = undefined("authentication", name, "use.authentications", &known);
            self.at(&["use"], |checker| checker.wrong(message));
        }
    }

    fn duration(&mut self, duration: &Duration, site: Site) {
        if let Duration::Expression(text) = duration {
            self.text(text, site);
        }
    }
}

const MIXED: &str = "an expression must be the whole text: expected ${ .. } with the text around it inside, as in ${ \"value \\(.x)\" }";

/// Why a text with `${` in it is no expression.
fn broken(text: &str) -> &'static str {
    if is_unclosed(text) { UNCLOSED } else { MIXED }
}

/// Whether the text begins an expression and does not end it.
fn is_unclosed(text: &str) -> bool {
    text.trim().starts_with("${") && text.matches('{').count() > text.matches('}').count()
}

const UNCLOSED: &str = "missing `}`: an expression begins with ${ and ends with }";

/// A name that is not defined, and what is.
fn undefined(what: &str, name: &str, place: &str, known: &[impl AsRef<str>]) -> String {
    if known.is_empty() {
        return format!("{what} `{name}` is not defined: `{place}` has none");
    }
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    format!("{what} `{name}` is not defined: `{place}` has {}", known.join(", "))
}

#[cfg(test)]
mod tests;
