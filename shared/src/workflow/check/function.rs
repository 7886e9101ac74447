//! Calls: the function must exist, and take the arguments that it is given.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Checker, TASK};
use crate::workflow::{
    self,
    catalog::{self, Function, Mismatch},
    definition::{Call, Kind, SchemaSource, Task},
    expression, link,
};

impl Checker<'_> {
    pub(super) fn call(&mut self, call: &Call) {
        if let Some(with) = &call.with {
            let mut rest = with.clone();
            // Tasks are checked as such.
            if let (Some(foreach), Some(Value::Object(subscription))) = (call.foreach(), rest.get_mut("subscription")) {
                subscription.shift_remove("foreach");
                self.at(&["with", "subscription", "foreach"], |checker| checker.foreach(foreach));
            }
            self.at(&["with"], |checker| checker.part(&rest, TASK));
            self.at(&["with"], |checker| checker.authentications(&Value::Object(rest)));
        }
        if let Some(function) = self.definition.function(&call.function) {
            return self.own_function(call, function);
        }
        match self.built_in(call) {
            Ok(Some(function)) => self.arguments(function, call.with.as_ref()),
            Ok(None) => {
                if let Some(path) = link::function(call) {
                    self.at(&["call"], |checker| checker.lacks(path));
                }
            }
            Err(message) => self.at(&["call"], |checker| checker.wrong(message)),
        }
    }

    /// A function that the workflow or its bundle defines: it must come to an end, and take what it is given.
    fn own_function(&mut self, call: &Call, function: &Task) {
        if self.is_endless(&call.function) {
            let message = format!("`{}` calls itself without end: expected a task that it performs", call.function);
            return self.at(&["call"], |checker| checker.wrong(message));
        }
        let schema = function.common.input.as_ref().and_then(|input| input.schema.as_ref());
        // One that does not compile is told where it stands.
        let Some(SchemaSource::Document(schema)) = schema.map(|schema| &schema.source) else { return };
        if let Ok(schema) = catalog::Schema::compile(schema) {
            let arguments = Value::Object(call.with.clone().unwrap_or_default());
            self.mismatches(&call.function, &arguments, schema.mismatches(&arguments));
        }
    }

    /// Whether this function does nothing but call others that come back to one of them.
    fn is_endless(&self, function: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = Some(function);
        while let Some(name) = next {
            if !seen.insert(name) {
                return true;
            }
            next = self.definition.function(name).and_then(|task| match &task.kind {
                Kind::Call(call) if task.common.condition.is_none() => Some(call.function.as_str()),
                _ => None,
            });
        }
        false
    }

    /// The built-in function that is meant; `None` for one that is described elsewhere, by a catalog or a URI.
    fn built_in(&self, call: &Call) -> Result<Option<&'static Function>, String> {
        if let Some(name) = call.catalog().filter(|name| *name != catalog::NAME) {
            let uses = self.definition.uses.as_ref();
            let known = uses.is_some_and(|uses| uses.catalogs.iter().flatten().any(|(known, _)| known == name));
            let message = format!(
                "catalog `{name}` is not defined: expected `{}`, or a name under `use.catalogs`",
                catalog::NAME
            );
            return if known { Ok(None) } else { Err(message) };
        }
        if call.function.contains("://") {
            return Ok(None);
        }
        let Some(function) = catalog::function(call.name()) else {
            let performed = catalog::functions().iter().filter(|function| function.is_performed);
            let known: Vec<&str> = performed.map(|function| function.name).collect();
            let uses = self.definition.uses.as_ref();
            let own: Vec<&str> =
                uses.iter().flat_map(|uses| uses.functions.iter().flatten()).map(|(name, _)| name.as_str()).collect();
            let own =
                if own.is_empty() { String::new() } else { format!(", or of `use.functions`: {}", own.join(", ")) };
            return Err(format!("there is no function `{}`: expected one of {}{own}", call.name(), known.join(", ")));
        };
        match call.version() {
            Some(version) if version != catalog::VERSION => {
                Err(format!("there is no version {version} of `{}`: expected {}", function.name, catalog::VERSION))
            }
            _ => Ok(Some(function)),
        }
    }

    /// Arguments that are expressions are taken to be right: their value is checked when they have one.
    fn arguments(&mut self, function: &Function, with: Option<&Map<String, Value>>) {
        let arguments = Value::Object(with.cloned().unwrap_or_default());
        if let Some(schema) = arguments.get("schema").filter(|schema| !schema.to_string().contains("${"))
            && let Err(error) = catalog::Schema::compile(schema)
        {
            self.at(&["with", "schema"], |checker| checker.no_schema(&error));
        }
        self.mismatches(function.name, &arguments, function.mismatches(&arguments));
    }

    fn mismatches(&mut self, function: &str, arguments: &Value, found: Vec<Mismatch>) {
        for mismatch in found {
            let at = arguments.pointer(&mismatch.pointer);
            if at.is_some_and(stands_open) {
                continue;
            }
            let steps: Vec<String> = mismatch.pointer.split('/').skip(1).map(workflow::unescape).collect();
            let steps: Vec<&str> = ["with"].into_iter().chain(steps.iter().map(String::as_str)).collect();
            let message = format!("`{function}`: {}", mismatch.message);
            self.at(
                &steps,
                |checker| if mismatch.is_key { checker.wrong_key(message) } else { checker.wrong(message) },
            );
        }
    }
}

/// Whether the value is an expression.
fn stands_open(value: &Value) -> bool {
    matches!(value, Value::String(text) if expression::body(text).is_some())
}
