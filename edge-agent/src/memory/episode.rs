//! Episodes: what happened in past runs and what it came to, found by how similar the situation was, as examples for what is to be done now.
//! The runner keeps one of each run whose workflow asks for it; a workflow may keep others with `remember`.

use edge_core::engine::effect::{Call, Failure};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{text_within, wrong};

/// Where episodes are kept when nobody names an index.
pub(super) const INDEX: &str = "episodes";
/// What a situation may take: an embedder reads the first few hundred words.
const SITUATION_BYTES_MAX: usize = 16 << 10;
/// An example that a small model can still read beside others.
const DETAILS_BYTES_MAX: usize = 32 << 10;
const OUTCOME_BYTES_MAX: usize = 256;

/// What is kept, and what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Text,
    /// What was said in conversations.
    Session,
    Episode,
}

/// What an episode says beyond its situation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Episode {
    /// What it came to; of a run `completed`, `rejected`, `faulted` or `cancelled`.
    pub outcome: String,
    pub details: Map<String, Value>,
}

impl Episode {
    /// Of a call's arguments.
    pub(super) fn of(
        call: &Call,
        outcome: Option<String>,
        details: Option<Map<String, Value>>,
    ) -> Result<Self, Failure> {
        let expected = || wrong(call, "outcome", "missing; expected what it came to, such as completed");
        let outcome = text_within(call, "outcome", outcome.ok_or_else(expected)?, OUTCOME_BYTES_MAX)?;
        let details = details.unwrap_or_default();
        let bytes = Value::from(details.clone()).to_string().len();
        if bytes > DETAILS_BYTES_MAX {
            return Err(wrong(call, "details", &format!("{bytes} bytes; at most {DETAILS_BYTES_MAX}")));
        }
        Ok(Self { outcome, details })
    }

    /// The situation that a call tells of.
    pub(super) fn situation(call: &Call, text: String) -> Result<String, Failure> {
        text_within(call, "text", text, SITUATION_BYTES_MAX)
    }

    /// What it takes beside its situation.
    pub(super) fn bytes(&self) -> usize {
        self.outcome.len() + Value::from(self.details.clone()).to_string().len()
    }

    pub(super) fn insert(&self, connection: &Connection, document: i64) -> rusqlite::Result<()> {
        let details = Value::from(self.details.clone()).to_string();
        let sql = "INSERT INTO memory_episode (document, outcome, details) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![document, self.outcome, details]).map(drop)
    }

    /// As a model or a person reads it: the situation, then what is known of it, each on a line.
    pub(super) fn told(&self, situation: &str) -> String {
        let mut told = format!("Situation: {situation}");
        for (name, value) in &self.details {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                Value::Array(items) if items.iter().all(Value::is_string) => {
                    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            let mut name = name.chars();
            let first = name.next().map(char::to_uppercase);
            told.push('\n');
            told.extend(first.into_iter().flatten().chain(name));
            told.push_str(&format!(": {text}"));
        }
        told.push_str(&format!("\nOutcome: {}", self.outcome));
        told
    }
}

/// What a search names an episode by: no document of a bundle and no text is called so.
#[must_use]
pub fn path(id: &str) -> String {
    format!("episode:{id}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_episode_is_read_line_by_line() {
        let details = json!({"path": ["look", "ask"], "output": {"a": 1}, "error": null, "approval": "lead: yes"});
        let Value::Object(details) = details else { panic!("an object") };
        let episode = Episode { outcome: "completed".to_owned(), details };
        let told =
            "Situation: the press is hot\nPath: look, ask\nOutput: {\"a\":1}\nApproval: lead: yes\nOutcome: completed";
        assert_eq!(episode.told("the press is hot"), told);
    }
}
