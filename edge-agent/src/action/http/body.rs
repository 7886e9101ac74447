//! The bytes of a body, as the content type says; JSON when that says nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::engine::effect::{Failure, kind};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::super::errand::Errand;

/// Encodes the body, and names its type where nobody did.
pub(in super::super) fn encode(errand: &Errand<'_>, body: &Value, headers: &mut HeaderMap) -> Result<Vec<u8>, Failure> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let media = kind.split(';').next().unwrap_or_default().trim();
    Ok(match body {
        Value::Object(fields) if media == "application/x-www-form-urlencoded" => form(fields).into_bytes(),
        Value::Object(fields) if media == "multipart/form-data" => {
            let boundary = boundary(&errand.call.key.0);
            let kind = HeaderValue::from_str(&format!("{media}; boundary={boundary}"));
            let unfit = |_| errand.failure(kind::RUNTIME, "the boundary of its parts is no header");
            headers.insert(CONTENT_TYPE, kind.map_err(unfit)?);
            multipart(fields, &boundary)
        }
        Value::String(text) if media == "application/octet-stream" => {
            STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
        }
        Value::String(text) if !media.is_empty() && !media.ends_with("json") => text.as_bytes().to_vec(),
        other => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            other.to_string().into_bytes()
        }
    })
}

fn form(fields: &Map<String, Value>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        for value in values.iter().filter(|value| !value.is_null()) {
            form.append_pair(name, &plain(value));
        }
    }
    form.finish()
}

/// RFC 7578, each field one part.
fn multipart(fields: &Map<String, Value>, boundary: &str) -> Vec<u8> {
    let mut body = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let name = name.replace('"', "%22").replace(['\r', '\n'], " ");
        let kind = if value.is_object() || value.is_array() { "Content-Type: application/json\r\n" } else { "" };
        let value = plain(value);
        body.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n{kind}\r\n{value}\r\n"
        ));
    }
    body.push_str(&format!("--{boundary}--\r\n"));
    body.into_bytes()
}

/// The same for the same effect, so that a repeated request is the same bytes.
fn boundary(key: &str) -> String {
    shared::digest::Digest::of(key.as_bytes())
        .to_string()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
