//! A conversation in which the model may ask for tools to be called: one turn of an agent. Providers have a form for it;
//! a model on the node writes JSON that says which tool it wants, or its answer.

use edge_core::engine::{
    CHAT, ToolCall,
    effect::{Call, Failure, kind},
};
use models::generate::{Message, Role};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{ledger::entry::Fact, time::Timestamp};

use super::{
    EXTRACT, Inference,
    ask::Ask,
    reply::{Asked, Fault, FaultKind, plain},
};

/// What a model is asked in one turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Turn {
    pub role: Speaker,
    #[serde(default)]
    pub content: String,
    /// Of the assistant: the tools that it wanted called.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool: which call this is the result of.
    #[serde(default)]
    pub tool_call_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    System,
    User,
    Assistant,
    Tool,
}

impl Speaker {
    /// As every protocol has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A tool as the model is told of it; `parameters` is a JSON schema.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    pub description: String,
    pub parameters: Value,
}

impl Chat {
    /// The conversation in a call of `chat`, and the rest of the call as one of `infer`.
    ///
    /// # Errors
    /// A validation error that names the field and what was expected.
    pub fn parse(call: &Call) -> Result<(Self, Call), Failure> {
        fn part<T: serde::de::DeserializeOwned>(call: &Call, key: &str) -> Result<T, Failure> {
            let given = call.input.get(key).cloned().unwrap_or_else(|| json!([]));
            serde_path_to_error::deserialize(given).map_err(|error| {
                let detail = format!("{CHAT} of {}: {key}{}: {}", call.task, error.path(), error.inner());
                Failure::new(kind::VALIDATION, detail)
            })
        }
        let chat = Self { turns: part(call, "messages")?, tools: part(call, "tools")? };
        let mut rest = Call { function: "infer".to_owned(), ..call.clone() };
        if let Value::Object(map) = &mut rest.input {
            map.shift_remove("tools");
        }
        rest.input["messages"] = serde_json::to_value(chat.plain()).expect("a message is plain data");
        Ok((chat, rest))
    }

    /// The conversation as one without tools, for the ledger and for models that know none.
    fn plain(&self) -> Vec<Message> {
        let message = |turn: &Turn| {
            let (role, content) = match turn.role {
                Speaker::System => (Role::System, turn.content.clone()),
                Speaker::User => (Role::User, turn.content.clone()),
                Speaker::Tool => (Role::User, format!("Result of {}: {}", turn.tool_call_id, turn.content)),
                Speaker::Assistant => (Role::Assistant, words(&turn.content, &turn.tool_calls)),
            };
            Message { role, content }
        };
        self.turns.iter().map(message).collect()
    }

    /// What a model on the node fills in: one tool call, or the answer.
    fn form(&self) -> Value {
        let names: Vec<&str> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
        let text = |about: &str| json!({"type": "string", "description": about});
        let call = json!({"type": "object", "required": ["tool", "arguments"], "additionalProperties": false, "properties": {
            "tool": {"enum": names}, "arguments": text("the tool's arguments, a JSON object as text"),
        }});
        let answer = json!({"type": "object", "required": ["answer"], "additionalProperties": false,
            "properties": {"answer": text("the answer, when no tool is needed any more")}});
        json!({"anyOf": [call, answer]})
    }

    /// What a model on the node is told of the tools.
    fn rule(&self) -> Message {
        let line = |tool: &Tool| format!("- {}: {} Its arguments: {}", tool.name, tool.description, tool.parameters);
        let tools: Vec<String> = self.tools.iter().map(line).collect();
        let content = format!(
            "You have these tools:\n{}\nTo call one, answer {{\"tool\": its name, \"arguments\": its arguments}}; when you are done, \
             answer {{\"answer\": your answer}}.",
            tools.join("\n")
        );
        Message { role: Role::System, content }
    }

    /// An id that no call of this conversation has.
    fn id(&self, number: usize) -> String {
        format!("call_{}_{number}", self.turns.len())
    }
}

/// What was said with the tools that were wanted, as text.
pub(super) fn words(text: &str, calls: &[ToolCall]) -> String {
    let call = |call: &ToolCall| json!({"tool": call.name, "arguments": call.arguments}).to_string();
    let said = (!text.is_empty()).then(|| text.to_owned());
    said.into_iter().chain(calls.iter().map(call)).collect::<Vec<_>>().join("\n")
}

/// The arguments of a tool call from a model's text. What is no JSON stays text, which fits no tool and is told to the model.
pub(super) fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return json!({});
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

impl Inference {
    /// Asks the target for one turn; the output has `toolCalls` beside what `infer` gives.
    pub(super) async fn converse(
        &self,
        asked: &Asked<'_>,
        chat: &Chat,
        now: Timestamp,
        facts: &mut Vec<Fact>,
    ) -> Result<Value, Fault> {
        if chat.tools.is_empty() || self.is_provider(asked.target) {
            let (mut said, _) = self.fitting(asked, now, facts).await?;
            for (number, call) in said.calls.iter_mut().enumerate().filter(|(_, call)| call.id.is_empty()) {
                call.id = chat.id(number);
            }
            let mut output = plain(asked, &said);
            output["toolCalls"] = serde_json::to_value(&said.calls).expect("a tool call is plain data");
            return Ok(output);
        }
        if asked.target == EXTRACT {
            let brief = "the built-in extractive model cannot call tools: name a chat model in the agent's `model`";
            return Err(Fault::new(FaultKind::Toolless, asked.target, brief, brief));
        }
        let mut ask = Ask { chat: None, schema: Some(chat.form()), ..asked.ask.clone() };
        ask.messages.insert(0, chat.rule());
        let (said, value) = self.fitting(&Asked { ask: &ask, ..*asked }, now, facts).await?;
        let value = value.unwrap_or_default();
        let mut output = plain(asked, &said);
        output["text"] = value.get("answer").cloned().unwrap_or_else(|| json!(""));
        let called = value.get("tool").and_then(Value::as_str).map(|name| {
            let given = value.get("arguments").and_then(Value::as_str).unwrap_or_default();
            ToolCall { id: chat.id(0), name: name.to_owned(), arguments: arguments(given) }
        });
        output["toolCalls"] = serde_json::to_value(Vec::from_iter(called)).expect("a tool call is plain data");
        Ok(output)
    }
}
