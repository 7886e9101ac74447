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

/// As long as a topic may be; longer names are commands, whose text is told with what was sent.
const NAME_BYTES_MAX: usize = 1_024;

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
        let resource = self.named(target.kind, &target.name);
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

    /// A target as the ledger may name it. What an expression makes, such as a command, a topic or the address of a tool's
    /// resource, may have data in it.
    fn named(&self, kind: TargetKind, name: &str) -> String {
        use TargetKind::{Command, RemoteTopic, Tool, Topic};
        let name = self.hidden().strike(name);
        match (kind, self.keep) {
            (Command | Tool | Topic | RemoteTopic, Keep::Digest) => Digest::of(name.as_bytes()).to_string(),
            _ if name.len() <= NAME_BYTES_MAX => name,
            _ => {
                let end = name.floor_char_boundary(NAME_BYTES_MAX);
                format!("{}... ({} bytes)", &name[..end], name.len())
            }
        }
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
        let topic = self.trail.named(TargetKind::Topic, &topic);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the ledger says of a target and of a message to it, when a secret stands in its name.
    fn told(keep: Keep, kind: TargetKind, name: &str) -> (String, String) {
        let refuse = |_, target| {
            Err(Refusal { target: Box::new(target), rules: Vec::new(), reason: "no rule permits it".to_owned() })
        };
        let trail = Trail::new(Label::default(), keep, refuse);
        trail.hide("erp", &json!("s3cret"));
        assert!(trail.ask(Action::Publish, Target::new(kind, name)).is_err());
        trail.begin("publish", "").published(name.to_owned(), "", "key");
        match &trail.facts()[..] {
            [Fact::PolicyDecided { resource, .. }, Fact::MessagePublished { topic, .. }] => {
                (resource.clone(), topic.clone())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_in_a_topic_is_struck_out_and_a_long_one_is_cut() {
        let both = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(told(Keep::Text, TargetKind::Topic, "a/s3cret/b"), both("a/[secret erp]/b"));
        let long = "x".repeat(5_000);
        assert_eq!(told(Keep::Text, TargetKind::Topic, &long), both(&format!("{}... (5000 bytes)", &long[..1_024])));
    }

    #[test]
    fn names_that_may_have_data_in_them_are_digested_where_text_is_not_kept() {
        let digest = Digest::of(b"patients/ann").to_string();
        for kind in [TargetKind::Command, TargetKind::Tool, TargetKind::Topic, TargetKind::RemoteTopic] {
            assert_eq!(told(Keep::Digest, kind, "patients/ann"), (digest.clone(), digest.clone()), "{kind:?}");
        }
        assert_eq!(told(Keep::Digest, TargetKind::Host, "erp.example").0, "erp.example");
    }
}
