//! What stands between a caller and a model: a label, a permit, and the ledger. The policy's word is durable before the
//! model is asked, the call before its answer is given.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, StatusCode};
use edge_core::engine::effect::{self, Keep, kind};
use models::generate::{Answer, Finish, Message, with_calls};
use shared::{
    label::{DataClass, Label, is_jurisdiction},
    ledger::entry::{CallEnd, Content, Entry, Fact},
    policy::{self, Action, Permit, Target, TargetKind},
};

use super::Refusal;
use crate::{clock, store::Store};

/// The workflow as which policy sees every call of this endpoint: `Workflow::"node/openai"`.
pub const WORKFLOW: &str = "node/openai";

/// The header in which a caller says what its data demands: a label as JSON.
const LABEL_HEADER: &str = "skerry-label";

/// The status of a call whose caller has gone, which nobody is there to read (nginx has it so).
const GONE: u16 = 499;

/// What becomes of a call when its caller has gone.
pub(super) fn nobody_waits() -> effect::Error {
    effect::Error::new((kind::RUNTIME.0, GONE), "nobody waits for the answer any more")
}

/// Asks policy whether this workflow may do this with data so labelled.
pub type Decide = Arc<dyn Fn(Action, Target, &str, &Label) -> Result<Permit, policy::Refusal> + Send + Sync>;

/// Lets calls through that policy permits, and tells the ledger of them and of the others.
#[derive(Clone)]
pub struct Gate {
    pub store: Store,
    pub decide: Decide,
    /// What all that comes in here demands at least; `None`: the caller says, and where it says nothing the strictest holds.
    pub label: Option<Label>,
    pub jurisdiction: String,
}

/// A call that policy permits.
#[derive(Clone)]
pub(super) struct Admitted {
    pub permit: Permit,
    keep: Keep,
}

impl Gate {
    /// Asks policy, and writes down what it said.
    pub(super) async fn admit(&self, action: Action, target: &str, headers: &HeaderMap) -> Result<Admitted, Refusal> {
        let label = self.label(headers)?;
        let decided = (self.decide)(action, Target::new(TargetKind::Local, target), WORKFLOW, &label);
        let (allowed, rules) = match &decided {
            Ok(permit) => (true, permit.rules().to_vec()),
            Err(refusal) => (false, refusal.rules.clone()),
        };
        let (name, resource) = (action.name().to_owned(), target.to_owned());
        self.tell(Fact::PolicyDecided { action: name, resource, allowed, rules, label: label.clone() }).await?;
        let permit = decided.map_err(|refusal| Refusal {
            status: StatusCode::FORBIDDEN,
            kind: "permission_error",
            code: Some("policy_refused"),
            message: refusal.reason,
        })?;
        let ledger = Target::new(TargetKind::Local, "ledger");
        let keep = match (self.decide)(Action::KeepText, ledger, WORKFLOW, &label) {
            Ok(_) => Keep::Text,
            Err(_) => Keep::Digest,
        };
        Ok(Admitted { permit, keep })
    }

    fn label(&self, headers: &HeaderMap) -> Result<Label, Refusal> {
        let given = headers.get(LABEL_HEADER).map(|value| {
            let expected = r#"expected JSON such as {"class": "internal", "origins": ["CH"], "personal": false}"#;
            let text = value.to_str().map_err(|error| error.to_string());
            let label = text.and_then(|text| serde_json::from_str::<Label>(text).map_err(|error| error.to_string()));
            let label = label.and_then(|label| match label.origins.iter().find(|code| !is_jurisdiction(code)) {
                Some(code) => Err(format!("{code:?} is no jurisdiction")),
                None => Ok(label),
            });
            label.map_err(|error| Refusal::invalid(format!("the header {LABEL_HEADER}: {error}; {expected}")))
        });
        Ok(match (&self.label, given.transpose()?) {
            (Some(floor), Some(given)) => floor.join(&given),
            (Some(floor), None) => floor.clone(),
            (None, Some(given)) => given,
            (None, None) => {
                Label { class: DataClass::Restricted, origins: [self.jurisdiction.clone()].into(), personal: true }
            }
        })
    }

    /// Appends to the ledger; durable when it returns.
    pub(super) async fn tell(&self, fact: Fact) -> Result<(), Refusal> {
        let entry = Entry { at: clock::now(), run: None, task: None, fact };
        let written = self.store.write("record a call", move |tx| Ok(tx.append(&entry).map(drop)?)).await;
        written.map_err(|error| {
            tracing::error!(%error, "a call cannot be recorded, so it is not served");
            Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                kind: "server_error",
                code: Some("not_recorded"),
                message: "the node cannot record this call now, so it is not served; its log says why".to_owned(),
            }
        })
    }
}

/// What the model has said so far, for an answer that ends in the middle; nothing before it has begun.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<Option<String>>>);

impl Said {
    pub fn push(&self, text: &str) {
        self.lock().get_or_insert_default().push_str(text);
    }

    pub fn has_begun(&self) -> bool {
        self.lock().is_some()
    }

    fn text(&self) -> String {
        self.lock().clone().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// The entry of a chat, however it ended.
    pub fn chatted(
        &self,
        messages: &str,
        outcome: &Result<Answer, effect::Error>,
        said: &Said,
        took: Duration,
    ) -> Fact {
        match outcome {
            Ok(answer) => {
                let ended = match answer.finish {
                    Finish::Cancelled => CallEnd::Cancelled,
                    Finish::Stop | Finish::Length => CallEnd::Answered,
                };
                self.called(
                    messages,
                    self.content(&with_calls(&answer.text, &answer.calls)),
                    ended,
                    (answer.tokens_in, answer.tokens_out),
                    took,
                )
            }
            Err(error) => self.called(messages, self.content(&said.text()), ended(error), (0, 0), took),
        }
    }

    /// The entry of one request to this call's target.
    pub fn called(
        &self,
        prompt: &str,
        answer: Content,
        ended: CallEnd,
        tokens: (usize, usize),
        took: Duration,
    ) -> Fact {
        let target = &self.permit.target().name;
        Fact::ModelCalled {
            target: target.clone(),
            model: target.clone(),
            prompt: self.content(prompt),
            answer,
            ended,
            tokens_in: tokens.0 as u64,
            tokens_out: tokens.1 as u64,
            cost_micro_usd: 0,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub fn content(&self, text: &str) -> Content {
        self.keep.content(text)
    }
}

/// How a call ended that was not answered.
pub(super) const fn ended(error: &effect::Error) -> CallEnd {
    match error.status {
        GONE => CallEnd::Cancelled,
        408 => CallEnd::TimedOut,
        400 | 413 => CallEnd::Refused,
        _ => CallEnd::Failed,
    }
}

/// What went in, as the ledger's digest is over it: the same form as of a workflow's call.
pub(super) fn sent(messages: &[Message]) -> String {
    let line = |message: &Message| format!("{:?}: {}", message.role, message.content);
    messages.iter().map(line).collect::<Vec<_>>().join("\n\n")
}
