//! What can be told to be wrong with an agent's arguments before they are evaluated: everything, if no expression is in
//! them; the tools that are written out all the same.

use std::collections::BTreeSet;

use serde_json::Value;
use shared::workflow::{catalog, definition, expression};

use super::{super::super::agent::AGENT, Plan, Tool};

/// Each mistake with its place below the arguments, as a JSON pointer. What does not fit the function's schema is the
/// checker's to tell; of agents within agents it is told here.
pub(in super::super::super) fn mistakes(call: &definition::Call) -> Vec<(String, String)> {
    let mut found = Vec::new();
    of_arguments("", &Value::Object(call.with.clone().unwrap_or_default()), &mut found);
    found
}

type Found = Vec<(String, String)>;

fn of_arguments(at: &str, with: &Value, found: &mut Found) {
    let before = found.len();
    let mut names = BTreeSet::new();
    for (index, given) in with["tools"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{at}/tools/{index}");
        if let Some(agent) = given.get("agent") {
            of_agent(&format!("{at}/agent"), agent, found);
        }
        if has_expression(given) || !(given.is_string() || given.is_object()) {
            continue;
        }
        match Tool::parse(given) {
            Err(why) => found.push((at, why)),
            Ok(tool) if names.contains(&tool.name) => {
                found.push((at, format!("two tools are called {:?}: give one a `name`", tool.name)));
            }
            Ok(tool) => drop(names.insert(tool.name)),
        }
    }
    let fits = || catalog::function(AGENT).is_some_and(|agent| agent.mismatches(with).is_empty());
    if found.len() == before && !has_expression(with) && fits() {
        let why = Plan::parse(with).err().and_then(|error| error.detail);
        found.extend(why.map(|why| (at.to_owned(), why)));
    }
}

/// An agent that another one may hand over to.
fn of_agent(at: &str, with: &Value, found: &mut Found) {
    let function = catalog::function(AGENT);
    for mismatch in function.into_iter().flat_map(|function| function.mismatches(with)) {
        let value = with.pointer(&mismatch.pointer).and_then(Value::as_str);
        if value.is_none_or(|text| expression::body(text).is_none()) {
            found.push((format!("{at}{}", mismatch.pointer), mismatch.message));
        }
    }
    of_arguments(at, with, found);
}

fn has_expression(value: &Value) -> bool {
    value.to_string().contains("${")
}
