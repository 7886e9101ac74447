//! Tools that a model may ask to be called, and the calls as they stand in a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The form in which Qwen and Hermes write calls, and in which they stand in the text of an assistant's message here, whatever the model.
pub(super) const OPEN: &str = "<tool_call>";
pub(super) const CLOSE: &str = "</tool_call>";

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// A JSON schema that the arguments fit.
    pub parameters: Value,
}

/// Whether the model calls tools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It does not, but is told of them.
    None,
    /// At least one.
    Required,
    /// This one, once.
    Named(String),
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub name: String,
    pub arguments: Value,
}

/// The text of an assistant's message with the calls that it asked for.
#[must_use]
pub fn with_calls(text: &str, calls: &[ToolCall]) -> String {
    let call =
        |call: &ToolCall| format!("{OPEN}\n{}\n{CLOSE}", json!({"name": call.name, "arguments": call.arguments}));
    let said = (!text.is_empty()).then(|| text.to_owned());
    said.into_iter().chain(calls.iter().map(call)).collect::<Vec<_>>().join("\n")
}

/// The text and the calls of such a message.
pub(super) fn split_calls(content: &str) -> (String, Vec<ToolCall>) {
    let (mut text, mut calls, mut rest) = (String::new(), Vec::new(), content);
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((inside, after)) = after.split_once(CLOSE) else { break };
        let Ok(call) = serde_json::from_str(inside.trim()) else { break };
        text.push_str(before.trim_end());
        calls.push(call);
        rest = after.trim_start_matches('\n');
    }
    text.push_str(rest);
    (text, calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_survive_the_way_through_a_message() {
        let calls = [("find", json!({"query": "fan"})), ("stop", json!({}))];
        let calls = calls.map(|(name, arguments)| ToolCall { name: name.to_owned(), arguments });
        for text in ["", "I look."] {
            assert_eq!(split_calls(&with_calls(text, &calls)), (text.to_owned(), calls.to_vec()));
        }
        let broken = "a <tool_call> {} </tool_call> b";
        assert_eq!(split_calls(broken), (broken.to_owned(), vec![]));
    }
}
