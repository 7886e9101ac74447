//! References to secrets. A workflow never holds a secret's value: `$secrets.name` gives a reference, a piece of text
//! that goes where the value will be, through records and ledger as well. The value takes its place only in what an
//! effect is performed with. Two characters mark a reference; they may not stand in a document, and are replaced in
//! whatever enters a run from outside, so that no message can ask for a secret.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::{Map, Value};

/// Opens and closes a reference: the last assignable characters of Unicode's private use planes, which no text needs.
const OPEN: char = '\u{10FFF8}';
const CLOSE: char = '\u{10FFF9}';

/// Between the secret's name and the key inside it; neither may have it.
const DOT: char = '.';

/// What takes the place of a mark in text from outside.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// The UTF-8 of both marks begins so, and that of hardly anything else.
const FIRST_BYTE: u8 = 0xF4;

/// A secret that a call needs and the node does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("the node has no secret `{name}`")]
    Secret { name: String },
    #[error("the secret `{name}` has no key `{key}`")]
    Key { name: String, key: String },
    #[error("the secret `{name}` is an object: expected `$secrets.{name}.KEY`, as only a text can stand inside a text")]
    NotText { name: String },
}

/// The text that stands for a secret, or for one key of it.
#[must_use]
pub fn reference(name: &str, key: Option<&str>) -> String {
    key.map_or_else(|| format!("{OPEN}{name}{CLOSE}"), |key| format!("{OPEN}{name}{DOT}{key}{CLOSE}"))
}

/// Whether the text may hold a reference, or a broken one.
#[must_use]
pub fn is_marked(text: &str) -> bool {
    text.as_bytes().contains(&FIRST_BYTE) && text.contains([OPEN, CLOSE])
}

/// Whether any text of the value may hold a reference, keys included.
#[must_use]
pub fn any_marked(value: &Value) -> bool {
    match value {
        Value::String(text) => is_marked(text),
        Value::Array(items) => items.iter().any(any_marked),
        Value::Object(map) => map.iter().any(|(key, value)| is_marked(key) || any_marked(value)),
        _ => false,
    }
}

/// The references in a text, each with its marks.
pub(super) fn references(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(OPEN).filter_map(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find(CLOSE)? + CLOSE.len_utf8();
        let whole = &rest[..end];
        (whole.matches(OPEN).count() == 1).then_some(whole)
    })
}

/// The names of the secrets that the value refers to.
#[must_use]
pub fn names(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    let mut of_text = |text: &str| found.extend(references(text).map(|whole| parts(whole).0.to_owned()));
    match value {
        Value::String(text) => of_text(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(map) => {
            map.keys().for_each(|key| of_text(key));
            map.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

/// Name and key of a reference with its marks.
fn parts(whole: &str) -> (&str, Option<&str>) {
    let inner = whole.trim_start_matches(OPEN).trim_end_matches(CLOSE);
    inner.split_once(DOT).map_or((inner, None), |(name, key)| (name, Some(key)))
}

/// The value without marks that came from outside: each gives way to U+FFFD.
#[must_use]
pub fn neutralised(value: Value) -> Value {
    if any_marked(&value) { keep(value, &|_| false) } else { value }
}

/// The value without references that are not among these, and without lone marks.
pub(super) fn keep_only(value: Value, known: &BTreeSet<String>) -> Value {
    keep(value, &|whole| known.contains(whole))
}

fn keep(value: Value, is_kept: &dyn Fn(&str) -> bool) -> Value {
    match value {
        Value::String(text) => Value::String(keep_text(&text, is_kept).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| keep(item, is_kept)).collect()),
        Value::Object(map) => {
            let entry = |(key, value): (String, Value)| (keep_text(&key, is_kept).into_owned(), keep(value, is_kept));
            Value::Object(map.into_iter().map(entry).collect())
        }
        other => other,
    }
}

fn keep_text<'t>(text: &'t str, is_kept: &dyn Fn(&str) -> bool) -> Cow<'t, str> {
    if !is_marked(text) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find([OPEN, CLOSE]) {
        kept.push_str(&rest[..start]);
        rest = &rest[start..];
        let whole = references(rest).next().filter(|whole| rest.starts_with(*whole) && is_kept(whole));
        if let Some(whole) = whole {
            kept.push_str(whole);
            rest = &rest[whole.len()..];
        } else {
            kept.push(REPLACEMENT);
            rest = &rest[OPEN.len_utf8()..];
        }
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// The value with secrets in place of references. A text that is nothing but a reference becomes the secret as it is,
/// an object too; inside a longer text a secret must be a text, a number or a boolean. A key `token` of a secret that
/// is a text is that text. `lookup` gives a secret by name.
///
/// # Errors
/// The first reference that cannot be replaced, by name.
pub fn resolve(value: &Value, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Value, Missing> {
    Ok(match value {
        Value::String(text) if is_marked(text) => {
            if references(text).next() == Some(text) {
                let (name, key) = parts(text);
                return secret(name, key, lookup);
            }
            Value::String(resolve_text(text, lookup)?)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| resolve(item, lookup)).collect::<Result<_, _>>()?),
        Value::Object(map) => {
            let mut resolved = Map::with_capacity(map.len());
            for (key, value) in map {
                resolved.insert(resolve_text(key, lookup)?, resolve(value, lookup)?);
            }
            Value::Object(resolved)
        }
        other => other.clone(),
    })
}

fn resolve_text(text: &str, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<String, Missing> {
    let mut resolved = String::new();
    let mut rest = text;
    for whole in references(text) {
        let Some((before, after)) = rest.split_once(whole) else { continue };
        let (name, key) = parts(whole);
        resolved.push_str(before);
        match secret(name, key, lookup)? {
            Value::String(value) => resolved.push_str(&value),
            value @ (Value::Number(_) | Value::Bool(_)) => resolved.push_str(&value.to_string()),
            _ => return Err(Missing::NotText { name: name.to_owned() }),
        }
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

fn secret(name: &str, key: Option<&str>, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Value, Missing> {
    let found = lookup(name).ok_or_else(|| Missing::Secret { name: name.to_owned() })?;
    match (key, found) {
        (None, found) => Ok(found),
        (Some("token"), found @ Value::String(_)) => Ok(found),
        (Some(key), found) => {
            let missing = || Missing::Key { name: name.to_owned(), key: key.to_owned() };
            found.get(key).cloned().ok_or_else(missing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn store(name: &str) -> Option<Value> {
        match name {
            "desk" => Some(json!({"username": "ada", "password": "p"})),
            "api" => Some(json!("t0ken")),
            _ => None,
        }
    }

    #[test]
    fn a_reference_is_replaced_whole_or_inside_a_text() {
        let call = json!({
            "login": reference("desk", None),
            "headers": {"authorization": format!("Bearer {} {}", reference("api", None), reference("desk", Some("username")))},
            "token": [reference("api", Some("token"))],
        });
        let expected = json!({
            "login": {"username": "ada", "password": "p"},
            "headers": {"authorization": "Bearer t0ken ada"},
            "token": ["t0ken"],
        });
        assert_eq!(resolve(&call, &store), Ok(expected));
        assert_eq!(names(&call), BTreeSet::from(["api".to_owned(), "desk".to_owned()]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |text: String| resolve(&json!([text]), &store).unwrap_err().to_string();
        assert_eq!(error(reference("nobody", None)), "the node has no secret `nobody`");
        assert_eq!(error(reference("desk", Some("pin"))), "the secret `desk` has no key `pin`");
        assert!(error(format!("x{}", reference("desk", None))).contains("$secrets.desk.KEY"));
    }

    #[test]
    fn text_from_outside_cannot_refer_to_a_secret() {
        let forged = json!({"a": [format!("x{}", reference("api", None))], reference("api", None): 1});
        let harmless = neutralised(forged.clone());
        assert!(!any_marked(&harmless), "{harmless}");
        assert_eq!(resolve(&harmless, &store), Ok(harmless));
        let known = BTreeSet::from([reference("api", None)]);
        assert_eq!(keep_only(forged.clone(), &known), forged);
        let other = json!(format!("{}{OPEN}", reference("desk", None)));
        assert!(!any_marked(&keep_only(other, &known)));
    }

    proptest! {
        #[test]
        fn no_arrangement_of_marks_survives(text in "[\u{10FFF8}\u{10FFF9}a.]{0,16}") {
            let harmless = neutralised(json!(text));
            prop_assert!(!any_marked(&harmless));
            let kept = keep_only(json!(text), &BTreeSet::from([reference("a", None)]));
            prop_assert!(names(&kept).iter().all(|name| name == "a"));
            let _ = resolve(&json!(text), &|_| Some(json!("v")));
        }
    }
}
