//! What is wrong with something a person wrote: which file, where, what was expected.

pub mod near;
pub mod words;
pub mod yaml;

use std::fmt;

/// One mistake in a configuration, workflow, policy or bundle.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// The file, relative to the folder that was read.
    pub file: String,
    /// 1-based; `None` when the whole file is meant.
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// The field, as a JSON pointer or dotted path; empty when the whole file is meant.
    pub field: String,
    /// What is wrong and what was expected, in one sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A path as a person writes it: `feeds[0].decode.device`.
#[must_use]
pub fn dotted(path: &[String]) -> String {
    path.iter().fold(String::new(), |mut written, step| {
        if step.bytes().all(|b| b.is_ascii_digit()) {
            written.push_str(&format!("[{step}]"));
        } else {
            if !written.is_empty() {
                written.push('.');
            }
            written.push_str(step);
        }
        written
    })
}

/// Splits `window.step: must divide` into the path of the field and what is wrong with it. What serde hands on of a type's
/// own check is a text, so such a check says in front which field it means; without that the path is empty.
#[must_use]
pub fn split_field(message: &str) -> (Vec<String>, &str) {
    let is_name = |step: &str| !step.is_empty() && step.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match message.split_once(": ") {
        Some((field, rest)) if field.split('.').all(is_name) => (field.split('.').map(str::to_owned).collect(), rest),
        _ => (Vec::new(), message),
    }
}

/// 1-based line and column of a byte offset in a text.
#[must_use]
pub fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    let line = before[..start].iter().filter(|&&b| b == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(line), number(column))
}

/// The bytes of a file as text.
///
/// # Errors
/// Line and column of the first byte that is no UTF-8.
pub fn text_of(bytes: &[u8]) -> Result<&str, (u32, u32)> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        line_and_column(&good, good.len())
    })
}

/// Every mistake that was found at once; at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
