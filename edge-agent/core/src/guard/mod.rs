//! Checks of what goes into or comes out of a model, a tool or a machine: personal data, secrets, attempts to give a
//! model orders, statements that no source bears out, data that fits no schema.
//!
//! They know patterns, check digits and words. What they find is there; what they do not find may be there all the
//! same, so a guard stands beside policy and labels, never in their place.

mod grounding;
mod injection;
mod personal;
pub mod policy;
mod proof;
mod secrets;

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::workflow::catalog::Schema;

pub use proof::unproven;

/// Text of one call, in bytes; every check reads all of it.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Findings that are told one by one; more than these are of no use to anybody.
const FINDINGS_MAX: usize = 256;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    PersonalData,
    Secrets,
    Injection,
    Grounding,
    Schema,
}

impl Check {
    /// As documents and the ledger name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PersonalData => "personalData",
            Self::Secrets => "secrets",
            Self::Injection => "injection",
            Self::Grounding => "grounding",
            Self::Schema => "schema",
        }
    }
}

/// What happens when something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFinding {
    /// It is told, and the workflow decides.
    #[default]
    Report,
    /// Personal data and secrets are replaced by what they are (`[email]`); all else is told.
    Redact,
    /// The call fails.
    Refuse,
}

/// What is checked, and against what.
#[derive(Debug)]
pub struct Question<'a> {
    pub content: &'a Value,
    pub checks: &'a [Check],
    /// Texts that bear out what the content says.
    pub sources: &'a [String],
    pub schema: Option<&'a Schema>,
    pub redacts: bool,
}

/// What was found where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub check: Check,
    /// What of it: `email`, `override`, `number`.
    pub kind: &'static str,
    /// The text in the content, as a JSON pointer.
    pub at: String,
    /// Where in that text, in characters from 0; nothing for a finding about the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<usize>,
    /// Never quotes what was found: it may be what nobody may see.
    pub message: String,
    pub redacted: bool,
}

/// What the checks came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether nothing was found but what was redacted.
    pub allowed: bool,
    /// The content, redacted if that was asked for.
    pub content: Value,
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether the content as it came tells of a person.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.findings.iter().any(|finding| finding.check == Check::PersonalData)
    }
}

/// Places that do not overlap, by their beginning.
#[derive(Default)]
struct Taken(BTreeMap<usize, usize>);

impl Taken {
    /// Takes the place, unless a part of it is taken.
    fn take(&mut self, place: &Range<usize>) -> bool {
        let is_free = self.0.range(..place.end).next_back().is_none_or(|(_, end)| *end <= place.start);
        if is_free {
            self.0.insert(place.start, place.end);
        }
        is_free
    }
}

/// Something in a text: what, where in bytes, and what stands for it when it is redacted.
struct Spot {
    kind: &'static str,
    place: Range<usize>,
    message: String,
    mask: Option<String>,
}

impl Spot {
    /// Something that must not be seen, and what stands for it.
    fn masked(kind: &'static str, place: Range<usize>, what: &str) -> Self {
        Self { kind, place, message: what.to_owned(), mask: Some(format!("[{kind}]")) }
    }
}

/// Bytes of all texts in a value, keys included.
#[must_use]
pub fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + text_bytes(value)).sum(),
        _ => 0,
    }
}

/// Performs the checks.
#[must_use]
pub fn check(question: &Question<'_>) -> Verdict {
    let mut findings = Vec::new();
    if question.checks.contains(&Check::Schema)
        && let Some(schema) = question.schema
    {
        findings.extend(schema.mismatches(question.content).into_iter().map(|mismatch| Finding {
            check: Check::Schema,
            kind: "misfit",
            at: mismatch.pointer,
            start: None,
            end: None,
            message: mismatch.message,
            redacted: false,
        }));
    }
    let sources = question.checks.contains(&Check::Grounding).then(|| grounding::Sources::read(question.sources));
    let content = look(question, sources.as_ref(), "", question.content, &mut findings);
    let allowed = findings.iter().all(|finding| finding.redacted);
    findings.truncate(FINDINGS_MAX);
    Verdict { allowed, content, findings }
}

/// Looks at every text of the value, keys included; gives it back as it may be seen.
fn look(
    question: &Question<'_>,
    sources: Option<&grounding::Sources>,
    at: &str,
    value: &Value,
    findings: &mut Vec<Finding>,
) -> Value {
    match value {
        Value::String(text) => Value::String(read(question, sources, at, text, findings)),
        // A number can be a card's or a telephone's as well as a text can.
        Value::Number(number) if question.checks.contains(&Check::PersonalData) => {
            let text = number.to_string();
            let seen = read(question, None, at, &text, findings);
            if seen == text { value.clone() } else { Value::String(seen) }
        }
        Value::Array(items) => {
            let each = items.iter().enumerate();
            Value::Array(each.map(|(i, item)| look(question, sources, &format!("{at}/{i}"), item, findings)).collect())
        }
        Value::Object(fields) => {
            let mut seen = Map::new();
            for (key, value) in fields {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                let mut key = read(question, None, &at, key, findings);
                // Two that are redacted alike stay two.
                if seen.contains_key(&key) {
                    key = format!("{key} {}", seen.len() + 1);
                }
                seen.insert(key, look(question, sources, &at, value, findings));
            }
            Value::Object(seen)
        }
        _ => value.clone(),
    }
}

/// Looks at one text; gives it back as it may be seen.
fn read(
    question: &Question<'_>,
    sources: Option<&grounding::Sources>,
    at: &str,
    text: &str,
    findings: &mut Vec<Finding>,
) -> String {
    let mut masks: Vec<(Range<usize>, String)> = Vec::new();
    for check in question.checks {
        let spots = match check {
            Check::PersonalData => personal::find(text),
            Check::Secrets => secrets::find(text),
            Check::Injection => injection::find(text),
            Check::Grounding => sources.map(|sources| sources.unsupported(text)).unwrap_or_default(),
            Check::Schema => Vec::new(),
        };
        // They come in the order of their places, so each character is counted once.
        let mut counted = (0, 0);
        for Spot { kind, place, message, mask } in spots {
            let redacted = question.redacts && mask.is_some();
            counted = (place.start, counted.1 + text[counted.0..place.start].chars().count());
            let (start, end) = (Some(counted.1), Some(counted.1 + text[place.clone()].chars().count()));
            findings.push(Finding { check: *check, kind, at: at.to_owned(), start, end, message, redacted });
            if let (true, Some(mask)) = (redacted, mask) {
                masks.push((place, mask));
            }
            if findings.len() > FINDINGS_MAX && !question.redacts {
                return text.to_owned();
            }
        }
    }
    masked(text, masks)
}

/// The text with each of the places replaced; of those that overlap, all of what they cover by the first one's mask.
fn masked(text: &str, mut masks: Vec<(Range<usize>, String)>) -> String {
    masks.sort_by_key(|(place, _)| (place.start, std::cmp::Reverse(place.end)));
    let (mut seen, mut from) = (String::new(), 0);
    for (place, mask) in masks {
        if place.start >= from {
            seen.push_str(&text[from..place.start]);
            seen.push_str(&mask);
        }
        from = from.max(place.end);
    }
    seen.push_str(&text[from..]);
    seen
}

/// The findings in a few words for people and the ledger: `personalData email 2, injection override 1`.
#[must_use]
pub fn summary(findings: &[Finding]) -> Vec<String> {
    let mut counted: Vec<(Check, &str, u32)> = Vec::new();
    for finding in findings {
        match counted.iter_mut().find(|(check, kind, _)| *check == finding.check && *kind == finding.kind) {
            Some((.., count)) => *count += 1,
            None => counted.push((finding.check, finding.kind, 1)),
        }
    }
    counted.into_iter().map(|(check, kind, count)| format!("{} {kind} {count}", check.name())).collect()
}

#[cfg(test)]
mod tests;
