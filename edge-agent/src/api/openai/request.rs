//! A chat request as OpenAI's clients write it, and what of it a local model can do.

use models::generate::{Message, Request, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;

const MAX_TOKENS: usize = 1_024;

/// What of a chat request this endpoint looks at; other fields are the client's affair.
#[derive(Deserialize)]
pub(super) struct ChatRequest {
    pub model: String,
    messages: Vec<ChatMessage>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    n: Option<u32>,
    #[serde(default)]
    pub stream: bool,
    stream_options: Option<StreamOptions>,
    response_format: Option<ResponseFormat>,
    tools: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<MessageContent>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MessageContent {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
}

impl ChatRequest {
    /// Whether a stream ends with what it used.
    pub fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage)
    }

    /// # Errors
    /// Names the field that a local model cannot do.
    pub fn into_request(self) -> Result<Request, Refusal> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(Refusal::invalid("n: a local model gives one answer"));
        }
        if self.tools.is_some_and(|tools| !tools.is_empty()) {
            return Err(Refusal::invalid("tools: local models call none; use a workflow"));
        }
        let messages: Vec<Message> =
            self.messages.into_iter().enumerate().map(|(at, message)| message.parse(at)).collect::<Result<_, _>>()?;
        if !messages.iter().any(|message| message.role == Role::User) {
            return Err(Refusal::invalid("messages: expected at least one by the user"));
        }
        let schema = match self.response_format {
            None | Some(ResponseFormat::Text) => None,
            Some(ResponseFormat::JsonObject) => Some(json!({"type": "object"})),
            Some(ResponseFormat::JsonSchema { json_schema }) => {
                let schema = json_schema.schema.unwrap_or_else(|| json!({"type": "object"}));
                let wrong =
                    |error| Refusal::invalid(format!("response_format.json_schema.schema: not a JSON schema: {error}"));
                jsonschema::validator_for(&schema).map_err(wrong)?;
                Some(schema)
            }
        };
        let defaults = Request::default();
        Ok(Request {
            messages,
            max_tokens: self.max_completion_tokens.or(self.max_tokens).unwrap_or(MAX_TOKENS),
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            seed: self.seed.map_or(defaults.seed, i64::cast_unsigned),
            stop: self.stop.map_or_else(Vec::new, OneOrMany::into_list),
            schema,
            ..defaults
        })
    }
}

impl ChatMessage {
    fn parse(self, at: usize) -> Result<Message, Refusal> {
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let expected = "expected system, developer, user or assistant";
                return Err(Refusal::invalid(format!("messages[{at}].role: {other:?}; {expected}")));
            }
        };
        let content = match self.content {
            None => String::new(),
            Some(MessageContent::Text(text)) => text,
            Some(MessageContent::Parts(parts)) => {
                let texts = parts.into_iter().map(|part| part.text.filter(|_| part.kind == "text"));
                let texts: Option<Vec<String>> = texts.collect();
                let expected = || Refusal::invalid(format!("messages[{at}].content: a local model reads text alone"));
                texts.ok_or_else(expected)?.join("\n")
            }
        };
        Ok(Message { role, content })
    }
}

impl OneOrMany {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}
