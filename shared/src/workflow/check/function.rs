//! Calls: the function must exist, and take the arguments that it is given.

use serde_json::{Map, Value};

use super::{Checker, TASK};
use crate::workflow::{
    catalog::{self, Function},
    definition::Call,
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
        if self.definition.function(&call.function).is_some() {
            return;
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
            self.at(&["with", "schema"], |checker| checker.wrong(error.to_string()));
        }
        for mismatch in function.mismatches(&arguments) {
            let at = arguments.pointer(&mismatch.pointer);
            if at.is_some_and(stands_open) {
                continue;
            }
            let steps: Vec<String> = mismatch.pointer.split('/').skip(1).map(unescape).collect();
            let steps: Vec<&str> = ["with"].into_iter().chain(steps.iter().map(String::as_str)).collect();
            let message = format!("`{}`: {}", function.name, mismatch.message);
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

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}
