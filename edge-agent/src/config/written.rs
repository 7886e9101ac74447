//! The text of `agent.toml`: read into types, and asked afterwards where a field stands in it.

use std::ops::Range;

use serde::de::DeserializeOwned;
use shared::problem::{Problem, dotted, line_and_column, split_field, words};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, Error},
};

/// A TOML text that is one.
pub(super) struct Written<'t> {
    file: &'t str,
    text: &'t str,
    table: DeTable<'t>,
}

/// Whether the key of a field is meant, or its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Key,
    Value,
}

impl<'t> Written<'t> {
    /// Reads the text; `file` is what problems call it.
    ///
    /// # Errors
    /// When it is no TOML.
    pub(super) fn read(file: &'t str, text: &'t str) -> Result<Self, Problem> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { file, text, table: table.into_inner() }),
            Err(error) => {
                // A key that is there twice stands where the error is.
                let twice = error.message().contains("duplicate key");
                let field = error.span().filter(|_| twice).and_then(|span| text.get(span)).unwrap_or_default();
                Err(at(file, text, error.span(), field.to_owned(), error.message().to_owned()))
            }
        }
    }

    /// Reads the whole of it into a type.
    ///
    /// # Errors
    /// The first mistake. A type's own check may begin its message with `field: ` to say which of its fields is meant.
    pub(super) fn whole<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let broken = |error: &Error| at(self.file, self.text, error.span(), String::new(), error.message().to_owned());
        let source = Deserializer::parse(self.text).map_err(|error| broken(&error))?;
        serde_path_to_error::deserialize(source).map_err(|error| {
            let mut path: Vec<String> = error
                .path()
                .iter()
                .filter_map(|step| match step {
                    serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                    serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                    serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
                })
                .collect();
            let said = words::of_serde(error.inner().message());
            let (field, message) = split_field(&said);
            path.extend(field);
            if path.is_empty() {
                return at(self.file, self.text, error.inner().span(), String::new(), said.clone());
            }
            let side = if message.starts_with("unknown field") { Side::Key } else { Side::Value };
            at(self.file, self.text, self.place(&path, side), dotted(&path), message.to_owned())
        })
    }

    /// A problem with a field, such as `targets.0.name`; one that is missing stands where its nearest parent does.
    pub(super) fn problem(&self, field: &str, message: String) -> Problem {
        let path: Vec<String> = field.split('.').map(str::to_owned).collect();
        at(self.file, self.text, self.place(&path, Side::Value), dotted(&path), message)
    }

    /// Where the thing at this path stands; of what is not there, where its nearest parent stands.
    fn place(&self, path: &[String], side: Side) -> Option<Range<usize>> {
        let (mut found, mut inner): (_, Option<&Spanned<DeValue<'_>>>) = (None, None);
        for (depth, step) in path.iter().enumerate() {
            let next = match inner.map(Spanned::get_ref) {
                None => self.table.get_key_value(step.as_str()),
                Some(DeValue::Table(table)) => table.get_key_value(step.as_str()),
                Some(DeValue::Array(items)) => {
                    inner = step.parse::<usize>().ok().and_then(|index| items.get(index));
                    match inner {
                        Some(item) => found = Some(item.span()),
                        None => return found,
                    }
                    continue;
                }
                Some(_) => return found,
            };
            let Some((key, value)) = next else { return found };
            let is_last = depth + 1 == path.len();
            found = Some(if is_last && side == Side::Value { value.span() } else { key.span() });
            inner = Some(value);
        }
        found
    }
}

fn at(file: &str, text: &str, span: Option<Range<usize>>, field: String, message: String) -> Problem {
    let (line, column) = span.map(|span| line_and_column(text, span.start)).unzip();
    Problem { file: file.to_owned(), line, column, field, message }
}
