//! One call to one chosen target: sent, checked against the schema, mended once, and told to the ledger.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use edge_core::engine::effect::{Call, Error as Dsl, Keep, kind};
use models::generate::{Message, Request, with_passages};
use serde_json::{Value, json};
use shared::{ledger::entry::Fact, time::Timestamp};

use super::{Inference, LOCAL_TIMEOUT, answer, ask::Ask, local, provider, tokens_estimate};

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
pub(super) enum Fault {
    /// It cannot be reached now; its breaker knows.
    Down(String),
    /// It can be reached and will not serve this node: the key.
    Key(String),
    /// It cannot serve this request.
    Rejected {
        status: u16,
        detail: String,
    },
    /// Its answer does not fit the schema, mended once.
    Misfit(String),
    Timeout(String),
    /// A local model failed.
    Broken(String),
}

/// What a model said, whichever it was.
struct Said {
    text: String,
    model: String,
    tokens_in: u64,
    tokens_out: u64,
    cost_micro_usd: u64,
}

impl Inference {
    /// Calls the target and makes the task's output of its answer.
    pub(super) async fn call(&self, asked: &Asked<'_>, now: Timestamp, facts: &mut Vec<Fact>) -> Result<Value, Fault> {
        let left = asked.call.deadline.map(|deadline| deadline.since(now));
        let ends = Instant::now() + left.unwrap_or(LOCAL_TIMEOUT);
        let mut messages = asked.ask.messages.clone();
        let mut total: Option<Said> = None;
        loop {
            let said = self.ask_once(asked, &messages, left.map(|_| ends), facts).await?;
            let said = match total.take() {
                None => said,
                Some(first) => said.plus(&first),
            };
            let Some(schema) = &asked.ask.schema else { return Ok(plain(asked, &said)) };
            match answer::parse(&said.text, schema) {
                Ok(value) => return Ok(value),
                // Its own messages and two more: this was the second try already.
                Err(faults) if messages.len() > asked.ask.messages.len() => {
                    return Err(Fault::Misfit(format!(
                        "{}: the answer does not fit the schema: {faults}",
                        asked.target
                    )));
                }
                Err(faults) => {
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
        let outcome = match self.provider(asked.target) {
            Some(_) => self.ask_provider(asked, messages, left).await,
            None => self.ask_local(asked, messages, left.unwrap_or(LOCAL_TIMEOUT)).await,
        };
        let said = outcome?;
        let took = began.elapsed();
        self.note(asked.target, |record| record.answered(took, crate::clock::now()));
        facts.push(Fact::ModelCalled {
            target: asked.target.to_owned(),
            model: said.model.clone(),
            prompt: asked.keep.content(&sent(asked.ask, messages)),
            answer: asked.keep.content(&said.text),
            tokens_in: said.tokens_in,
            tokens_out: said.tokens_out,
            cost_micro_usd: said.cost_micro_usd,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        Ok(said)
    }

    async fn ask_provider(
        &self,
        asked: &Asked<'_>,
        messages: &[Message],
        left: Option<Duration>,
    ) -> Result<Said, Fault> {
        let target = self.provider(asked.target).expect("the caller found the provider under this name");
        let prompt = provider::Prompt {
            messages: with_passages(messages, &asked.ask.passages),
            max_tokens: asked.ask.max_tokens,
            temperature: asked.ask.temperature,
            schema: asked.ask.schema.clone(),
        };
        let within = left.unwrap_or(target.timeout);
        let reply = match provider::complete(self.http(), target, &prompt, within).await {
            Ok(reply) => reply,
            Err(fault) => return Err(self.provider_fault(asked.target, fault, left.is_some())),
        };
        let estimate = || prompt.messages.iter().map(|m| tokens_estimate(&m.content)).sum();
        let tokens_in = reply.tokens_in.unwrap_or_else(estimate);
        let tokens_out = reply.tokens_out.unwrap_or_else(|| tokens_estimate(&reply.text));
        Ok(Said {
            text: reply.text,
            model: target.model.clone(),
            tokens_in,
            tokens_out,
            cost_micro_usd: target.cost_micro_usd(tokens_in, tokens_out),
        })
    }

    async fn ask_local(&self, asked: &Asked<'_>, messages: &[Message], within: Duration) -> Result<Said, Fault> {
        let worker = self.inner.workers.iter().find(|worker| worker.name() == asked.target);
        let worker = worker.expect("a target that is no provider has a worker");
        #[expect(clippy::cast_possible_truncation, reason = "checked to be 0 to 2")]
        let request = Request {
            messages: messages.to_vec(),
            passages: asked.ask.passages.clone(),
            max_tokens: asked.ask.max_tokens as usize,
            temperature: asked.ask.temperature.unwrap_or(0.0) as f32,
            schema: asked.ask.schema.clone(),
            ..Request::default()
        };
        let answer = worker.ask(request, Box::new(|_| ControlFlow::Continue(())), within).await;
        let answer = answer.map_err(|error| match error {
            local::Error::Timeout { .. } => Fault::Timeout(format!("{}: {error}", asked.target)),
            error => Fault::Broken(format!("{}: {}", asked.target, chain(&error))),
        })?;
        Ok(Said {
            text: answer.text,
            model: asked.target.to_owned(),
            tokens_in: answer.tokens_in as u64,
            tokens_out: answer.tokens_out as u64,
            cost_micro_usd: 0,
        })
    }

    /// Notes what the fault says of the target's health.
    fn provider_fault(&self, target: &str, fault: provider::Fault, has_deadline: bool) -> Fault {
        let detail = format!("{target}: {fault}");
        let down = |rest| self.note(target, |record| record.failed(fault.to_string(), rest, crate::clock::now()));
        match &fault {
            provider::Fault::Unreachable { retry_after, .. } => {
                down(*retry_after);
                Fault::Down(detail)
            }
            provider::Fault::Garbled { .. } => {
                down(None);
                Fault::Down(detail)
            }
            // The task was in a hurry; that says little of the target.
            provider::Fault::Timeout { .. } if has_deadline => Fault::Timeout(detail),
            provider::Fault::Timeout { .. } => {
                down(None);
                Fault::Down(detail)
            }
            provider::Fault::Key { .. } => Fault::Key(detail),
            provider::Fault::Rejected { status, .. } => Fault::Rejected { status: *status, detail },
        }
    }
}

/// The output of a call without a schema.
fn plain(asked: &Asked<'_>, said: &Said) -> Value {
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

/// What went in, as the ledger's digest is over it: the messages as they were sent, passages included.
fn sent(ask: &Ask, messages: &[Message]) -> String {
    let line = |message: &Message| format!("{:?}: {}", message.role, message.content);
    with_passages(messages, &ask.passages).iter().map(line).collect::<Vec<_>>().join("\n\n")
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
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
        local::Error::Timeout { .. } => kind::TIMEOUT,
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
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Down(detail)
            | Self::Key(detail)
            | Self::Rejected { detail, .. }
            | Self::Misfit(detail)
            | Self::Timeout(detail)
            | Self::Broken(detail) => detail,
        }
    }

    /// Whether another target would do no better.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    pub(super) fn error(&self, call: &Call) -> Dsl {
        let (uri, status) = match self {
            Self::Down(_) => kind::COMMUNICATION,
            Self::Key(_) => kind::AUTHENTICATION,
            Self::Rejected { status, .. } => (kind::COMMUNICATION.0, *status),
            Self::Misfit(_) => kind::VALIDATION,
            Self::Timeout(_) => kind::TIMEOUT,
            Self::Broken(_) => kind::RUNTIME,
        };
        Dsl::new((uri, status), format!("infer of {}: {}", call.task, self.detail()))
    }
}
