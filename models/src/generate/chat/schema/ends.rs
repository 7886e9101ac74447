//! What refers to itself must come to an end: a list of lists may be empty, a node that needs a node has no last one. Ways that never end
//! are closed, so that no answer goes them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::Error;

/// Closes the ways without an end.
///
/// # Errors
/// When there is no other.
pub(super) fn prune(root: &mut Value, definitions: &mut Map<String, Value>) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    // Each round finds the definitions that end when those of the rounds before do.
    loop {
        let more: Vec<String> = definitions
            .iter()
            .filter(|(name, schema)| !known.contains(*name) && ends(schema, &known))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        known.extend(more);
    }
    if !ends(root, &known) {
        return Err(Error::request(
            "schema: no value fits it: what it requires is false, or refers to itself without an end",
        ));
    }
    close(root, &known);
    definitions.retain(|name, _| known.contains(name));
    definitions.values_mut().for_each(|schema| close(schema, &known));
    Ok(())
}

/// Whether a value that fits can be finite, by what is known of the definitions.
fn ends(schema: &Value, known: &BTreeSet<String>) -> bool {
    let Value::Object(map) = schema else { return schema != &Value::Bool(false) };
    let all = |key: &str| parts(map, key).all(|part| ends(part, known));
    let any = |key: &str| !map.contains_key(key) || parts(map, key).any(|part| ends(part, known));
    let reference = map.get("$ref").and_then(Value::as_str);
    let is_known = reference.is_none_or(|reference| known.contains(reference.trim_start_matches("#/$defs/")));
    // What is not an object or list does not need their parts.
    let is_one = |name: &str| map.get("type").is_some_and(|kind| kind == &json!([name]));
    let needs =
        |name: &str| map.get("required").and_then(Value::as_array).is_some_and(|all| all.contains(&json!(name)));
    let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
    let has_object = !is_one("object") || properties.filter(|(name, _)| needs(name)).all(|(_, part)| ends(part, known));
    let min = map.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
    let before = parts(map, "prefixItems").count();
    let has_before = parts(map, "prefixItems").take(min).all(|part| ends(part, known));
    let has_items = min <= before || map.get("items").is_none_or(|items| ends(items, known));
    let has_array = !is_one("array") || (has_before && has_items);
    is_known && all("allOf") && any("anyOf") && any("oneOf") && has_object && has_array
}

fn parts<'a>(map: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> {
    map.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn close(schema: &mut Value, known: &BTreeSet<String>) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("anyOf" | "oneOf", Value::Array(options)) => options.retain(|option| ends(option, known)),
            ("properties" | "patternProperties", Value::Object(properties)) => {
                properties.values_mut().filter(|part| !ends(part, known)).for_each(|part| *part = Value::Bool(false));
            }
            ("prefixItems", Value::Array(items)) => {
                items.iter_mut().filter(|part| !ends(part, known)).for_each(|part| *part = Value::Bool(false));
            }
            ("items" | "additionalProperties", part) if !ends(part, known) => *part = Value::Bool(false),
            _ => {}
        }
    }
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(parts)) => {
                parts.iter_mut().for_each(|part| close(part, known));
            }
            ("properties" | "patternProperties", Value::Object(parts)) => {
                parts.values_mut().for_each(|part| close(part, known));
            }
            ("items" | "additionalProperties", part) => close(part, known),
            _ => {}
        }
    }
}
