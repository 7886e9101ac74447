//! Text from a model: the contract, and its front. A call blocks its thread for as long as the model computes;
//! whoever calls it from async code gives it a thread of its own.

mod chat;
mod extract;
mod passages;
mod shape;
mod stream;
mod tools;

use std::ops::ControlFlow;

pub use chat::{
    CacheRoom, Compute, Draft, Held, Needs, Speed, Trial, Unloaded, WriteDraft, load_gguf, measure, measure_held,
    open_gguf, read_speed,
};
pub use extract::{Extract, extract};
pub use passages::with_passages;
use serde::{Deserialize, Serialize};
pub use tools::{Tool, ToolCall, ToolChoice, with_calls};

use crate::Error;
pub use crate::decoder::Cache;

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    /// What a tool returned.
    Tool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

/// A piece of a document that the answer may rest on. The n-th passage is cited as `[n]`, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Passage {
    pub text: String,
    /// The document, as a path or title.
    #[serde(default)]
    pub document: String,
    /// Where in the document: a heading, a page, a line.
    #[serde(default)]
    pub place: String,
}

/// What is asked of a generator.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub messages: Vec<Message>,
    pub passages: Vec<Passage>,
    /// At most this many new tokens.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The same request with the same seed gives the same text on the same build.
    pub seed: u64,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// The answer is one JSON value that fits this schema.
    pub schema: Option<serde_json::Value>,
    /// What the model may ask to be called. Beside a schema the answer is calls or a value that fits it, as the model likes.
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    /// The answer ends with the first call.
    pub single_call: bool,
    /// The text of the last message is continued as it stands, without the form of a chat. The extractive generator knows no other form than
    /// a question.
    pub continues: bool,
    /// With a number, the answer tells how likely each of its tokens was, and so many of the likeliest in its place.
    pub logprobs: Option<usize>,
}

/// How tokens are drawn from the model's probabilities. What is not given changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0, or nothing, takes the likeliest token always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Keeps so many of the likeliest tokens; 0 keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum; 1 keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Keeps the tokens that are at least so likely as this share of the likeliest; 0 keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// The logit of a token among the last 64 is divided by it, or multiplied where it is negative; 1 changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
}

impl Sampling {
    /// What is given here, and the rest from there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            repetition_penalty: self.repetition_penalty.or(other.repetition_penalty),
        }
    }

    /// Whether each number lies where it means something.
    ///
    /// # Errors
    /// Names the field and what was expected.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: Option<f32>, least: f32, most: f32| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(format!("{name}: {value}: expected {least} to {most}"))
            }
            _ => Ok(()),
        };
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.5, 2.0)
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            passages: Vec::new(),
            max_tokens: 512,
            sampling: Sampling::default(),
            seed: 0,
            stop: Vec::new(),
            schema: None,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            single_call: false,
            continues: false,
            logprobs: None,
        }
    }
}

/// Alternatives that an answer tells for each token, at most: as many as OpenAI's interface has.
const TOP_MAX: usize = 20;

impl Request {
    /// Whether the answer may be calls of tools.
    pub(crate) fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// The schema that the answer's text has to fit, if there is one: where a call must come there is no such text.
    pub(crate) fn held_to(&self) -> Option<&serde_json::Value> {
        self.schema.as_ref().filter(|_| !self.may_call() || self.tool_choice == ToolChoice::Auto)
    }

    /// Whether the numbers in it lie where they mean something.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.sampling.check().map_err(Error::request)?;

        match self.logprobs {
            Some(top) if top > TOP_MAX => Err(Error::request(format!("logprobs: {top}: expected 0 to {TOP_MAX}"))),
            _ => Ok(()),
        }
    }

    /// One question by the user.
    #[must_use]
    pub fn ask(prompt: impl Into<String>) -> Self {
        Self { messages: vec![Message { role: Role::User, content: prompt.into() }], ..Self::default() }
    }
}

/// Why the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model was done, or a stop text came.
    Stop,
    /// `max_tokens` or the context was full. What was held to a schema fits it all the same.
    Length,
    /// The receiver of the stream broke off.
    Cancelled,
}

/// What a generator answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub text: String,
    /// The tools that the model wants called; their arguments fit what the tools take.
    pub calls: Vec<ToolCall>,
    pub tokens_in: usize,
    /// Of the prompt's tokens, those that an answer before had read.
    pub tokens_reused: usize,
    pub tokens_out: usize,
    pub finish: Finish,
    /// Of each token of the answer, when it was asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// How likely a token was.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// What it adds to the text; it may be a part of a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability as the model gives it, before temperature and what else changes it; 0 where a schema
    /// left no choice.
    pub logprob: f32,
    /// The likeliest tokens in its place, the likeliest first.
    pub top: Vec<(Vec<u8>, f32)>,
}

/// A model that writes text.
pub trait Generator: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// Bytes of keys and values that it keeps for prompts that begin like those before.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// Bytes of its weights that are mapped from a file: the kernel may let them go, and then every answer waits for the disk.
    fn mapped_bytes(&self) -> u64 {
        0
    }

    /// How many tokens of the prompt an answer would have to read now, those aside that are kept of answers before; `None` where that says
    /// nothing of the time. Splits the prompt and computes nothing.
    ///
    /// # Errors
    /// When its prompt is too long.
    fn unread(&self, _request: &Request) -> Result<Option<usize>, Error> {
        Ok(None)
    }

    /// Writes the answer, giving each new piece of text to `on_text` as it comes; the pieces joined are the answer's text.
    /// `Break` ends the answer early with [`Finish::Cancelled`]. An empty piece says nothing and only asks whether to go on, while a
    /// long prompt is read.
    ///
    /// # Errors
    /// When the request cannot be served: no message, a prompt longer than the context, a schema outside what the
    /// generator supports.
    fn generate(&self, request: &Request, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Answer, Error>;
}
