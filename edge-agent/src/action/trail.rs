//! What one call may do, and what is said of it: policy is asked here, and the ledger's facts gather here in the order
//! in which things happened, whether the call comes to a good end or not. Secrets are struck out of everything told.

use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use edge_core::engine::effect::{Failure, Keep, kind};
use serde_json::Value;
use shared::{
    digest::Digest,
    label::Label,
    ledger::entry::{Content, Fact},
    policy::{Action, Permit, Refusal, Target, TargetKind},
};

use super::secret::Hidden;

/// The question to policy: may this be done to that?
type Decide<'a> = dyn Fn(Action, Target) -> Result<Permit, Refusal> + Send + Sync + 'a;

/// The trail of one call.
pub struct Trail<'a> {
    decide: Box<Decide<'a>>,
    keep: Keep,
    label: Label,
    facts: Mutex<Vec<Fact>>,
    hidden: Mutex<Hidden>,
}

impl<'a> Trail<'a> {
    /// A call with data so labelled, of which the ledger may keep this much.
    pub fn new(
        label: Label,
        keep: Keep,
        decide: impl Fn(Action, Target) -> Result<Permit, Refusal> + Send + Sync + 'a,
    ) -> Self {
        let (facts, hidden) = Default::default();
        Self { decide: Box::new(decide), keep, label, facts, hidden }
    }

    #[must_use]
    pub const fn keep(&self) -> Keep {
        self.keep
    }

    /// Asks policy. The answer is a fact, a refusal too.
    ///
    /// # Errors
    /// When policy does not permit it.
    pub fn ask(&self, action: Action, target: Target) -> Result<Permit, Refusal> {
        let resource = match (target.kind, self.keep) {
            // A command may have data in it.
            (TargetKind::Command, Keep::Digest) => Digest::of(target.name.as_bytes()).to_string(),
            _ => self.hidden().strike(&target.name),
        };
        let decided = (self.decide)(action, target);
        let (allowed, rules) = match &decided {
            Ok(permit) => (true, permit.rules().to_vec()),
            Err(refusal) => (false, refusal.rules.clone()),
        };
        let (action, label) = (action.name().to_owned(), self.label.clone());
        self.tell(Fact::PolicyDecided { action, resource, allowed, rules, label });
        decided
    }

    /// Asks policy for what the call cannot go on without.
    ///
    /// # Errors
    /// `authorization` when policy does not permit it.
    pub fn permit(&self, action: Action, target: Target) -> Result<Permit, Failure> {
        self.ask(action, target).map_err(|refusal| {
            let reason = self.hidden().strike(&refusal.reason);
            Failure::new(kind::AUTHORIZATION, reason)
        })
    }

    pub fn tell(&self, fact: Fact) {
        self.facts.lock().expect("no thread panicked with the facts").push(fact);
    }

    /// Everything told, in order.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        std::mem::take(&mut *self.facts.lock().expect("no thread panicked with the facts"))
    }

    /// Something is about to go out: from here on there will be a fact of it, even if nobody waits for its end.
    pub(super) fn begin(&self, function: &str, input: &str) -> Sent<'_> {
        let input = self.content(input);
        Sent { trail: self, function: function.to_owned(), input, began: Instant::now(), is_told: false }
    }

    /// From here on this value is struck out of what is told.
    pub(super) fn hide(&self, name: &str, value: &Value) {
        self.hidden().add(name, value);
    }

    pub(super) fn hidden(&self) -> MutexGuard<'_, Hidden> {
        self.hidden.lock().expect("no thread panicked with the hidden values")
    }

    fn content(&self, text: &str) -> Content {
        self.keep.content(&self.hidden().strike(text))
    }
}

/// Something that went out. What came of it is told at its end; dropped without one (the deadline passed), that is told.
#[must_use]
pub(super) struct Sent<'t> {
    trail: &'t Trail<'t>,
    function: String,
    input: Content,
    began: Instant,
    is_told: bool,
}

impl Sent<'_> {
    /// It came to an end with this answer.
    pub(super) fn answered(mut self, output: &str) {
        self.tell(output);
    }

    /// It came to a bad end. It may have been received all the same.
    pub(super) fn failed(mut self, failure: &Failure) {
        self.tell(&failure.error.to_value().to_string());
    }

    /// The broker has acknowledged it.
    pub(super) fn published(mut self, topic: String, payload: &str, key: &str) {
        self.is_told = true;
        let payload = self.trail.content(payload);
        self.trail.tell(Fact::MessagePublished { topic, payload, key: key.to_owned() });
    }

    fn tell(&mut self, output: &str) {
        self.is_told = true;
        let output = self.trail.content(output);
        let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (function, input) = (std::mem::take(&mut self.function), self.input.clone());
        self.trail.tell(Fact::ToolCalled { function, input, output, duration_ms });
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell("no answer before the call was given up");
        }
    }
}
