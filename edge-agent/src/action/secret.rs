//! Secrets of the node: named in `agent.toml`, read when a call needs them, handed to what it calls and to nobody else.
//! What was read is struck out of everything that is told of the call.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::config::Secret;

/// Shorter values stand in ordinary text by chance; to strike them out would damage it and hide nothing.
const STRIKE_CHARS_MIN: usize = 4;

/// Why a secret cannot be used. Never says anything of its value.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("this node has no secret {name:?}: expected [secrets.{name}] in agent.toml with `env` or `file`")]
    Unknown { name: String },
    #[error("secret {name:?}: the environment variable {variable} is not set")]
    Variable { name: String, variable: String },
    #[error("secret {name:?}: {why}")]
    File { name: String, why: String },
    #[error("secret {name:?}: {what}")]
    Unusable { name: String, what: &'static str },
}

/// The node's secrets by name.
#[derive(Default)]
pub(super) struct Secrets(pub(super) BTreeMap<String, Secret>);

impl Secrets {
    /// The secret's value as it is now: text, or an object where it is written as one.
    pub(super) fn read(&self, name: &str) -> Result<Value, Error> {
        let text = match self.0.get(name) {
            None => return Err(Error::Unknown { name: name.to_owned() }),
            Some(Secret::Env(variable)) => std::env::var(variable)
                .map_err(|_| Error::Variable { name: name.to_owned(), variable: variable.clone() })?,
            Some(Secret::File(path)) => read_file(name, path)?,
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(Error::Unusable { name: name.to_owned(), what: "it is empty" });
        }
        let object = text.starts_with('{').then(|| serde_json::from_str::<Value>(text).ok()).flatten();
        Ok(object.unwrap_or_else(|| text.into()))
    }
}

fn read_file(name: &str, path: &Path) -> Result<String, Error> {
    let unusable = |error| Error::File { name: name.to_owned(), why: format!("{:#}", anyhow::Error::new(error)) };
    private::read(path, private::Origin::Given).map_err(unusable)
}

/// Values that must not be told, with what stands in their place.
#[derive(Default)]
pub(super) struct Hidden(Vec<(String, String)>);

impl Hidden {
    /// Hides every text of the value, as it is and as URLs and JSON write it.
    pub(super) fn add(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(text) => {
                let instead = format!("[secret {name}]");
                let escaped = Value::from(text.as_str()).to_string();
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                let form = form.append_pair("", text).finish().trim_start_matches('=').to_owned();
                let plain = form.replace('+', "%20");
                for shape in [text.clone(), escaped.trim_matches('"').to_owned(), form, plain] {
                    let is_new = self.0.iter().all(|(known, _)| *known != shape);
                    if shape.chars().count() >= STRIKE_CHARS_MIN && is_new {
                        self.0.push((shape, instead.clone()));
                    }
                }
                // What contains another goes first.
                self.0.sort_by_key(|(shape, _)| std::cmp::Reverse(shape.len()));
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(name, item)),
            Value::Object(fields) => fields.values().for_each(|field| self.add(name, field)),
            _ => {}
        }
    }

    /// The text without what is hidden.
    pub(super) fn strike(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (shape, instead)| {
            if text.contains(shape.as_str()) { text.replace(shape.as_str(), instead) } else { text }
        })
    }

    /// The value without what is hidden, in keys too.
    pub(super) fn strike_value(&self, value: Value) -> Value {
        match value {
            _ if self.0.is_empty() => value,
            Value::String(text) => Value::String(self.strike(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.strike_value(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(key, field)| (self.strike(&key), self.strike_value(field))).collect()
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use serde_json::json;

    fn secrets(entries: &[(&str, Secret)]) -> Secrets {
        Secrets(entries.iter().map(|(name, secret)| ((*name).to_owned(), secret.clone())).collect())
    }

    #[test]
    fn a_file_is_read_when_it_is_needed_and_only_if_it_is_closed_to_others() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("erp");
        let secrets = secrets(&[("erp", Secret::File(path.clone()))]);
        std::fs::write(&path, "one\n").expect("written");
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
        mode(0o644);
        let error = secrets.read("erp").expect_err("open").to_string();
        assert!(error.contains("may be read by others") && error.contains("`chmod 640 "), "{error}");
        mode(0o640);
        assert_eq!(secrets.read("erp").expect("closed"), "one");
        std::fs::write(&path, r#"{"username": "u", "password": "p"}"#).expect("written");
        assert_eq!(secrets.read("erp").expect("an object"), json!({"username": "u", "password": "p"}));
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let secrets = secrets(&[("a", Secret::Env("SKERRY_TEST_NO_SUCH_VARIABLE".to_owned()))]);
        assert!(secrets.read("b").expect_err("unknown").to_string().contains("[secrets.b] in agent.toml"));
        assert!(secrets.read("a").expect_err("unset").to_string().contains("SKERRY_TEST_NO_SUCH_VARIABLE is not set"));
    }

    #[test]
    fn a_secret_is_struck_out_in_every_shape() {
        let mut hidden = Hidden::default();
        hidden.add("erp", &json!({"password": "s&cr \"t", "pin": "12"}));
        for text in ["s&cr \"t", "s%26cr+%22t", "s%26cr%20%22t", r#"s&cr \"t"#] {
            assert_eq!(hidden.strike(&format!("<{text}>")), "<[secret erp]>", "{text}");
        }
        assert_eq!(hidden.strike("12 pumps"), "12 pumps");
        assert_eq!(hidden.strike_value(json!([{"s&cr \"t": "s&cr \"t"}])), json!([{"[secret erp]": "[secret erp]"}]));
    }
}
