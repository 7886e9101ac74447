//! How the node is just now, put together for its pages and for the control plane.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use edge_core::route::Health as TargetHealth;
use serde_json::Value;
use shared::{
    time::Timestamp,
    wire::v1::{Applied, Health},
};
use tokio::sync::watch;

use super::rollout::InForce;
use crate::{
    api::live::{Encoder, Feed, Finding, Link, Live, Model, Series, Serving, Target},
    config::Config,
    feed::journal::{Totals, totals},
    inference::{
        Figures, Inference,
        config::{Protocol, Source},
    },
    memory,
    pipeline::{Latency, Snapshot},
    store::Store,
    sync,
};

/// Rates are taken over at least this long, however often somebody asks.
const RATE_OVER: Duration = Duration::from_secs(1);
/// How long after a finding its series is shown as anomalous, by the series' own time.
const ANOMALOUS_FOR: Duration = Duration::from_secs(15 * 60);

/// Where the picture is put together from. Asking costs one small query.
pub(super) struct View {
    pub config: Config,
    pub store: Store,
    pub started: Timestamp,
    pub broker: String,
    pub pipeline: watch::Receiver<Arc<Snapshot>>,
    pub link: watch::Receiver<sync::Link>,
    pub control: Option<String>,
    pub in_force: watch::Receiver<InForce>,
    pub inference: Inference,
    pub memory: watch::Receiver<memory::Status>,
    pub encoders: Box<dyn Fn() -> Vec<memory::Figures> + Send + Sync>,
    pub rates: Mutex<Option<Rates>>,
}

/// Messages a second of each feed, and what they are counted from.
pub(super) struct Rates {
    at: Instant,
    received: HashMap<String, i64>,
    per_second: HashMap<String, f64>,
}

impl View {
    /// The node now.
    pub(super) fn now(&self) -> Live {
        let in_force = self.in_force.borrow().clone();
        let snapshot = Arc::clone(&self.pipeline.borrow());
        let mut complaints = Vec::new();
        let read = self.store.read_blocking("read how the node stands", |c| Ok((totals(c)?, sync::standing(c)?)));
        // A ledger that its control plane disputes, or a store that cannot be read: nobody should rely on this node.
        let (counted, failing) = match read {
            Ok((counted, standing)) => {
                complaints.extend(standing.lost.clone());
                (counted, standing.complaint())
            }
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        complaints.extend(failing.clone());
        let trouble =
            self.store.trouble().map(|reason| format!("{reason}; no message is acknowledged until it can be kept"));
        complaints.extend(trouble.clone());
        let failing = failing.or(trouble);
        if let sync::Link::Down { reason, .. } = &*self.link.borrow() {
            complaints.push(format!("no link to the control plane: {reason}"));
        }
        complaints.extend(self.memory.borrow().unloaded.clone());
        let targets = self.targets(&mut complaints);
        let health = match (failing.is_some(), complaints.is_empty()) {
            (true, _) => Health::Failing,
            (false, true) => Health::Healthy,
            (false, false) => Health::Degraded,
        };
        Live {
            started: self.started,
            health,
            complaints,
            link: self.link(),
            bundle: in_force.digest.map(|digest| Applied { digest, version: in_force.version, at: in_force.since }),
            broker: self.broker.clone(),
            feeds: self.feeds(&in_force, &counted, &snapshot),
            findings: snapshot.recent.iter().rev().map(finding).collect(),
            findings_count: snapshot.findings,
            targets,
            encoders: (self.encoders)().into_iter().map(encoder).collect(),
            serving: self.serving(),
        }
    }

    fn serving(&self) -> Serving {
        let (cache_bytes, cache_bytes_max) = self.inference.cache();
        Serving { temperature: self.inference.temperature(), cache_bytes, cache_bytes_max }
    }

    fn link(&self) -> Link {
        let control = self.control.clone().unwrap_or_default();
        match self.link.borrow().clone() {
            sync::Link::Alone => Link::None,
            sync::Link::Up { since } => Link::Up { control, since },
            sync::Link::Down { since, reason } => Link::Down { control, since: Some(since), reason },
        }
    }

    fn targets(&self, complaints: &mut Vec<String>) -> Vec<Target> {
        let figures: HashMap<String, Figures> = self.inference.figures().into_iter().collect();
        let known = |name: &str| self.config.targets.iter().find(|target| target.name == name);
        self.inference
            .health()
            .into_iter()
            .map(|(name, health)| {
                if let TargetHealth::Down { reason, .. } = &health {
                    complaints.push(format!("{name} does not answer: {reason}"));
                }
                let (kind, jurisdiction) = known(&name).map_or(("built in", None), |target| described(&target.source));
                let reachable = matches!(health, TargetHealth::Up);
                let jurisdiction = jurisdiction.map(str::to_owned);
                let model = figures.get(&name).map(|figures| model(kind, figures));
                Target { kind: kind.to_owned(), jurisdiction, reachable, model, name }
            })
            .collect()
    }

    fn feeds(&self, in_force: &InForce, counted: &[(String, Totals)], snapshot: &Snapshot) -> Vec<Feed> {
        let rates = self.rates(counted);
        let named = |feed: &crate::feed::config::Feed| {
            let totals =
                counted.iter().find(|(name, _)| *name == feed.name).map(|(_, totals)| *totals).unwrap_or_default();
            let latency = snapshot.latency.get(feed.name.as_str());
            let count = |count: i64| u64::try_from(count).unwrap_or(0);
            let series: Vec<Series> = snapshot
                .series
                .iter()
                .filter(|series| *series.feed == *feed.name)
                .map(|series| Series {
                    device: series.device.to_string(),
                    channel: series.channel.to_string(),
                    unit: series.unit.as_deref().unwrap_or_default().to_owned(),
                    value: series.value,
                    at: series.at,
                    trend: Vec::new(),
                    anomalous: is_anomalous(snapshot, &series.device, &series.channel, series.at),
                })
                .collect();
            Feed {
                name: feed.name.clone(),
                topic: feed.topic.as_str().to_owned(),
                messages: count(totals.received),
                readings: count(totals.readings),
                quarantined: count(totals.quarantined),
                duplicates: count(totals.duplicate),
                shed: count(totals.shed),
                per_second: rates.get(&feed.name).copied().unwrap_or_default(),
                series,
                latency: latency.map(Latency::cumulative).unwrap_or_default(),
                latency_sum_s: latency.map(Latency::sum_s).unwrap_or_default(),
            }
        };
        in_force.feeds.list().iter().map(|feed| named(feed)).collect()
    }

    /// Messages a second of each feed since the last time that a second had passed.
    fn rates(&self, counted: &[(String, Totals)]) -> HashMap<String, f64> {
        let mut kept = self.rates.lock().expect("no thread panicked with the rates");
        let received =
            || counted.iter().map(|(name, totals)| (name.clone(), totals.received)).collect::<HashMap<_, _>>();
        let rates =
            kept.get_or_insert_with(|| Rates { at: Instant::now(), received: received(), per_second: HashMap::new() });
        let passed = rates.at.elapsed();
        if passed >= RATE_OVER {
            let now = received();
            let rate = |(name, count): (&String, &i64)| {
                let before = rates.received.get(name).copied().unwrap_or(0);
                (name.clone(), (count - before).max(0) as f64 / passed.as_secs_f64())
            };
            rates.per_second = now.iter().map(rate).collect();
            (rates.at, rates.received) = (Instant::now(), now);
        }
        rates.per_second.clone()
    }
}

/// A model's figures as the pages show them. The built-in one is a part of the program.
fn model(kind: &str, figures: &Figures) -> Model {
    let Figures { waiting, writing, held, speed, answers, tokens_in, tokens_reused, tokens_out, turned_away } =
        *figures;
    Model {
        waiting,
        writing,
        loaded: held.is_some() || kind != "gguf",
        model_bytes: held.map_or(0, |held| held.model),
        kept_bytes: held.map_or(0, |held| held.kept),
        prompt_tokens_per_second: speed.prompt,
        answer_tokens_per_second: speed.decode,
        first_text_seconds: speed.first,
        answers,
        prompt_tokens: tokens_in,
        reused_tokens: tokens_reused,
        answer_tokens: tokens_out,
        turned_away,
    }
}

/// A small model's figures as the pages show them.
fn encoder(figures: memory::Figures) -> Encoder {
    let memory::Figures { name, model, waiting, is_loaded: loaded, speed, texts, turned_away } = figures;
    let does = match model {
        memory::Model::Embedder => "embeds",
        memory::Model::Former => "embeds as before",
        memory::Model::Reranker => "ranks",
        memory::Model::Classifier => "classifies",
    };
    Encoder { name, does: does.to_owned(), waiting, loaded, tokens_per_second: speed.prompt, texts, turned_away }
}

/// What a target is, and where it computes.
fn described(source: &Source) -> (&'static str, Option<&str>) {
    match source {
        Source::Gguf(_) => ("gguf", None),
        Source::Provider(provider) => {
            let kind = match provider.protocol {
                Protocol::OpenAi => "openai",
                Protocol::Anthropic => "anthropic",
            };
            (kind, provider.jurisdiction.as_deref())
        }
    }
}

fn is_anomalous(snapshot: &Snapshot, device: &str, channel: &str, at: Timestamp) -> bool {
    snapshot.recent.iter().any(|data| {
        let found_at = data["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        data["device"] == device
            && data["channel"] == channel
            && found_at.is_some_and(|found| at.since(found) < ANOMALOUS_FOR)
    })
}

/// A finding's data as the pages show it.
fn finding(data: &Value) -> Finding {
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    Finding {
        at: data["at"].as_str().and_then(|at| at.parse().ok()).unwrap_or_default(),
        feed: text("feed"),
        device: text("device"),
        channel: text("channel"),
        detector: text("detector"),
        severity: text("severity"),
        value: data["value"].as_f64().unwrap_or_default(),
        unit: text("unit"),
    }
}
