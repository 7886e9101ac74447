//! From an effect to its outcome: policy is asked, then a room is called. Every answer of policy goes to the ledger, the
//! refusals too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, RwLock},
};

use edge_core::{
    engine::{
        CHAT,
        effect::{Call, Completion, Failure, Keep, kind},
    },
    guard::policy::Policies,
};
use futures::{FutureExt as _, future::BoxFuture};
use serde::Deserialize;
use serde_json::Value;
use shared::{
    label::Label,
    ledger::entry::Fact,
    policy::{Action, Permit, PolicySet, Refusal, Request, Target, TargetKind},
};

use super::{guard, places::Pace};
use crate::{
    action::{self, Trail},
    inference::Inference,
    learning::{self, Learning},
    memory::Memory,
};

/// What became of an effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done(Completion),
    /// It is up to a person now; the facts say by which rules the person may be asked.
    Ask {
        proposal: Proposal,
        facts: Vec<Fact>,
    },
}

/// What a person is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub role: String,
    pub title: String,
    /// Exactly what the person sees and decides on.
    pub shown: Value,
    pub keep: Keep,
}

/// Who performs effects: the node's rooms, or a test.
pub trait Perform: Send + Sync + 'static {
    /// Performs the call, or says why not. May be asked again with the same key after a restart.
    fn perform<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Outcome, Failure>>;

    /// Whether this call may start a run of this workflow (`namespace/name`): what the ledger says of it.
    ///
    /// # Errors
    /// `authorization`, with the same facts, when policy does not permit it.
    fn may_start(&self, call: &Call, workflow: &str) -> Result<Vec<Fact>, Failure>;

    /// How long the call may take; this decides which places it is performed in.
    fn pace(&self, _call: &Call) -> Pace {
        Pace::Quick
    }

    /// Whether the ledger may keep text of this workflow with this label.
    fn keep(&self, workflow: &str, label: &Label) -> Keep;
}

/// The arguments of `approve`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    role: String,
    title: String,
    proposal: Value,
}

/// Labels of a workflow of which it is known whether text is kept; its runs have few.
const KEPT_LABELS_MAX: usize = 64;

/// Workflows of which that is known.
const KEPT_WORKFLOWS_MAX: usize = 256;

/// What decides, with what it said of keeping text: that is asked for every step of every run, and the same rules always say
/// the same of the same label.
struct Rules {
    policies: Arc<PolicySet>,
    kept: Mutex<HashMap<String, HashMap<Label, Keep>>>,
}

impl Rules {
    fn new(policies: Arc<PolicySet>) -> Arc<Self> {
        Arc::new(Self { policies, kept: Mutex::default() })
    }

    fn keep(&self, workflow: &str, label: &Label, decide: impl FnOnce() -> Keep) -> Keep {
        let mut kept = self.kept.lock().expect("no thread panicked with what is kept");
        if let Some(keep) = kept.get(workflow).and_then(|labels| labels.get(label)) {
            return *keep;
        }
        if kept.len() >= KEPT_WORKFLOWS_MAX {
            kept.clear();
        }
        let labels = kept.entry(workflow.to_owned()).or_default();
        if labels.len() >= KEPT_LABELS_MAX {
            labels.clear();
        }
        *labels.entry(label.clone()).or_insert_with(decide)
    }
}

/// The node's own rooms.
pub struct Rooms {
    inference: Inference,
    memory: Memory,
    action: action::Action,
    rules: RwLock<Arc<Rules>>,
    guards: RwLock<Arc<Policies>>,
    /// Not there where no pipeline runs.
    learning: OnceLock<Learning>,
    /// Where the node stands.
    jurisdiction: String,
}

impl Rooms {
    #[must_use]
    pub fn new(
        inference: Inference,
        memory: Memory,
        action: action::Action,
        policies: Arc<PolicySet>,
        jurisdiction: String,
    ) -> Self {
        let rules = RwLock::new(Rules::new(policies));
        Self { inference, memory, action, rules, guards: RwLock::default(), learning: OnceLock::new(), jurisdiction }
    }

    /// From now on these rules decide, for runs of older bundles too: policy is asked when an effect is performed.
    ///
    /// # Panics
    /// When a thread panicked while it held the rules.
    pub fn set_policies(&self, policies: Arc<PolicySet>) {
        *self.rules.write().expect("no thread panicked with the policies") = Rules::new(policies);
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().expect("no thread panicked with the policies"))
    }

    /// From now on `guard` checks by these names.
    ///
    /// # Panics
    /// When a thread panicked while it held the guards.
    pub fn set_guards(&self, guards: Arc<Policies>) {
        *self.guards.write().expect("no thread panicked with the guards") = guards;
    }

    /// From now on detectors may be trained. The first one given stays.
    pub fn set_learning(&self, learning: Learning) {
        drop(self.learning.set(learning));
    }

    /// The indexes of documents.
    #[must_use]
    pub fn indexes(&self) -> Vec<String> {
        self.memory.indexes()
    }

    /// Asks policy as it is now. `workflow` is `namespace/name`.
    ///
    /// # Errors
    /// The refusal, with the rules that decided.
    ///
    /// # Panics
    /// When a thread panicked while it held the rules.
    pub fn decide(&self, action: Action, target: Target, workflow: &str, label: &Label) -> Result<Permit, Refusal> {
        self.decide_for(&self.rules(), action, target, workflow, None, label)
    }

    fn decide_for(
        &self,
        rules: &Rules,
        action: Action,
        target: Target,
        workflow: &str,
        agent: Option<&str>,
        label: &Label,
    ) -> Result<Permit, Refusal> {
        rules.policies.decide(&Request {
            action,
            workflow: workflow.to_owned(),
            agent: agent.map(str::to_owned),
            target,
            label: label.clone(),
            node_jurisdiction: self.jurisdiction.clone(),
        })
    }

    /// Where policy is asked for this call, in the name of its workflow and agent.
    fn trail<'a>(&'a self, call: &'a Call) -> Trail<'a> {
        let workflow = workflow_name(&call.workflow);
        let keep = self.keep(workflow, &call.label);
        let agent = call.agent.as_ref().map(|agent| agent.name.as_str());
        let decide = move |action, target| self.decide_for(&self.rules(), action, target, workflow, agent, &call.label);
        Trail::new(call.label.clone(), keep, decide)
    }

    async fn call(&self, call: &Call, trail: &Trail<'_>) -> Result<Outcome, Failure> {
        let keep = trail.keep();
        let done = match call.function.as_str() {
            "infer" | CHAT => {
                let (mut permitted, mut refused) = (Vec::new(), Vec::new());
                for target in self.inference.targets(call)? {
                    match trail.ask(Action::Infer, target) {
                        Ok(permit) => permitted.push(permit),
                        Err(refusal) => refused.push(refusal),
                    }
                }
                self.inference.infer(call, permitted, refused, keep).await?
            }
            "retrieve" => {
                let permit = trail.permit(Action::Retrieve, self.memory.target(call)?)?;
                self.memory.retrieve(call, permit, keep).await?
            }
            "classify" => {
                let permit = trail.permit(Action::Classify, self.memory.target(call)?)?;
                self.memory.classify(call, permit, keep).await?
            }
            "embed" => {
                let permit = trail.permit(Action::Embed, self.memory.target(call)?)?;
                self.memory.embed(call, permit, keep).await?
            }
            "rerank" => {
                let permit = trail.permit(Action::Rerank, self.memory.target(call)?)?;
                self.memory.rerank(call, permit, keep).await?
            }
            "query" => {
                let permit = trail.permit(Action::Query, self.memory.collection(call)?)?;
                self.memory.query(call, permit, keep).await?
            }
            "remember" => {
                let permit = trail.permit(Action::Remember, self.memory.kept_in(call)?)?;
                self.memory.remember(call, permit, keep).await?
            }
            "forget" => {
                let permit = trail.permit(Action::Remember, self.memory.forgotten_in(call)?)?;
                self.memory.forget(call, permit, keep).await?
            }
            "follow" => {
                let permit = trail.permit(Action::Remember, self.memory.followed_in(call)?)?;
                self.memory.follow(call, permit, keep).await?
            }
            "upsert" => {
                let permit = trail.permit(Action::Upsert, self.memory.collection(call)?)?;
                self.memory.upsert(call, permit, keep).await?
            }
            "train" => {
                let Some(learning) = self.learning.get() else {
                    let detail = "train: nothing is learned here: expected an agent that runs, with feeds";
                    return Err(Failure::new(kind::CONFIGURATION, detail));
                };
                let permit = trail.permit(Action::Train, Learning::target(call)?)?;
                learning.train(call, permit, keep).await?
            }
            "approve" => {
                let Approve { role, title, proposal } = call.arguments()?;
                trail.permit(Action::Approve, Target::new(TargetKind::Role, &*role))?;
                let proposal = Proposal { role, title, shown: proposal, keep };
                return Ok(Outcome::Ask { proposal, facts: Vec::new() });
            }
            "guard" => {
                let guards = Arc::clone(&self.guards.read().expect("no thread panicked with the guards"));
                guard::perform(call, &guards, keep).await?
            }
            function if action::Action::performs(function) => self.action.perform(call, trail).await?,
            other => return Err(Failure::new(kind::CONFIGURATION, format!("there is no function {other:?}"))),
        };
        Ok(Outcome::Done(done))
    }
}

impl Perform for Rooms {
    fn perform<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Outcome, Failure>> {
        async move {
            let trail = self.trail(call);
            let outcome = self.call(call, &trail).await;
            // What policy said comes before what was done on its word.
            let after = |facts: Vec<Fact>| trail.facts().into_iter().chain(facts).collect();
            match outcome {
                Ok(Outcome::Done(done)) => Ok(Outcome::Done(Completion { facts: after(done.facts), ..done })),
                Ok(Outcome::Ask { proposal, facts }) => Ok(Outcome::Ask { proposal, facts: after(facts) }),
                Err(failure) => Err(Failure { facts: after(failure.facts), ..failure }),
            }
        }
        .boxed()
    }

    fn may_start(&self, call: &Call, workflow: &str) -> Result<Vec<Fact>, Failure> {
        let trail = self.trail(call);
        match trail.permit(Action::Start, Target::new(TargetKind::Workflow, workflow)) {
            Ok(_) => Ok(trail.facts()),
            Err(failure) => Err(Failure { facts: trail.facts(), ..failure }),
        }
    }

    fn pace(&self, call: &Call) -> Pace {
        if self.action.is_long(call) || (call.function == "train" && learning::is_long(call)) {
            Pace::Long
        } else {
            Pace::Quick
        }
    }

    fn keep(&self, workflow: &str, label: &Label) -> Keep {
        let (rules, workflow) = (self.rules(), workflow_name(workflow));
        rules.keep(workflow, label, || {
            let ledger = Target::new(TargetKind::Local, "ledger");
            match self.decide_for(&rules, Action::KeepText, ledger, workflow, None, label) {
                Ok(_) => Keep::Text,
                Err(_) => Keep::Digest,
            }
        })
    }
}

/// `namespace/name` of `namespace/name:version`.
fn workflow_name(workflow: &str) -> &str {
    workflow.split(':').next().unwrap_or(workflow)
}
