//! The workflow language: documents as types, and what is wrong with them.

pub mod catalog;
mod check;
pub mod definition;
pub mod expression;
#[cfg(test)]
mod fixtures;
pub mod schedule;
mod source;

use std::sync::Arc;

use crate::{
    digest::Digest,
    problem::{Problem, Problems},
};
use definition::Definition;
use expression::Expressions;
use source::Side;

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
}

impl Workflow {
    /// Reads a workflow; `file` is what problems call it.
    pub fn parse(file: &str, yaml: &str) -> Result<Self, Problems> {
        let definition = read_definition(file, yaml)?;
        let expressions = check::check(&definition).map_err(|mistakes| {
            let problem =
                |mistake: check::Mistake| problem_at(file, yaml, &mistake.path, mistake.side, mistake.message);
            let mut problems: Vec<Problem> = mistakes.into_iter().take(PROBLEMS_MAX).map(problem).collect();
            problems.sort_by_key(|problem| (problem.line, problem.column));
            Problems(problems)
        })?;
        Ok(Self { definition, text: yaml.into(), digest: Digest::of(yaml.as_bytes()), expressions })
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
    let definition: Definition =
        source::decode(&value).map_err(|(path, side, message)| one(problem_at(file, yaml, &path, side, message)))?;
    // What the types did not keep was there in vain: a `null`, or a list that serde took for an object.
    let written = serde_json::to_value(&definition).unwrap_or_default();
    if let Some(path) = source::first_difference(&value, &written) {
        let pointer: String = path.iter().map(|segment| format!("/{}", escape(segment))).collect();
        let message = match value.pointer(&pointer) {
            Some(serde_json::Value::Null) => "`null` is not allowed here: leave the key out".to_owned(),
            _ => "expected an object".to_owned(),
        };
        return Err(one(problem_at(file, yaml, &path, Side::Key, message)));
    }
    Ok(definition)
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
