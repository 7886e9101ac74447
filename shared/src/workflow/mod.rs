//! The workflow language: documents as types, and what is wrong with them.

pub mod catalog;
mod check;
pub mod definition;
pub mod draw;
pub mod expression;
#[cfg(test)]
mod fixtures;
mod link;
pub mod schedule;
pub mod secret;

use std::sync::Arc;

use serde_json::Value;

use crate::{
    digest::Digest,
    problem::{
        Problem, Problems,
        yaml::{self as source, Side},
    },
};
use definition::{Definition, Task};
use expression::Expressions;
pub use link::Missing;

/// More than anyone mends at once; each costs a reading of the text to find its place.
const PROBLEMS_MAX: usize = 50;

/// A workflow that was read and found good.
#[derive(Debug)]
pub struct Workflow {
    definition: Definition,
    /// The text that it was read from.
    text: Arc<str>,
    digest: Digest,
    expressions: Expressions,
    schemas: check::Schemas,
    missing: Vec<Missing>,
}

/// Rounds of linking: a function of a catalog may call another one.
const LINK_ROUNDS_MAX: usize = 8;

/// What whoever is to perform a workflow finds wrong with it, beside what the language does: the JSON pointer of each thing,
/// and what is wrong there. It is asked even if the language finds something, so that all of it is told at once.
pub type Further<'f> = dyn Fn(&Definition, &[Missing]) -> Vec<(String, String)> + 'f;

/// A document that was read into types, and what the check said of it.
struct Examined {
    definition: Definition,
    checked: check::Checked,
    mistakes: Vec<check::Mistake>,
}

impl Workflow {
    /// Reads a workflow; `file` is what problems call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        Self::accept(file, text, examine(file, text)?, &|_, _| Vec::new())
    }

    /// Reads a workflow together with the files of its bundle that it uses, which become part of its text; `read` gives a
    /// file by its path.
    pub fn link(file: &str, yaml: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        Self::link_for(file, yaml, read, &|_, _| Vec::new())
    }

    /// The same for someone who performs it, and has more to say.
    pub fn link_for(
        file: &str,
        yaml: &str,
        read: &dyn Fn(&str) -> Option<String>,
        further: &Further<'_>,
    ) -> Result<Self, Problems> {
        let (own, mut files) = link::split(yaml);
        let mut text = yaml.to_owned();
        let mut examined = examine(file, &text)?;
        for _ in 0..LINK_ROUNDS_MAX {
            let missing = examined.checked.missing.iter();
            let found: Vec<_> = missing.filter_map(|m| Some((m.path.clone(), read(&m.path)?))).collect();
            if found.is_empty() {
                break;
            }
            files.extend(found);
            text = link::join(own, &files);
            examined = examine(file, &text)?;
        }
        Self::accept(file, &text, examined, further)
    }

    /// The workflow, if nothing is wrong with it.
    fn accept(file: &str, text: &str, examined: Examined, further: &Further<'_>) -> Result<Self, Problems> {
        let Examined { definition, checked, mut mistakes } = examined;
        for (pointer, message) in further(&definition, &checked.missing) {
            let path: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
            // What the language says of the same thing comes first.
            if !mistakes.iter().any(|mistake| mistake.path == path) {
                mistakes.push(check::Mistake { path, side: Side::Key, message });
            }
        }
        if mistakes.is_empty() {
            let check::Checked { expressions, schemas, missing } = checked;
            let digest = Digest::of(text.as_bytes());
            return Ok(Self { definition, text: text.into(), digest, expressions, schemas, missing });
        }
        let yaml = link::split(text).0;
        let problem = |mistake: check::Mistake| problem_at(file, yaml, &mistake.path, mistake.side, mistake.message);
        let mut problems: Vec<Problem> = mistakes.into_iter().take(PROBLEMS_MAX).map(problem).collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(Problems(problems))
    }

    /// The files that the workflow needs and that are not linked to it: it cannot be performed without them.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    #[must_use]
    pub const fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The document's expressions, compiled.
    #[must_use]
    pub const fn expressions(&self) -> &Expressions {
        &self.expressions
    }

    /// The schema that stands at this JSON pointer (`/do/0/a/input/schema`), compiled.
    #[must_use]
    pub fn schema(&self, pointer: &str) -> Option<&catalog::Schema> {
        self.schemas.get(pointer)
    }

    /// The text that `parse` was given; reading it again gives the same workflow.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the text.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// A problem with what stands at this JSON pointer, with its place in the text; `file` is what it calls the text.
    #[must_use]
    pub fn problem(&self, file: &str, pointer: &str, message: impl Into<String>) -> Problem {
        let path: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
        problem_at(file, link::split(&self.text).0, &path, Side::Key, message.into())
    }
}

/// Reads the text and checks it.
fn examine(file: &str, text: &str) -> Result<Examined, Problems> {
    let (yaml, files) = link::split(text);
    let mut definition = read_definition(file, yaml)?;
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("catalogs/")) {
        let task: Task = read_part(path, text)?;
        definition.linked.insert(path.clone(), task);
    }
    let (checked, mistakes) = check::check(&definition, &files);
    Ok(Examined { definition, checked, mistakes })
}

/// Reads a part of a workflow from a file of its own.
fn read_part<T: serde::de::DeserializeOwned>(file: &str, yaml: &str) -> Result<T, Problems> {
    let value = source::read(yaml).map_err(|(place, message)| {
        let (line, column) = place.unzip();
        Problems(vec![Problem { file: file.to_owned(), line, column, field: String::new(), message }])
    })?;
    source::decode(&value).map_err(|(path, side, message)| Problems(vec![problem_at(file, yaml, &path, side, message)]))
}

/// Reads the text into types: everything that the language's schema forbids is found here.
fn read_definition(file: &str, yaml: &str) -> Result<Definition, Problems> {
    let one = |problem| Problems(vec![problem]);
    let value = source::read(yaml).map_err(|(place, message)| {
        let (line, column) = place.unzip();
        one(Problem { file: file.to_owned(), line, column, field: String::new(), message })
    })?;
    if !value.is_object() {
        let message = "expected a workflow: an object with `document` and `do`".to_owned();
        return Err(one(problem_at(file, yaml, &[], Side::Value, message)));
    }
    if let Some(path) = marked(&value) {
        let message = "this text has characters that are reserved (U+10FFF8, U+10FFF9): expected none".to_owned();
        return Err(one(problem_at(file, yaml, &path, Side::Key, message)));
    }
    let definition: Definition =
        source::decode(&value).map_err(|(path, side, message)| one(problem_at(file, yaml, &path, side, message)))?;
    // What the types did not keep was there in vain: a `null`, or a list that serde took for an object.
    let written = serde_json::to_value(&definition).unwrap_or_default();
    if let Some(path) = source::first_difference(&value, &written) {
        let pointer: String = path.iter().map(|segment| format!("/{}", escape(segment))).collect();
        let message = match value.pointer(&pointer) {
            Some(Value::Null) => "`null` is not allowed here: leave the key out".to_owned(),
            _ => "expected an object".to_owned(),
        };
        return Err(one(problem_at(file, yaml, &path, Side::Key, message)));
    }
    Ok(definition)
}

/// The path of the first text that looks like a reference to a secret.
fn marked(value: &Value) -> Option<Vec<String>> {
    let below = |step: String, value: &Value| Some([vec![step], marked(value)?].concat());
    match value {
        Value::String(text) => secret::is_marked(text).then(Vec::new),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| below(index.to_string(), item)),
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            if secret::is_marked(key) { Some(vec![key.clone()]) } else { below(key.clone(), value) }
        }),
        _ => None,
    }
}

/// The name that a segment of a JSON pointer stands for.
fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// A segment of a JSON pointer (RFC 6901).
fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// A problem with the thing at this path, with its place in the text.
fn problem_at(file: &str, yaml: &str, path: &[String], side: Side, message: String) -> Problem {
    let (line, column) = source::locate(yaml, path, side).unzip();
    let field = path.iter().map(|segment| format!("/{}", escape(segment))).collect();
    Problem { file: file.to_owned(), line, column, field, message }
}
