//! One call to one chosen target: sent, checked against the schema, mended once, and told to the ledger.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use edge_core::{
    admit::Refused,
    engine::{
        ToolCall,
        effect::{Call, Error as Dsl, Keep, kind},
    },
};
use models::generate::{self, Message, Request, Sampling, with_passages};
use serde_json::{Value, json};
use shared::{
    ledger::entry::{CallEnd, Fact},
    time::Timestamp,
};

use super::{
    Inference, LOCAL_TIMEOUT, answer,
    ask::{self, Ask},
    chat, local, provider, tokens_estimate,
};

/// A model on this node that cannot answer now and may later: as HTTP says it.
const UNAVAILABLE: (&str, u16) = (kind::COMMUNICATION.0, 503);
/// One before which too many wait.
const CROWDED: (&str, u16) = (kind::COMMUNICATION.0, 429);

/// One call as it goes to one target.
pub(super) struct Asked<'a> {
    pub call: &'a Call,
    pub ask: &'a Ask,
    pub target: &'a str,
    pub degraded: bool,
    pub keep: Keep,
}

/// Why this target gave no answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub kind: FaultKind,
    /// For the task's error. It may quote the data.
    detail: String,
    /// For the reasons of the next route, which the ledger always keeps: it quotes nothing.
    brief: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// It cannot be reached now; its breaker knows.
    Down,
    /// It can be reached and will not serve this node: the key.
    Key,
    /// It cannot serve this request, and answered with this status.
    Rejected(u16),
    /// Its answer does not fit the schema, mended once.
    Misfit,
    Timeout,
    /// A model on this node has no time or no place for it now.
    Busy,
    /// There is no room for the model in memory; its breaker knows.
    NoRoom,
    /// The model is larger than the memory that it may have: no waiting helps.
    TooLarge,
    /// A local model does not take the request, such as a schema that no value fits.
    Unfit,
    /// The prompt is longer than a local model's context.
    TooLong,
    /// A local model failed.
    Broken,
    /// It cannot call tools.
    Toolless,
}

impl FaultKind {
    /// Whether it passes by itself: the target may answer later.
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::Down | Self::Busy | Self::NoRoom)
    }
}

/// What a model said, whichever it was.
pub(super) struct Said {
    text: String,
    pub calls: Vec<ToolCall>,
    model: String,
    tokens_in: u64,
    tokens_out: u64,
    cost_micro_usd: u64,
}

impl Inference {
    /// Calls the target and makes the task's output of its answer.
    pub(super) async fn call(&self, asked: &Asked<'_>, now: Timestamp, facts: &mut Vec<Fact>) -> Result<Value, Fault> {
        if let Some(chat) = &asked.ask.chat {
            return self.converse(asked, chat, now, facts).await;
        }
        let (said, value) = self.fitting(asked, now, facts).await?;
        Ok(value.unwrap_or_else(|| plain(asked, &said)))
    }

    /// Calls the target until its answer fits the schema, if there is one, or was mended once.
    pub(super) async fn fitting(
        &self,
        asked: &Asked<'_>,
        now: Timestamp,
        facts: &mut Vec<Fact>,
    ) -> Result<(Said, Option<Value>), Fault> {
        let left = asked.call.gives_up_at().map(|end| end.since(now));
        let ends = Instant::now() + left.unwrap_or(LOCAL_TIMEOUT);
        let mut messages = asked.ask.messages.clone();
        let mut total: Option<Said> = None;
        loop {
            let said = self.ask_once(asked, &messages, left.map(|_| ends), facts).await?;
            let said = match total.take() {
                None => said,
                Some(first) => said.plus(&first),
            };
            let Some(schema) = &asked.ask.schema else { return Ok((said, None)) };
            match answer::parse(&said.text, schema) {
                Ok(value) => return Ok((said, Some(value))),
                // Its own messages and two more: this was the second try already.
                Err(faults) if messages.len() > asked.ask.messages.len() => {
                    misfit(facts);
                    let brief = "the answer does not fit the schema";
                    return Err(Fault::new(FaultKind::Misfit, asked.target, brief, &format!("{brief}: {faults}")));
                }
                Err(faults) => {
                    misfit(facts);
                    messages = answer::repair(&messages, &said.text, &faults);
                    total = Some(said);
                }
            }
        }
    }

    async fn ask_once(
        &self,
        asked: &Asked<'_>,
        messages: &[Message],
        ends: Option<Instant>,
        facts: &mut Vec<Fact>,
    ) -> Result<Said, Fault> {
        let began = Instant::now();
        let left = ends.map(|ends| ends.saturating_duration_since(began));
        let said = match self.provider(asked.target) {
            Some(_) => self.ask_provider(asked, messages, left, facts).await?,
            None => self.ask_local(asked, messages, left.unwrap_or(LOCAL_TIMEOUT), facts).await?,
        };
        self.note(asked.target, |record| record.answered(began.elapsed(), crate::clock::now()));
        Ok(said)
    }

    async fn ask_provider(
        &self,
        asked: &Asked<'_>,
        messages: &[Message],
        left: Option<Duration>,
        facts: &mut Vec<Fact>,
    ) -> Result<Said, Fault> {
        let target = self.provider(asked.target).expect("the caller found the provider under this name");
        let prompt = provider::Prompt {
            messages: with_passages(messages, &asked.ask.passages),
            chat: asked.ask.chat.clone(),
            max_tokens: asked.ask.max_tokens,
            sampling: asked.ask.sampling.clone(),
            schema: asked.ask.schema.clone(),
        };
        let within = left.unwrap_or(target.timeout);
        let (outcome, requests) = provider::complete(self.http(), target, &prompt, within).await;
        let said = |reply: &provider::Reply| {
            let estimate = || prompt.messages.iter().map(|m| tokens_estimate(&m.content)).sum();
            // Of a request that brought nothing the provider alone knows what it cost.
            let calls = reply.tool_calls();
            let text = chat::words(&reply.text, &calls);
            let is_known = reply.ended || !text.is_empty();
            let tokens_in = reply.tokens_in.unwrap_or_else(|| if is_known { estimate() } else { 0 });
            let tokens_out = reply.tokens_out.unwrap_or_else(|| tokens_estimate(&text));
            let cost_micro_usd = target.cost_micro_usd(tokens_in, tokens_out);
            Said { text: reply.text.clone(), calls, model: target.model.clone(), tokens_in, tokens_out, cost_micro_usd }
        };
        for request in &requests {
            // The reply as the protocol's reader left it, which for a whole answer is what the task gets.
            let reply = outcome.as_ref().ok().filter(|_| request.ended.is_answered()).unwrap_or(&request.reply);
            facts.push(called(asked, messages, &said(reply), request.ended, request.took));
        }
        match outcome {
            Ok(reply) => Ok(said(&reply)),
            Err(fault) => Err(self.provider_fault(asked.target, &fault, left.is_some())),
        }
    }

    async fn ask_local(
        &self,
        asked: &Asked<'_>,
        messages: &[Message],
        within: Duration,
        facts: &mut Vec<Fact>,
    ) -> Result<Said, Fault> {
        let worker = self.worker(asked.target).expect("a target that is no provider has a worker");
        let request = request(asked.ask, messages);
        let began = Instant::now();
        let answer = worker.ask(request, Box::new(|_| ControlFlow::Continue(())), within, asked.ask.priority).await;
        let model = asked.target.to_owned();
        match answer {
            Ok(answer) => {
                let (tokens_in, tokens_out) = (answer.tokens_in as u64, answer.tokens_out as u64);
                let call = |call: generate::ToolCall| ToolCall {
                    id: String::new(),
                    name: call.name,
                    arguments: call.arguments,
                };
                let calls = answer.calls.into_iter().map(call).collect();
                let said = Said { text: answer.text, calls, model, tokens_in, tokens_out, cost_micro_usd: 0 };
                facts.push(called(asked, messages, &said, CallEnd::Answered, began.elapsed()));
                Ok(said)
            }
            Err(error) if error.is_unasked() => {
                let brief = error.brief();
                let kind = match error {
                    error if error.is_too_large() => FaultKind::TooLarge,
                    error if error.is_without_room() => {
                        self.note(asked.target, |record| record.failed(brief.clone(), None, crate::clock::now()));
                        FaultKind::NoRoom
                    }
                    _ => FaultKind::Busy,
                };
                Err(Fault::new(kind, asked.target, &brief, &brief))
            }
            Err(error) => {
                let nothing = Said {
                    text: String::new(),
                    calls: Vec::new(),
                    model,
                    tokens_in: 0,
                    tokens_out: 0,
                    cost_micro_usd: 0,
                };
                facts.push(called(asked, messages, &nothing, error.ended(), began.elapsed()));
                Err(match error {
                    local::Error::Timeout { .. } => {
                        Fault::new(FaultKind::Timeout, asked.target, &error.to_string(), &error.to_string())
                    }
                    local::Error::Generate(models::Error::Request { .. }) => {
                        Fault::new(FaultKind::Unfit, asked.target, &error.brief(), &chain(&error))
                    }
                    local::Error::Generate(models::Error::TooLong { .. }) => {
                        Fault::new(FaultKind::TooLong, asked.target, &error.brief(), &chain(&error))
                    }
                    error => Fault::new(FaultKind::Broken, asked.target, &error.brief(), &chain(&error)),
                })
            }
        }
    }

    /// Notes what the fault says of the target's health.
    fn provider_fault(&self, target: &str, fault: &provider::Fault, has_deadline: bool) -> Fault {
        let brief = fault.brief();
        let down = |rest| self.note(target, |record| record.failed(brief.clone(), rest, crate::clock::now()));
        let kind = match fault {
            provider::Fault::Unreachable { retry_after, .. } => {
                down(*retry_after);
                FaultKind::Down
            }
            provider::Fault::Garbled { .. } => {
                down(None);
                FaultKind::Down
            }
            // The task was in a hurry; that says little of the target.
            provider::Fault::Timeout { .. } if has_deadline => FaultKind::Timeout,
            provider::Fault::Timeout { .. } => {
                down(None);
                FaultKind::Down
            }
            provider::Fault::Key { .. } => FaultKind::Key,
            provider::Fault::Rejected { status, .. } => FaultKind::Rejected(*status),
        };
        Fault::new(kind, target, &brief, &fault.to_string())
    }
}

/// What the ledger says of one request.
fn called(asked: &Asked<'_>, messages: &[Message], said: &Said, ended: CallEnd, took: Duration) -> Fact {
    Fact::ModelCalled {
        target: asked.target.to_owned(),
        model: said.model.clone(),
        prompt: asked.keep.content(&sent(asked.ask, messages)),
        answer: asked.keep.content(&chat::words(&said.text, &said.calls)),
        ended,
        tokens_in: said.tokens_in,
        tokens_out: said.tokens_out,
        cost_micro_usd: said.cost_micro_usd,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Says of the call before that its answer was not what was asked for.
fn misfit(facts: &mut [Fact]) {
    if let Some(Fact::ModelCalled { ended, .. }) = facts.last_mut() {
        *ended = CallEnd::Misfit;
    }
}

/// The output of a call without a schema.
pub(super) fn plain(asked: &Asked<'_>, said: &Said) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a cost is far below 2^52 micro-USD")]
    let cost = said.cost_micro_usd as f64 / 1e6;
    json!({
        "text": said.text,
        "target": asked.target,
        "model": said.model,
        "degraded": asked.degraded,
        "usage": {"tokensIn": said.tokens_in, "tokensOut": said.tokens_out, "costUsd": cost},
    })
}

/// What a model on this node is asked.
#[expect(clippy::cast_possible_truncation, reason = "they are checked to be 0 to 2")]
pub(super) fn request(ask: &Ask, messages: &[Message]) -> Request {
    let ask::Sampling { temperature, top_p, seed, drawn, ref stop } = ask.sampling;
    let sampling =
        Sampling { temperature: temperature.map(|t| t as f32), top_p: top_p.map(|p| p as f32), ..Sampling::default() };
    Request {
        messages: messages.to_vec(),
        passages: ask.passages.clone(),
        max_tokens: ask.max_tokens as usize,
        sampling,
        seed: seed.map_or(drawn, u64::from),
        stop: stop.clone(),
        schema: ask.schema.clone(),
        tools: ask.chat.as_ref().map(chat::Chat::local_tools).unwrap_or_default(),
        ..Request::default()
    }
}

/// What went in, as the ledger's digest is over it: the messages as they were sent, passages included.
fn sent(ask: &Ask, messages: &[Message]) -> String {
    let line = |message: &Message| format!("{:?}: {}", message.role, message.content);
    with_passages(messages, &ask.passages).iter().map(line).collect::<Vec<_>>().join("\n\n")
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What the node's own endpoint says of a local model's failure.
pub(super) fn local_error(name: &str, error: &local::Error) -> Dsl {
    let kind = match error {
        local::Error::Generate(models::Error::Request { .. }) => kind::VALIDATION,
        local::Error::Generate(models::Error::TooLong { .. }) => kind::LIMIT,
        local::Error::Timeout { .. } => kind::TIMEOUT,
        local::Error::Refused(Refused::Full { .. } | Refused::Displaced) => CROWDED,
        error if error.is_too_large() => kind::CONFIGURATION,
        error if error.is_unasked() => UNAVAILABLE,
        _ => kind::RUNTIME,
    };
    Dsl::new(kind, format!("{name}: {}", chain(error)))
}

impl Said {
    /// The later answer with the tokens and cost of both.
    fn plus(self, first: &Self) -> Self {
        Self {
            tokens_in: self.tokens_in + first.tokens_in,
            tokens_out: self.tokens_out + first.tokens_out,
            cost_micro_usd: self.cost_micro_usd + first.cost_micro_usd,
            ..self
        }
    }
}

impl Fault {
    pub(super) fn new(kind: FaultKind, target: &str, brief: &str, detail: &str) -> Self {
        Self { kind, detail: format!("{target}: {detail}"), brief: format!("{target}: {brief}") }
    }

    /// What happened, without a word of what was sent or came back.
    pub(super) fn brief(&self) -> &str {
        &self.brief
    }

    /// Whether another target would do no better.
    pub(super) fn is_final(&self) -> bool {
        self.kind == FaultKind::Timeout
    }

    pub(super) fn error(&self, call: &Call) -> Dsl {
        let (uri, status) = match self.kind {
            FaultKind::Down => kind::COMMUNICATION,
            FaultKind::Key => kind::AUTHENTICATION,
            FaultKind::Rejected(status) => (kind::COMMUNICATION.0, status),
            FaultKind::Misfit | FaultKind::Unfit => kind::VALIDATION,
            FaultKind::Timeout => kind::TIMEOUT,
            FaultKind::Busy | FaultKind::NoRoom => UNAVAILABLE,
            FaultKind::Toolless | FaultKind::TooLarge => kind::CONFIGURATION,
            FaultKind::TooLong => kind::LIMIT,
            FaultKind::Broken => kind::RUNTIME,
        };
        Dsl::new((uri, status), format!("infer of {}: {}", call.task, self.detail))
    }
}
