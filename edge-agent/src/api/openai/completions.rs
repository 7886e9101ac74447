//! Completions: a text that is continued as it stands, as OpenAI's older clients ask for it.

use axum::{extract::State, http::HeaderMap, response::Response};
use models::generate::{Request, Sampling};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Asked, Body, Handles, Refusal,
    envelope::{Envelope, Form},
    fields::{self, Rest},
    known, parse,
    request::{OneOrMany, StreamOptions, priority, stops},
    serve,
};

/// As long as OpenAI's interface writes where a request does not say.
const MAX_TOKENS: usize = 16;

/// A completion request.
#[derive(Deserialize)]
struct CompletionRequest {
    model: String,
    prompt: Prompt,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    /// This and the two below are not OpenAI's; servers of open models have them under these names.
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    n: Option<u32>,
    best_of: Option<u32>,
    echo: Option<bool>,
    suffix: Option<String>,
    logprobs: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    service_tier: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text (lists of tokens are not read)")]
enum Prompt {
    One(String),
    Many(Vec<String>),
}

pub(super) async fn complete(
    State(handles): State<Handles>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let asked: CompletionRequest = parse(body)?;
    let with_usage = asked.stream_options.as_ref().is_some_and(StreamOptions::wants_usage);
    let envelope = Envelope::new(Form::Text, known(&handles, &asked.model)?, with_usage);
    let (stream, priority) = (asked.stream == Some(true), priority(asked.service_tier.as_deref())?);
    let asked = Asked { request: asked.into_request()?, priority };
    serve(handles, &headers, envelope, asked, stream).await
}

impl CompletionRequest {
    /// # Errors
    /// Names the field that a local model cannot do.
    fn into_request(self) -> Result<Request, Refusal> {
        fields::check(&self.rest)?;
        let refused = [
            (self.n.is_some_and(|n| n != 1), "n: a local model gives one answer"),
            (self.best_of.is_some_and(|n| n != 1), "best_of: a local model gives one answer"),
            (self.echo == Some(true), "echo: the answer is what follows on the prompt alone"),
            (
                self.suffix.is_some_and(|suffix| !suffix.is_empty()),
                "suffix: a local model writes on at the end of a text",
            ),
            (self.logprobs.is_some_and(|asked| !asked.is_null()), "logprobs: chat completions tell them"),
        ];
        if let Some((_, message)) = refused.iter().find(|(is_asked, _)| *is_asked) {
            return Err(Refusal::invalid(*message));
        }
        let prompt = match self.prompt {
            Prompt::One(text) => text,
            Prompt::Many(mut texts) => match (texts.pop(), texts.is_empty()) {
                (Some(text), true) => text,
                _ => return Err(Refusal::invalid("prompt: expected one text; ask once for each")),
            },
        };
        if prompt.is_empty() {
            return Err(Refusal::invalid("prompt: empty; expected a text"));
        }
        let Self { temperature, top_k, top_p, min_p, repetition_penalty, .. } = self;
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty };
        sampling.check().map_err(Refusal::invalid)?;
        let defaults = Request::ask(prompt);
        Ok(Request {
            continues: true,
            max_tokens: self.max_tokens.unwrap_or(MAX_TOKENS),
            sampling,
            seed: self.seed.map_or_else(super::chance, i64::cast_unsigned),
            stop: stops(self.stop)?,
            ..defaults
        })
    }
}
