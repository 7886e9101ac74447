//! Inference: the targets of this node, which of them answers, and the call itself.
//!
//! Policy is asked outside; nothing is sent to a target whose permit is not among those that were handed in.

mod answer;
mod ask;
mod chat;
pub mod config;
mod figures;
mod health;
pub mod limits;
mod local;
mod machine;
pub mod problems;
mod provider;
pub mod pull;
mod reply;
mod residents;
mod shortage;
pub mod writer;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use config::{Provider, Source, Target};
use edge_core::{
    admit::Priority,
    engine::effect::{Call, Completion, Error as Dsl, Failure, Keep, kind},
    route::{self, Candidate, Choice, Health, Offline, Place, Refusal, Ruling, Standing},
};
use futures::future::BoxFuture;
use models::{catalog::Digests, generate};
use shared::{
    ledger::entry::Fact,
    policy::{self, Permit},
    time::Timestamp,
};
use tokio::sync::watch;

use ask::Ask;
pub use figures::Figures;
use limits::Limits;
pub use local::OnText;
use local::{Weights, Worker};
pub use machine::Machine;
use reply::{Asked, Fault};
use residents::Residents;
pub use residents::{Beside, Held, admit, files};
pub use shortage::shortage;

use crate::tls;

/// The extractive target that every node has.
pub const EXTRACT: &str = "local/extract";

/// Asks the local model that the permit is for.
pub type Chat = Arc<
    dyn Fn(Permit, generate::Request, OnText, Priority) -> BoxFuture<'static, Result<generate::Answer, Dsl>>
        + Send
        + Sync,
>;

/// How long a local model may take when the task sets no deadline: a long answer at a few tokens a second.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);
/// Connecting takes one round trip to a place that answers at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a target is tried while calls are parked for it: soon enough for people who watch, rare enough for a metered link.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// The same after a minute of trying.
const PROBE_EVERY_LATER: Duration = Duration::from_secs(30);

/// A machine that is too hot is looked at again after this time.
const COOLS_WITHIN: Duration = Duration::from_secs(15);

/// A handle to the node's targets; clones share it.
#[derive(Clone)]
pub struct Inference {
    inner: Arc<Inner>,
}

struct Inner {
    targets: Vec<Target>,
    workers: Vec<Worker>,
    residents: Arc<Residents>,
    health: Mutex<BTreeMap<String, health::Record>>,
    /// Made at the first call: an agent that asks no provider does not pay for TLS roots.
    http: OnceLock<reqwest::Client>,
    back: watch::Sender<u64>,
    /// Whether a probe is under way.
    probing: Mutex<bool>,
}

impl Inference {
    /// The node's targets in the order of its configuration, and `local/extract` after them. `digests` remembers which model
    /// files were read before.
    #[must_use]
    pub fn new(targets: Vec<Target>, digests: &Digests) -> Self {
        Self::within(targets, digests, Limits::default(), Beside::default(), Machine::this(), None)
    }

    /// The same, where the models may take so much of this machine, with what else is there. Packed weights are kept in the folder
    /// `weights`, if one is given; what it has of models that are no target any more is removed.
    #[must_use]
    pub fn within(
        targets: Vec<Target>,
        digests: &Digests,
        limits: Limits,
        beside: Beside,
        machine: Machine,
        weights: Option<PathBuf>,
    ) -> Self {
        let residents = Arc::new(Residents::new(limits, beside, machine, weights));
        let worker = |name: String, weights| Worker::new(name, weights, Arc::clone(&residents));
        let file = |target: &Target| match &target.source {
            Source::Gguf(model) => {
                let weights = Weights::Gguf { model: model.clone(), digests: digests.clone() };
                Some(worker(target.name.clone(), weights))
            }
            Source::Provider(_) => None,
        };
        residents.sweep(&files(&targets));
        let mut workers: Vec<Worker> = targets.iter().filter_map(file).collect();
        workers.push(worker(EXTRACT.to_owned(), Weights::Extract));
        let (back, _) = watch::channel(0);
        let inner = Inner {
            targets,
            workers,
            residents,
            health: Mutex::default(),
            http: OnceLock::new(),
            back,
            probing: Mutex::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Every target that this call could go to, in the order of preference. Policy must be asked about each.
    ///
    /// # Errors
    /// A validation error when the call's arguments are wrong.
    pub fn targets(&self, call: &Call) -> Result<Vec<policy::Target>, Failure> {
        let ask = Ask::parse(call)?;
        Ok(self.standings(&ask)?.into_iter().map(|(name, _)| self.policy_target(&name)).collect())
    }

    /// Asks the first target that is permitted, healthy and fast enough; when it fails the next, and when none is left,
    /// what the task's `offline` says.
    ///
    /// # Errors
    /// `validation` for wrong arguments and for an answer that does not fit the schema after one repair, `authorization` when
    /// policy refused every target, `authentication` when a provider refused the key, `timeout` at the deadline,
    /// `communication` when nothing answers. With `ask_again_at` the call is parked.
    pub async fn infer(
        &self,
        call: &Call,
        permitted: Vec<Permit>,
        refused: Vec<policy::Refusal>,
        keep: Keep,
    ) -> Result<Completion, Failure> {
        let ask = Ask::parse(call)?;
        let rulings = rulings(&permitted, &refused);
        let mut facts = Vec::new();
        let mut last: Option<Fault> = None;
        // Each round takes one candidate out of the choice, so there are never more rounds than candidates.
        let (mut spent, mut down) = (Vec::new(), Vec::new());
        loop {
            let now = crate::clock::now();
            let mut question = self.question(call, &ask, &rulings, now).await?;
            question.candidates.retain(|candidate| !spent.contains(&candidate.name));
            for candidate in question.candidates.iter_mut().filter(|candidate| down.contains(&candidate.name)) {
                // Its rest may be over by the clock, but this call has had its try.
                candidate.rest_at_least(now);
            }
            let chosen = route::choose(&question);
            let fault_reasons = last.as_ref().map(|fault| fault.brief().to_owned());
            facts.push(Fact::RouteChosen {
                choice: chosen.choice.name().to_owned(),
                reasons: fault_reasons.into_iter().chain(chosen.reasons.iter().cloned()).collect(),
            });
            let name = match chosen.choice {
                Choice::Local(name) | Choice::Cloud(name) => name,
                Choice::Park { until } => return Err(self.parked(call, until, &chosen.reasons, facts)),
                Choice::Refuse(refusal) => return Err(refuse(call, refusal, last, &chosen.reasons, facts)),
            };
            let asked = Asked { call, ask: &ask, target: &name, degraded: chosen.degraded, keep };
            match self.call(&asked, now, &mut facts).await {
                Ok(output) => return Ok(Completion { output, label: call.label.clone(), facts }),
                Err(fault) if fault.is_final() => {
                    return Err(Failure { facts, ..fault.error(call).into() });
                }
                Err(fault) => {
                    // A target that is down or busy stays among the candidates, so that `park` sees it.
                    let tried = if fault.kind.passes() { &mut down } else { &mut spent };
                    tried.push(name);
                    last = Some(fault);
                }
            }
        }
    }

    /// The names of the models on this node, for its own endpoint.
    #[must_use]
    pub fn local_names(&self) -> Vec<String> {
        self.inner.workers.iter().map(|worker| worker.name().to_owned()).collect()
    }

    /// `chat_local` as a value, for whoever must not know this room.
    #[must_use]
    pub fn as_chat(&self) -> Chat {
        let inference = self.clone();
        Arc::new(move |permit, request, on_text, priority| {
            let inference = inference.clone();
            Box::pin(async move { inference.chat_local(&permit, request, on_text, priority).await })
        })
    }

    /// Asks the model on this node that the permit is for. `on_text` gets each piece as it is written.
    ///
    /// # Errors
    /// `authorization` when the permit is for something else, `validation` for a name that is not here or a request that
    /// the model cannot serve, 413 for a prompt that is longer than its context, `configuration` for a model that this machine never has room
    /// for, `communication` for one without room or a place in its queue now, `timeout`, `runtime`.
    pub async fn chat_local(
        &self,
        permit: &Permit,
        request: generate::Request,
        on_text: OnText,
        priority: Priority,
    ) -> Result<generate::Answer, Dsl> {
        let name = permit.target().name.as_str();
        if permit.action() != policy::Action::Infer {
            return Err(Dsl::new(kind::AUTHORIZATION, format!("the permit for {name} is not for asking a model")));
        }
        let worker = self.worker(name).ok_or_else(|| {
            Dsl::new(
                kind::VALIDATION,
                format!("no model {name} on this node; it has {}", self.local_names().join(", ")),
            )
        })?;
        worker.ask(request, on_text, LOCAL_TIMEOUT, priority).await.map_err(|error| reply::local_error(name, &error))
    }

    /// Says that the link may be back: the next calls try their targets at once.
    ///
    /// # Panics
    /// When another thread panicked while it noted a target's health.
    pub fn link_is_back(&self) {
        let now = crate::clock::now();
        for record in self.inner.health.lock().expect("no thread panicked with the health").values_mut() {
            record.hope(now);
        }
        self.inner.back.send_modify(|count| *count += 1);
    }

    /// Changes whenever a target that calls were parked for answers again: time to ask for the parked ones.
    #[must_use]
    pub fn back(&self) -> watch::Receiver<u64> {
        self.inner.back.subscribe()
    }

    /// How each target stands now: its name and health, for people.
    ///
    /// # Panics
    /// When another thread panicked while it noted a target's health.
    #[must_use]
    pub fn health(&self) -> Vec<(String, Health)> {
        let now = crate::clock::now();
        let records = self.inner.health.lock().expect("no thread panicked with the health");
        let names = self.inner.targets.iter().map(|target| target.name.as_str()).chain([EXTRACT]);
        names.map(|name| (name.to_owned(), records.get(name).map_or(Health::Up, |record| record.health(now)))).collect()
    }
}

impl Inference {
    /// The names of the targets for this request, preferred ones first, each with why it is one.
    fn standings(&self, ask: &Ask) -> Result<Vec<(String, Standing)>, Failure> {
        if let Some(name) = ask.unknown(&self.inner.targets) {
            let known: Vec<&str> = self.inner.targets.iter().map(|t| t.name.as_str()).chain([EXTRACT]).collect();
            let detail = format!("infer: model: {name:?} is not a target of this node; it has {}", known.join(", "));
            return Err(Failure::new(kind::CONFIGURATION, detail));
        }
        let names = self.inner.targets.iter().map(|target| target.name.as_str()).chain([EXTRACT]);
        let mut standings: Vec<(usize, String, Standing)> = Vec::new();
        for name in names {
            let local = self.provider(name).is_none();
            let (rank, standing) = match ask.preference(name) {
                Some(rank) => (rank, Standing::Preferred),
                // A task that names no model takes what the node has; the extractive one answers lesser, so it is last.
                None if ask.models.is_empty() && (name != EXTRACT || self.inner.targets.is_empty()) => {
                    (0, Standing::Preferred)
                }
                None if name == EXTRACT => (usize::MAX, Standing::LastResort),
                None if local => (usize::MAX - 1, Standing::Spare),
                None => continue,
            };
            standings.push((rank, name.to_owned(), standing));
        }
        // Stable: within one pattern the configuration's order holds.
        standings.sort_by_key(|(rank, ..)| *rank);
        let wanted = |standing: Standing| match standing {
            Standing::Preferred => true,
            Standing::Spare => matches!(ask.offline, Offline::Local | Offline::Degrade),
            Standing::LastResort => ask.offline == Offline::Degrade,
        };
        Ok(standings.into_iter().filter(|(.., s)| wanted(*s)).map(|(_, name, standing)| (name, standing)).collect())
    }

    async fn question(
        &self,
        call: &Call,
        ask: &Ask,
        rulings: &BTreeMap<String, Ruling>,
        now: Timestamp,
    ) -> Result<route::Question, Failure> {
        let records = self.inner.health.lock().expect("no thread panicked with the health").clone();
        let (degrees, is_hot) = self.inner.residents.temperature();
        let within = call.gives_up_at().map(|deadline| deadline.since(now));
        let (mut request, mut candidates) = (None, Vec::new());
        for (name, standing) in self.standings(ask)? {
            let provider = self.provider(&name);
            let record = records.get(&name).cloned().unwrap_or_default();
            let (health, expected) = match self.worker(&name) {
                // The extractive one takes milliseconds of one core.
                Some(_) if is_hot && name != EXTRACT => (too_hot(degrees, now), None),
                Some(worker) => {
                    let request = request.get_or_insert_with(|| reply::request(ask, &ask.messages));
                    (record.health(now), worker.expected(request, within, ask.priority).await)
                }
                None => (record.health(now), record.expected(now)),
            };
            let unasked = || Ruling::Refused { reason: "policy was not asked".to_owned() };
            candidates.push(Candidate {
                place: if provider.is_some() { Place::Cloud } else { Place::Local },
                standing,
                ruling: rulings.get(&name).cloned().unwrap_or_else(unasked),
                health,
                expected,
                cost_micro_usd: provider.map_or(0, |provider| estimate(provider, ask)),
                name,
            });
        }
        Ok(route::Question {
            candidates,
            offline: ask.offline,
            now,
            deadline: call.gives_up_at(),
            park_until: ask.park_until,
            cost_micro_usd_max: ask.cost_micro_usd_max,
        })
    }

    fn worker(&self, name: &str) -> Option<&Worker> {
        self.inner.workers.iter().find(|worker| worker.name() == name)
    }

    fn provider(&self, name: &str) -> Option<&Provider> {
        self.inner.targets.iter().find(|target| target.name == name).and_then(|target| match &target.source {
            Source::Provider(provider) => Some(provider.as_ref()),
            Source::Gguf(_) => None,
        })
    }

    fn policy_target(&self, name: &str) -> policy::Target {
        let provider = self.provider(name);
        policy::Target {
            name: name.to_owned(),
            kind: if provider.is_some() { policy::TargetKind::Cloud } else { policy::TargetKind::Local },
            jurisdiction: provider.and_then(|provider| provider.jurisdiction.clone()),
            provider: provider.and_then(|provider| provider.provider.clone()),
        }
    }

    fn http(&self) -> &reqwest::Client {
        self.inner.http.get_or_init(|| {
            // A redirect could lead to a place that no permit names.
            let none = reqwest::redirect::Policy::none;
            tls::client(|client| client.connect_timeout(CONNECT_TIMEOUT).redirect(none()))
        })
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut health::Record)) {
        let mut records = self.inner.health.lock().expect("no thread panicked with the health");
        change(records.entry(name.to_owned()).or_default());
    }

    fn parked(&self, call: &Call, until: Timestamp, reasons: &[String], facts: Vec<Fact>) -> Failure {
        self.probe();
        let detail = format!("infer of {}: parked: {}", call.task, reasons.join("; "));
        Failure { facts, ask_again_at: Some(until), ..Failure::new(kind::COMMUNICATION, detail) }
    }

    /// Tries the targets that are down until one answers; one probe at a time.
    fn probe(&self) {
        let mut probing = self.inner.probing.lock().expect("no thread panicked with the probe");
        if std::mem::replace(&mut *probing, true) {
            return;
        }
        let inference = self.clone();
        tokio::spawn(async move {
            for round in 0_u32.. {
                let wait = if round < 20 { PROBE_EVERY } else { PROBE_EVERY_LATER };
                tokio::time::sleep(wait).await;
                if inference.any_is_back().await {
                    break;
                }
            }
            *inference.inner.probing.lock().expect("no thread panicked with the probe") = false;
            inference.link_is_back();
        });
    }

    async fn any_is_back(&self) -> bool {
        let down: Vec<String> = {
            let (now, records) =
                (crate::clock::now(), self.inner.health.lock().expect("no thread panicked with the health"));
            records
                .iter()
                .filter(|(_, record)| record.health(now) != Health::Up)
                .map(|(name, _)| name.clone())
                .collect()
        };
        for provider in down.iter().filter_map(|name| self.provider(name)) {
            // Any answer will do, a refusal as well: it shows that the way is open, costs nothing and sends no data.
            let answer = self.http().head(provider.url.clone()).timeout(CONNECT_TIMEOUT).send().await;
            if answer.is_ok_and(|answer| !answer.status().is_server_error()) {
                return true;
            }
        }
        let rested: Vec<String> = down.iter().filter(|name| self.worker(name).is_some()).cloned().collect();
        let looking = self.clone();
        // Reads the heads of files.
        let has_room =
            move || rested.iter().filter_map(|name| looking.worker(name)).any(|worker| worker.look().is_ok());
        if tokio::task::spawn_blocking(has_room).await.unwrap_or(false) {
            return true;
        }
        // Nothing is down any more: another call found its way meanwhile.
        down.is_empty()
    }
}

fn rulings(permitted: &[Permit], refused: &[policy::Refusal]) -> BTreeMap<String, Ruling> {
    let yes = permitted.iter().map(|permit| (permit.target().name.clone(), Ruling::Permitted));
    let no =
        refused.iter().map(|refusal| (refusal.target.name.clone(), Ruling::Refused { reason: refusal.reason.clone() }));
    yes.chain(no).collect()
}

/// What the call may cost at most: its text sent once, and as long an answer as it allows.
fn estimate(provider: &Provider, ask: &Ask) -> u64 {
    provider.cost_micro_usd(tokens_in(ask), u64::from(ask.max_tokens))
}

/// Tokens of the prompt, roughly.
fn tokens_in(ask: &Ask) -> u64 {
    let texts = ask.messages.iter().map(|m| m.content.as_str()).chain(ask.passages.iter().map(|p| p.text.as_str()));
    texts.map(tokens_estimate).sum()
}

fn too_hot(degrees: Option<f64>, now: Timestamp) -> Health {
    let reason = format!(
        "the machine has {:.0} degrees, above `temperature_max` under [inference]",
        degrees.unwrap_or_default()
    );
    Health::Down { until: now.plus(COOLS_WITHIN), reason }
}

/// Tokens of this text, roughly: three bytes each, which errs on the dear side for English and German.
const fn tokens_estimate(text: &str) -> u64 {
    text.len().div_ceil(3) as u64
}

fn refuse(call: &Call, refusal: Refusal, last: Option<Fault>, reasons: &[String], facts: Vec<Fact>) -> Failure {
    if let (Some(fault), Refusal::Unreachable | Refusal::Unknown | Refusal::Policy) = (&last, refusal) {
        return Failure { facts, ..fault.error(call).into() };
    }
    let (kind, what) = match refusal {
        Refusal::Policy => (kind::AUTHORIZATION, "policy refuses every target"),
        Refusal::Cost => (kind::VALIDATION, "every target may cost more than maxCostUsd"),
        Refusal::Time => (kind::TIMEOUT, "no target can answer in time"),
        Refusal::Unreachable => (kind::COMMUNICATION, "no target is reachable"),
        Refusal::Unknown => (kind::CONFIGURATION, "no target of this node fits"),
    };
    let detail = format!("infer of {}: {what}: {}", call.task, reasons.join("; "));
    Failure { facts, ..Failure::new(kind, detail) }
}

#[cfg(test)]
mod tests;
