//! A chat request as OpenAI's clients write it, and what of it a local model can do.

use edge_core::admit::Priority;
use models::generate::{Message, Request, Role, Sampling, Tool, ToolCall, ToolChoice, with_calls};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::problem::words;

use super::{
    Refusal,
    fields::{self, Rest},
};

const MAX_TOKENS: usize = 1_024;
/// Letters of a tool's name, at most, as OpenAI's interface has it.
const TOOL_NAME_MAX: usize = 64;
/// Alternatives of a token, at most, as OpenAI's interface has it.
const TOP_LOGPROBS_MAX: usize = 20;
/// More than OpenAI's four.
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;

/// A chat request.
#[derive(Deserialize)]
pub(super) struct ChatRequest {
    pub model: String,
    messages: Vec<ChatMessage>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    /// This and the two below are not OpenAI's; servers of open models have them under these names.
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    response_format: Option<ResponseFormat>,
    tools: Option<Vec<GivenTool>>,
    tool_choice: Option<GivenChoice>,
    parallel_tool_calls: Option<bool>,
    service_tier: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct GivenTool {
    function: GivenFunction,
}

#[derive(Deserialize)]
struct GivenFunction {
    name: String,
    #[serde(default)]
    description: String,
    /// Without them, or where they are empty, it takes nothing.
    parameters: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected auto, none, required or a function")]
enum GivenChoice {
    Word(String),
    Function { function: Named },
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct GivenCall {
    function: CalledFunction,
}

#[derive(Deserialize)]
struct CalledFunction {
    name: String,
    /// JSON as text.
    #[serde(default)]
    arguments: String,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<MessageContent>,
    #[serde(default)]
    tool_calls: Option<Vec<GivenCall>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of parts, each with its type")]
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
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
pub(super) struct StreamOptions {
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

/// Before whom a request is answered: of OpenAI's service tiers two say something of it.
///
/// # Errors
/// When it is none of them.
pub(super) fn priority(tier: Option<&str>) -> Result<Priority, Refusal> {
    match tier {
        Some("priority") => Ok(Priority::Urgent),
        Some("flex") => Ok(Priority::Batch),
        None | Some("auto" | "default" | "scale") => Ok(Priority::Normal),
        Some(other) => {
            let expected = "expected auto, default, flex, priority or scale";
            Err(Refusal::invalid(format!("service_tier: {other:?}; {expected}")))
        }
    }
}

/// Texts that end an answer.
///
/// # Errors
/// When there are more, or longer ones, than are looked for after each token.
pub(super) fn stops(given: Option<OneOrMany>) -> Result<Vec<String>, Refusal> {
    let stops = given.map_or_else(Vec::new, OneOrMany::into_list);
    if stops.len() > STOPS_MAX || stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
        let expected = format!("stop: expected at most {STOPS_MAX} texts of at most {STOP_BYTES_MAX} bytes");
        return Err(Refusal::invalid(expected));
    }
    Ok(stops)
}

impl StreamOptions {
    /// Whether a stream ends with what it used.
    pub const fn wants_usage(&self) -> bool {
        self.include_usage
    }
}

impl ChatRequest {
    /// Whether a stream ends with what it used.
    pub fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(StreamOptions::wants_usage)
    }

    pub fn is_streamed(&self) -> bool {
        self.stream == Some(true)
    }

    /// Before whom it is answered.
    ///
    /// # Errors
    /// When its service tier is none.
    pub fn priority(&self) -> Result<Priority, Refusal> {
        priority(self.service_tier.as_deref())
    }

    /// # Errors
    /// Names the field that a local model cannot do.
    pub fn into_request(self) -> Result<Request, Refusal> {
        fields::check(&self.rest)?;
        if self.n.is_some_and(|n| n != 1) {
            return Err(Refusal::invalid("n: a local model gives one answer"));
        }
        if self.top_logprobs.is_some_and(|top| top > TOP_LOGPROBS_MAX || self.logprobs != Some(true)) {
            let expected = format!("top_logprobs: expected 0 to {TOP_LOGPROBS_MAX}, with logprobs true");
            return Err(Refusal::invalid(expected));
        }
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        };
        sampling.check().map_err(Refusal::invalid)?;
        let tools = tools(self.tools.unwrap_or_default())?;
        let tool_choice = match self.tool_choice {
            None => ToolChoice::Auto,
            Some(choice) => choice.parse(&tools)?,
        };
        let messages: Vec<Message> =
            self.messages.into_iter().enumerate().map(|(at, message)| message.parse(at)).collect::<Result<_, _>>()?;
        if messages.is_empty() {
            return Err(Refusal::invalid("messages: expected at least one"));
        }
        let schema = match self.response_format {
            None | Some(ResponseFormat::Text) => None,
            Some(ResponseFormat::JsonObject) => Some(json!({"type": "object"})),
            Some(ResponseFormat::JsonSchema { json_schema }) => {
                let schema = json_schema.schema.unwrap_or_else(|| json!({"type": "object"}));
                jsonschema::validator_for(&schema).map_err(|error| {
                    let why = words::of_schema(&error);
                    Refusal::invalid(format!("response_format.json_schema.schema: not a JSON schema: {why}"))
                })?;
                Some(schema)
            }
        };
        let stop = stops(self.stop)?;
        if schema.is_some() && !stop.is_empty() {
            return Err(Refusal::invalid("stop: not beside a response_format, whose value ends where it is whole"));
        }
        let defaults = Request::default();
        Ok(Request {
            messages,
            max_tokens: self.max_completion_tokens.or(self.max_tokens).unwrap_or(MAX_TOKENS),
            sampling,
            seed: self.seed.map_or_else(super::chance, i64::cast_unsigned),
            stop,
            schema,
            tools,
            tool_choice,
            single_call: self.parallel_tool_calls == Some(false),
            logprobs: self.logprobs.and_then(|asked| asked.then(|| self.top_logprobs.unwrap_or(0))),
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
            "tool" => Role::Tool,
            other => {
                let expected = "expected system, developer, user, assistant or tool";
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
        let calls = self.tool_calls.unwrap_or_default();
        let calls: Result<Vec<ToolCall>, Refusal> = calls.into_iter().map(|call| call.parse(at)).collect();
        Ok(Message { role, content: with_calls(&content, &calls?) })
    }
}

/// Tools as they are called by name.
///
/// # Errors
/// Where a name is none that OpenAI's interface has, or there twice, or a tool takes what is no object.
fn tools(given: Vec<GivenTool>) -> Result<Vec<Tool>, Refusal> {
    let tools: Vec<Tool> = given.into_iter().map(GivenTool::into_tool).collect();
    let is_name = |name: &str| {
        (1..=TOOL_NAME_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    for (at, Tool { name, parameters, .. }) in tools.iter().enumerate() {
        let refused = |field: &str, why: String| Err(Refusal::invalid(format!("tools[{at}].function.{field}: {why}")));
        if !is_name(name) {
            return refused("name", format!("{name:?}; expected 1 to {TOOL_NAME_MAX} of a-z, A-Z, 0-9, _ and -"));
        }
        if tools[..at].iter().any(|other| other.name == *name) {
            return refused("name", format!("{name:?}; another tool has it"));
        }
        if !parameters.is_object() {
            return refused("parameters", "expected a JSON schema of an object".to_owned());
        }
        if parameters.get("type").is_some_and(|kind| kind != "object") {
            return refused("parameters", "the type is not object; arguments are one".to_owned());
        }
    }
    Ok(tools)
}

impl GivenTool {
    fn into_tool(self) -> Tool {
        let GivenFunction { name, description, parameters } = self.function;
        let nothing = || json!({"type": "object", "properties": {}, "additionalProperties": false});
        let mut parameters = parameters.filter(|given| *given != json!({})).unwrap_or_else(nothing);
        // Arguments are an object, whether the schema says so or not.
        if let Some(schema) = parameters.as_object_mut() {
            schema.entry("type").or_insert_with(|| "object".into());
        }
        Tool { name, description, parameters }
    }
}

impl GivenChoice {
    fn parse(self, tools: &[Tool]) -> Result<ToolChoice, Refusal> {
        let choice = match self {
            Self::Word(word) => match word.as_str() {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                "required" => ToolChoice::Required,
                other => {
                    let expected = "expected auto, none, required or a function";
                    return Err(Refusal::invalid(format!("tool_choice: {other:?}; {expected}")));
                }
            },
            Self::Function { function } => ToolChoice::Named(function.name),
        };
        match choice {
            ToolChoice::Required | ToolChoice::Named(_) if tools.is_empty() => {
                Err(Refusal::invalid("tool_choice: there are no tools"))
            }
            choice => Ok(choice),
        }
    }
}

impl GivenCall {
    fn parse(self, at: usize) -> Result<ToolCall, Refusal> {
        let CalledFunction { name, arguments } = self.function;
        let text = if arguments.trim().is_empty() { "{}" } else { &arguments };
        let arguments = serde_json::from_str(text).map_err(|error| {
            Refusal::invalid(format!("messages[{at}].tool_calls: arguments of {name:?} are no JSON: {error}"))
        })?;
        Ok(ToolCall { name, arguments })
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
