//! The arguments of a call or process, said in full: expressions evaluated, URI templates filled in from the task's input,
//! named authentications looked up, and secrets as references that only performing replaces.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use shared::workflow::{
    definition::{self, Kind, Task},
    expression, secret,
};

use super::super::{
    effect::{Error, kind},
    eval::Scope,
    record::FrameId,
    turn::Turn,
};

/// The keys whose text is an address.
const ADDRESSES: &[&str] = &["endpoint", "uri", "server"];

/// What `written` is for this task with this input.
pub(super) fn of(turn: &Turn, frame: FrameId, written: &Value, input: &Value) -> Result<Value, Error> {
    let scope = Scope::within_task(&turn.state, frame);
    let held = written.get("subscription").cloned();
    let mut rest = written.clone();
    if let (Some(_), Value::Object(map)) = (&held, &mut rest) {
        map.shift_remove("subscription");
    }
    let mut arguments = scope.template(&rest, input)?;
    complete(&scope, &rest, &mut arguments, input)?;
    if let (Some(held), Value::Object(map)) = (held, &mut arguments) {
        map.insert("subscription".to_owned(), subscription(&scope, held, input)?);
    }
    Ok(arguments)
}

/// The expressions of a subscription are about messages that are yet to come, so they go along as they are, with the
/// values of the variables that they need (`variables`) but the message's own. Its other parts are evaluated.
fn subscription(scope: &Scope<'_>, written: Value, input: &Value) -> Result<Value, Error> {
    let Value::Object(mut map) = written else { return Ok(written) };
    let mut variables = Map::new();
    // With tasks for each message it is decided after each whether there are enough, and not by whoever has them.
    let foreach = map.shift_remove("foreach");
    let mut texts: Vec<&str> = map.get("filter").and_then(Value::as_str).into_iter().collect();
    if let (Some(Value::Object(consume)), None) = (map.get("consume"), &foreach) {
        texts.extend(["until", "while"].iter().filter_map(|key| consume.get(*key)?.as_str()));
    }
    for text in texts {
        for name in scope.needed(text)? {
            if let Some(value) = scope.variable(&name) {
                variables.insert(name, value);
            }
        }
    }
    if let Some(Value::Object(consume)) = map.get_mut("consume") {
        for key in ["for", "amount"] {
            if let Some(value) = consume.get_mut(key) {
                *value = scope.template(value, input)?;
            }
        }
    }
    if !variables.is_empty() {
        map.insert("variables".to_owned(), Value::Object(variables));
    }
    if let Some(foreach) = foreach {
        map.insert("foreach".to_owned(), foreach);
    }
    Ok(Value::Object(map))
}

fn complete(scope: &Scope<'_>, written: &Value, evaluated: &mut Value, input: &Value) -> Result<(), Error> {
    let (Value::Object(written), Value::Object(evaluated)) = (written, evaluated) else { return Ok(()) };
    for (key, written) in written {
        let Some(value) = evaluated.get_mut(key) else { continue };
        match written {
            Value::String(template) if ADDRESSES.contains(&key.as_str()) => *value = expand(template, value, input)?,
            Value::Object(_) if key == "authentication" => *value = authentication(scope, value.take(), input)?,
            Value::Object(_) if definition::AUTHENTICATED.contains(&key.as_str()) => {
                complete(scope, written, value, input)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// An authentication with its name and the names of its secrets looked up.
fn authentication(scope: &Scope<'_>, given: Value, input: &Value) -> Result<Value, Error> {
    let mut found = match given.get("use") {
        Some(Value::String(name)) => {
            let uses = scope.definition().uses.as_ref();
            let found = uses.and_then(|uses| uses.authentications.as_ref()).and_then(|all| all.get(name));
            let unknown = || Error::new(kind::CONFIGURATION, format!("`use.authentications` has no {name:?}"));
            let found = serde_json::to_value(found.ok_or_else(unknown)?).expect("an authentication is plain data");
            scope.template(&found, input)?
        }
        _ => given,
    };
    if let Value::Object(methods) = &mut found {
        for (method, policy) in methods {
            let Some(Value::String(name)) = policy.get("use") else { continue };
            let of = |key: &str| Value::String(secret::reference(name, Some(key)));
            *policy = match method.as_str() {
                "basic" | "digest" => serde_json::json!({"username": of("username"), "password": of("password")}),
                "bearer" => serde_json::json!({ "token": of("token") }),
                // The secret is the whole policy.
                _ => Value::String(secret::reference(name, None)),
            };
        }
    }
    Ok(found)
}

/// What `$authorization` is in a task: the scheme of its call's authentication, and what goes with it if that is known.
pub(in super::super) fn authorization(scope: &Scope<'_>, task: &Task, input: &Value) -> Option<Value> {
    let Kind::Call(call) = &task.kind else { return None };
    let with = call.with.as_ref()?;
    let within = |key: &str| with.get(key)?.get("authentication");
    let of_document = || with.get("document")?.get("endpoint")?.get("authentication");
    let given = with.get("authentication").or_else(|| within("endpoint")).or_else(|| within("service"));
    let given = scope.template(given.or_else(of_document)?, input).ok()?;
    let methods = authentication(scope, given, input).ok()?;
    let (method, policy) = methods.as_object()?.iter().next()?;
    let text = |key: &str| policy.get(key).and_then(Value::as_str);
    Some(match method.as_str() {
        "bearer" => json!({ "scheme": "Bearer", "parameter": text("token") }),
        "basic" => match (text("username"), text("password")) {
            (Some(user), Some(password)) if !secret::is_marked(user) && !secret::is_marked(password) => {
                json!({ "scheme": "Basic", "parameter": BASE64.encode(format!("{user}:{password}")) })
            }
            _ => json!({ "scheme": "Basic" }),
        },
        "digest" => json!({ "scheme": "Digest" }),
        _ => json!({ "scheme": "Bearer" }),
    })
}

/// Fills in a literal URI template (RFC 6570, level 1); what an expression gave stays as it is.
fn expand(template: &str, evaluated: &Value, input: &Value) -> Result<Value, Error> {
    if expression::body(template).is_some() {
        return Ok(evaluated.clone());
    }
    let mut uri = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let unclosed =
            || Error::new(kind::CONFIGURATION, format!("the URI template {template:?} has an unclosed brace"));
        let (name, after) = after.split_once('}').ok_or_else(unclosed)?;
        let value = match input.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            // Level 1 of RFC 6570: what is not there expands to nothing.
            None | Some(Value::Null) => String::new(),
            Some(_) => {
                let detail = format!(
                    "the URI template {template:?} wants {name:?} from the task's input: expected a string, number or boolean there"
                );
                return Err(Error::new(kind::EXPRESSION, detail));
            }
        };
        uri.push_str(before);
        // A reference is replaced when the call is performed; what it stands for must be fit for a URI.
        if secret::is_marked(&value) {
            uri.push_str(&value)
        } else {
            percent_encode(&value, &mut uri)
        }
        rest = after;
    }
    uri.push_str(rest);
    Ok(Value::String(uri))
}

fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}
