//! Text from a model: the contract, and its front. A call blocks its thread for as long as the model computes;
//! whoever calls it from async code gives it a thread of its own.

mod chat;
mod extract;
mod passages;
mod shape;
mod stream;

use std::ops::ControlFlow;

pub use chat::{Compute, Held, Speed, Trial, load_gguf, load_gguf_with, measure, measure_held, read_speed};
pub use extract::{Extract, extract};
pub use passages::with_passages;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
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
    /// 0 takes the likeliest token always.
    pub temperature: f32,
    /// Keeps so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keeps the tokens that are at least so likely as this share of the likeliest; 0 keeps all.
    pub min_p: f32,
    /// The logit of a token among the last 64 is divided by it, or multiplied where it is negative; 1 changes nothing.
    pub repetition_penalty: f32,
    /// The same request with the same seed gives the same text on the same build.
    pub seed: u64,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// The answer is one JSON value that fits this schema.
    pub schema: Option<serde_json::Value>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            passages: Vec::new(),
            max_tokens: 512,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            schema: None,
        }
    }
}

impl Request {
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
    /// `max_tokens` or the context was full.
    Length,
    /// The receiver of the stream broke off.
    Cancelled,
}

/// What a generator answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    pub tokens_in: usize,
    pub tokens_out: usize,
    pub finish: Finish,
}

/// A model that writes text.
pub trait Generator: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// Writes the answer, giving each new piece of text to `on_text` as it comes; the pieces joined are the answer's text.
    /// `Break` ends the answer early with [`Finish::Cancelled`]. An empty piece says nothing and only asks whether to go on, while a
    /// long prompt is read.
    ///
    /// # Errors
    /// When the request cannot be served: no message, a prompt longer than the context, a schema outside what the
    /// generator supports.
    fn generate(&self, request: &Request, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Answer, Error>;
}
