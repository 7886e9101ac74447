//! A conversation in which the model may ask for tools to be called: one turn of an agent. Each provider has a form for it, and each
//! family of models on the node; those are held to what the tools take.

use edge_core::engine::{
    CHAT, ToolCall,
    effect::{Call, Failure, kind},
};
use models::generate::{Message, Role, with_calls};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{ledger::entry::Fact, time::Timestamp};

use super::{
    EXTRACT, Inference,
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
                Speaker::Tool => (Role::Tool, turn.content.clone()),
                Speaker::Assistant => (Role::Assistant, words(&turn.content, &turn.tool_calls)),
            };
            Message { role, content }
        };
        self.turns.iter().map(message).collect()
    }

    /// The tools as a model on the node is told of them.
    pub(super) fn local_tools(&self) -> Vec<models::generate::Tool> {
        let tool = |tool: &Tool| models::generate::Tool {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
        };
        self.tools.iter().map(tool).collect()
    }

    /// An id that no call of this conversation has.
    fn id(&self, number: usize) -> String {
        format!("call_{}_{number}", self.turns.len())
    }
}

/// What was said with the tools that were wanted, as text.
pub(super) fn words(text: &str, calls: &[ToolCall]) -> String {
    let call =
        |call: &ToolCall| models::generate::ToolCall { name: call.name.clone(), arguments: call.arguments.clone() };
    with_calls(text, &calls.iter().map(call).collect::<Vec<_>>())
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
        if asked.target == EXTRACT && !chat.tools.is_empty() {
            let brief = "the built-in extractive model cannot call tools: name a chat model in the agent's `model`";
            return Err(Fault::new(FaultKind::Toolless, asked.target, brief, brief));
        }
        let (mut said, _) = self.fitting(asked, now, facts).await?;
        for (number, call) in said.calls.iter_mut().enumerate().filter(|(_, call)| call.id.is_empty()) {
            call.id = chat.id(number);
        }
        let mut output = plain(asked, &said);
        output["toolCalls"] = serde_json::to_value(&said.calls).expect("a tool call is plain data");
        Ok(output)
    }
}
