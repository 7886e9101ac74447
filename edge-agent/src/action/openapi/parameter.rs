//! Arguments put where the document says: into the path, the query, a header, a cookie, or the body. The styles are those
//! of OpenAPI 3 ("Style Values") and the collection formats of Swagger 2.0.

use edge_core::engine::effect::{Failure, kind};
use serde_json::{Map, Value};

use super::{
    super::errand::{Errand, scalar},
    operation::{Operation, is_swagger},
    reference::Resolved,
};

/// The name under which a body is given that is not made of named parts.
const BODY: &str = "body";
const JSON: &str = "application/json";

/// A request's parts.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) path: String,
    pub(super) query: Vec<String>,
    pub(super) headers: Vec<(String, String)>,
    /// With its media type.
    pub(super) body: Option<(Value, String)>,
}

/// How the values of a list or object are written.
struct Style {
    name: String,
    explode: bool,
}

/// Puts every argument in its place.
pub(super) fn place<'d>(
    errand: &Errand<'_>,
    document: &Resolved<'d>,
    operation: &Operation<'d>,
    mut given: Map<String, Value>,
) -> Result<Placed, Failure> {
    let mut placed = Placed { path: operation.path.to_owned(), ..Placed::default() };
    let (mut form, mut cookies) = (Map::new(), Vec::new());
    let mut known = Vec::new();
    for parameter in declared(document, operation) {
        let text = |key: &str| parameter.get(key).and_then(Value::as_str).unwrap_or_default();
        let (name, place) = (text("name"), text("in"));
        known.push(name.to_owned());
        let schema = document.get(parameter, "schema").unwrap_or(parameter);
        let default = || schema.get("default").cloned();
        let Some(value) = given.shift_remove(name).filter(|value| !value.is_null()).or_else(default) else {
            if place == "path" || parameter.get("required").and_then(Value::as_bool) == Some(true) {
                return Err(errand.wrong(&format!("parameters.{name}"), "missing: the operation requires it"));
            }
            continue;
        };
        let style = Style::of(parameter, place, is_swagger(document));
        match place {
            "path" => {
                let text = style.joined(errand, name, &value)?;
                placed.path = placed.path.replace(&format!("{{{name}}}"), &text);
            }
            "query" => placed.query.extend(style.pairs(errand, name, &value)?),
            "header" => placed.headers.push((name.to_owned(), plain(errand, name, &value)?)),
            "cookie" => cookies.push(format!("{name}={}", plain(errand, name, &value)?)),
            "formData" => drop(form.insert(name.to_owned(), value)),
            "body" => placed.body = Some((value, media(document, operation, JSON))),
            other => {
                let why = format!("the document puts parameter {name:?} into {other:?}, which is no place");
                return Err(errand.failure(kind::CONFIGURATION, &why));
            }
        }
    }
    if !cookies.is_empty() {
        placed.headers.push(("cookie".to_owned(), cookies.join("; ")));
    }
    if !form.is_empty() {
        placed.body = Some((Value::Object(form), media(document, operation, "application/x-www-form-urlencoded")));
    }
    take_body(errand, document, operation, &mut placed, &mut given, &mut known)?;
    match given.keys().next() {
        None => Ok(placed),
        Some(unknown) => {
            let expected = format!("the operation has no such parameter; expected {}", known.join(", "));
            Err(errand.wrong(&format!("parameters.{unknown}"), &expected))
        }
    }
}

/// Parameters of the operation, and those of its path that it does not redefine.
fn declared<'d>(document: &Resolved<'d>, operation: &Operation<'d>) -> Vec<&'d Value> {
    let mut found: Vec<&Value> = document.items(operation.own, "parameters").collect();
    let same = |a: &Value, b: &Value| a.get("name") == b.get("name") && a.get("in") == b.get("in");
    for parameter in document.items(operation.of_path, "parameters") {
        if !found.iter().any(|known| same(known, parameter)) {
            found.push(parameter);
        }
    }
    found
}

/// OpenAPI 3's body: the argument `body`, or what is left of the arguments where the body's schema has them.
fn take_body<'d>(
    errand: &Errand<'_>,
    document: &Resolved<'d>,
    operation: &Operation<'d>,
    placed: &mut Placed,
    given: &mut Map<String, Value>,
    known: &mut Vec<String>,
) -> Result<(), Failure> {
    let Some(wanted) = document.get(operation.own, "requestBody") else { return Ok(()) };
    let media = media(document, operation, JSON);
    let content = wanted.get("content").and_then(|content| content.get(&media));
    let schema = content.and_then(|content| document.get(content, "schema")).unwrap_or(&Value::Null);
    known.push(BODY.to_owned());
    if let Some(body) = given.shift_remove(BODY) {
        placed.body = Some((body, media));
        return Ok(());
    }
    let mut properties = Vec::new();
    names(document, schema, 0, &mut properties);
    // A body that may hold anything takes whatever has no other place.
    let more = schema.get("additionalProperties");
    let is_open = more.map_or(properties.is_empty(), |more| *more != Value::Bool(false));
    let mut body = Map::new();
    for name in properties {
        if let Some(value) = given.shift_remove(name) {
            body.insert(name.to_owned(), value);
        }
        known.push(name.to_owned());
    }
    if is_open {
        body.append(given);
    }
    if !body.is_empty() {
        placed.body = Some((Value::Object(body), media));
    } else if given.is_empty() && wanted.get("required").and_then(Value::as_bool) == Some(true) {
        return Err(errand.wrong("parameters.body", "missing: the operation requires a body"));
    }
    Ok(())
}

/// The properties of a schema, with those of the schemas that it is made of.
fn names<'d>(document: &Resolved<'d>, schema: &'d Value, depth: usize, into: &mut Vec<&'d str>) {
    into.extend(
        schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|map| map.keys()).map(String::as_str),
    );
    if depth < 4 {
        for key in ["allOf", "oneOf", "anyOf"] {
            document.items(schema, key).for_each(|part| names(document, part, depth + 1, into));
        }
    }
}

/// The body's media type: JSON where it is offered, else the first that is.
fn media(document: &Resolved<'_>, operation: &Operation<'_>, default: &str) -> String {
    let consumes = [operation.own, document.0].into_iter().find_map(|place| place.get("consumes")?.as_array());
    let content = document.get(operation.own, "requestBody").and_then(|body| body.get("content")?.as_object());
    let offered: Vec<&str> = match content {
        Some(content) => content.keys().map(String::as_str).collect(),
        None => consumes.into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let is_form = default != JSON;
    let fits = |media: &&&str| match is_form {
        true => media.contains("form"),
        false => media.split(';').next().is_some_and(|media| media.trim_end().ends_with("json")),
    };
    let first = if is_form { None } else { offered.first() };
    offered.iter().find(fits).or(first).map_or_else(|| default.to_owned(), |media| (*media).to_owned())
}

impl Style {
    fn of(parameter: &Value, place: &str, is_swagger: bool) -> Self {
        let text = |key: &str| parameter.get(key).and_then(Value::as_str);
        if is_swagger {
            let name = match text("collectionFormat") {
                Some("ssv") => "spaceDelimited",
                Some("pipes") => "pipeDelimited",
                Some("tsv") => "tabDelimited",
                _ if place == "path" => "simple",
                _ => "form",
            };
            return Self { name: name.to_owned(), explode: text("collectionFormat") == Some("multi") };
        }
        let name = text("style").unwrap_or(if place == "path" { "simple" } else { "form" }).to_owned();
        let explode = parameter.get("explode").and_then(Value::as_bool).unwrap_or(name == "form");
        Self { name, explode }
    }

    /// As one text, for a path.
    fn joined(&self, errand: &Errand<'_>, name: &str, value: &Value) -> Result<String, Failure> {
        let (first, between) = match self.name.as_str() {
            "label" => (".", if self.explode { "." } else { "," }),
            "matrix" => (";", if self.explode { ";" } else { "," }),
            _ => ("", ","),
        };
        let is_matrix = self.name == "matrix";
        let mut parts = Vec::new();
        match value {
            Value::Array(items) => {
                for item in items {
                    let item = encoded(errand, name, item)?;
                    parts.push(if is_matrix && self.explode { format!("{name}={item}") } else { item });
                }
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    let between = if self.explode { '=' } else { ',' };
                    parts.push(format!("{}{between}{}", percent(key), encoded(errand, name, field)?));
                }
            }
            single => parts.push(encoded(errand, name, single)?),
        }
        let text = parts.join(between);
        let is_named = is_matrix && !(self.explode && (value.is_array() || value.is_object()));
        Ok(if is_named { format!("{first}{name}={text}") } else { format!("{first}{text}") })
    }

    /// As `name=value` pairs, for a query.
    fn pairs(&self, errand: &Errand<'_>, name: &str, value: &Value) -> Result<Vec<String>, Failure> {
        let key = percent(name);
        let between = match self.name.as_str() {
            "spaceDelimited" => "%20",
            "pipeDelimited" => "%7C",
            "tabDelimited" => "%09",
            _ => ",",
        };
        match value {
            Value::Array(items) => {
                let items: Vec<String> =
                    items.iter().map(|item| encoded(errand, name, item)).collect::<Result<_, _>>()?;
                Ok(match self.explode {
                    true => items.iter().map(|item| format!("{key}={item}")).collect(),
                    false => vec![format!("{key}={}", items.join(between))],
                })
            }
            Value::Object(fields) => {
                let mut pairs = Vec::new();
                for (field, value) in fields {
                    let value = encoded(errand, name, value)?;
                    pairs.push(match (self.name.as_str(), self.explode) {
                        ("deepObject", _) => format!("{key}%5B{}%5D={value}", percent(field)),
                        (_, true) => format!("{}={value}", percent(field)),
                        (_, false) => format!("{},{value}", percent(field)),
                    });
                }
                let is_one = !self.explode && self.name != "deepObject";
                Ok(if is_one { vec![format!("{key}={}", pairs.join(","))] } else { pairs })
            }
            single => Ok(vec![format!("{key}={}", encoded(errand, name, single)?)]),
        }
    }
}

/// The text of a header or cookie.
fn plain(errand: &Errand<'_>, name: &str, value: &Value) -> Result<String, Failure> {
    match value {
        Value::Array(items) => {
            Ok(items.iter().map(|item| one(errand, name, item)).collect::<Result<Vec<_>, _>>()?.join(","))
        }
        single => one(errand, name, single),
    }
}

fn one(errand: &Errand<'_>, name: &str, value: &Value) -> Result<String, Failure> {
    scalar(value).ok_or_else(|| {
        errand.wrong(&format!("parameters.{name}"), &format!("{value}; expected a text, number or boolean"))
    })
}

fn encoded(errand: &Errand<'_>, name: &str, value: &Value) -> Result<String, Failure> {
    one(errand, name, value).map(|text| percent(&text))
}

/// RFC 3986: everything but unreserved letters.
pub(in super::super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
