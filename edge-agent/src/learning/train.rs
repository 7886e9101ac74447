//! `train`: makes a model for each series of a detector and compares it with the one that judges, or chooses another of
//! those that there are. What takes over is written down together with its entry in the ledger.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edge_core::{
    engine::effect::{Call, Completion, Failure, Keep, kind},
    signal::learned::{Brain, Takeover},
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    ledger::entry::{Entry, Fact},
    policy::{Permit, Target, TargetKind},
    workflow::definition::parse_iso8601,
};
use tokio::sync::Semaphore;

use super::{
    book::{self, Learner},
    lesson::{self, Learned, Task},
};
use crate::{
    clock,
    store::{self, Store},
};

/// Series of one call; a detector of more is trained by device.
const SERIES_MAX: usize = 64;
const TIME_LIMIT: Duration = Duration::from_secs(60);
const TIME_LIMIT_MAX: Duration = Duration::from_secs(3_600);
/// A call that may take longer than this has a place among the long ones.
const QUICK: Duration = Duration::from_secs(100);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Train {
    feed: String,
    detector: String,
    device: Option<String>,
    channel: Option<String>,
    #[serde(default)]
    kind: Brain,
    span: Option<String>,
    seed: Option<u64>,
    time_limit: Option<String>,
    #[serde(default)]
    take_over: TakeOver,
    version: Option<i64>,
    #[serde(default)]
    back: bool,
}

/// When a new model judges.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum TakeOver {
    /// When it is better than the one before.
    #[default]
    Better,
    Always,
    Never,
}

/// Trains detectors from their histories. One lesson at a time: it takes a whole core of the node.
#[derive(Clone)]
pub struct Learning {
    store: Store,
    turn: Arc<Semaphore>,
}

/// Whether the call may take so long that it must not keep others from a place.
#[must_use]
pub fn is_long(call: &Call) -> bool {
    let limit = call.input.get("timeLimit").and_then(Value::as_str);
    limit.and_then(|text| parse_iso8601(text).ok()).is_some_and(|limit| limit > QUICK)
}

impl Learning {
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, turn: Arc::new(Semaphore::new(1)) }
    }

    /// What policy must be asked about before `train`: the detector.
    ///
    /// # Errors
    /// `validation` when the arguments are wrong.
    pub fn target(call: &Call) -> Result<Target, Failure> {
        let Train { feed, detector, .. } = call.arguments()?;
        Ok(Target::new(TargetKind::Detector, format!("{feed}/{detector}")))
    }

    /// Trains, or chooses. Asked again after a kill, it makes no second model of the same effect.
    ///
    /// # Errors
    /// `validation` for wrong arguments, a detector without a history or one that is too short; `runtime` when the store
    /// fails.
    pub async fn train(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        if permit.target().name != Self::target(call)?.name {
            let detail = format!("train of {}: the permit is for {}", call.task, permit.target().name);
            return Err(Failure::new(kind::AUTHORIZATION, detail));
        }
        let train: Train = call.arguments()?;
        let limit = duration(call, "timeLimit", train.time_limit.as_deref())?.unwrap_or(TIME_LIMIT);
        if limit.is_zero() || limit > TIME_LIMIT_MAX {
            return Err(wrong(call, "timeLimit", "expected more than nothing and at most PT1H"));
        }
        if train.version.is_some() && train.back {
            return Err(wrong(call, "back", "goes back to the model before: leave `version` out"));
        }
        let span = duration(call, "span", train.span.as_deref())?;
        let learners = self.learners(call, &train).await?;
        let label = learners.iter().fold(call.label.clone(), |label, learner| label.join(&learner.label));
        // Policy was asked about the run's label; the feeds' may demand more.
        let keep = if label == call.label { keep } else { Keep::Digest };
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| broken(call, "the node stops"))?;
        let began = Instant::now();
        let (store, asked) = (self.store.clone(), call.clone());
        let work = move || {
            let lessons = Lessons { store, call: asked, train, span, until: began + limit };
            let told = lessons.all(&learners);
            drop(turn);
            told
        };
        let told =
            tokio::task::spawn_blocking(work).await.map_err(|_| broken(call, "a lesson panicked, see the log"))?;
        let output = json!({ "models": told? });
        let fact = Fact::ToolCalled {
            function: call.function.clone(),
            input: keep.content(&call.input.to_string()),
            output: keep.content(&output.to_string()),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Completion { output, label, facts: vec![fact] })
    }

    async fn learners(&self, call: &Call, train: &Train) -> Result<Vec<Learner>, Failure> {
        let all = self.store.read("read the learners", book::learners).await.map_err(|error| broken(call, error))?;
        let of_detector =
            |learner: &Learner| learner.name.feed == train.feed && learner.name.detector == train.detector;
        let is_meant = |learner: &Learner| {
            train.device.as_deref().is_none_or(|device| learner.name.device == device)
                && train.channel.as_deref().is_none_or(|channel| learner.name.channel == channel)
        };
        let known: Vec<Learner> = all.into_iter().filter(of_detector).collect();
        if known.is_empty() {
            let detail = format!(
                "{}/{} has no history: expected a detector of kind `learned` whose feed had readings for two `step`s",
                train.feed, train.detector
            );
            return Err(wrong(call, "detector", &detail));
        }
        let meant: Vec<Learner> = known.iter().filter(|learner| is_meant(learner)).cloned().collect();
        match meant.len() {
            0 => {
                let series = known.iter().take(10).map(series).collect::<Vec<_>>().join(", ");
                Err(wrong(call, "device", &format!("no such series has a history; there is {series}")))
            }
            count if count > SERIES_MAX => {
                Err(wrong(call, "device", &format!("{count} series are too many for one call: name the device")))
            }
            _ => Ok(meant),
        }
    }
}

/// What one call does to each series.
struct Lessons {
    store: Store,
    call: Call,
    train: Train,
    span: Option<Duration>,
    until: Instant,
}

impl Lessons {
    fn all(&self, learners: &[Learner]) -> Result<Vec<Value>, Failure> {
        let is_done = |learner: &Learner| learner.choice.as_deref() == Some(self.call.key.0.as_str());
        let one = |learner: &Learner| match (self.train.version, self.train.back) {
            // Asked before, and done: what is before the chosen one is another by now.
            (_, true) if is_done(learner) => self.choose(learner, learner.chosen.unwrap_or_default()),
            (Some(version), _) => self.choose(learner, version),
            (None, true) => match learner.before {
                Some(version) => self.choose(learner, version),
                None => Ok(self.stayed(learner, "there is no model before it")),
            },
            (None, false) => self.learn(learner),
        };
        let told = learners.iter().map(one).collect::<Result<Vec<Value>, Failure>>()?;
        // One series among several may be too young; alone, that is what the caller must hear.
        match told.as_slice() {
            [only] if only["version"].is_null() && !self.train.back => {
                let reason = only["reason"].as_str().unwrap_or_default();
                Err(Failure::new(kind::VALIDATION, format!("train of {}: {reason}", self.call.task)))
            }
            _ => Ok(told),
        }
    }

    fn stayed(&self, learner: &Learner, reason: &str) -> Value {
        let name = &learner.name;
        json!({ "device": name.device, "channel": name.channel, "tookOver": false, "reason": reason })
    }

    fn learn(&self, learner: &Learner) -> Result<Value, Failure> {
        let (id, key) = (learner.id, self.call.key.0.clone());
        let steps = self.span.map(|span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX) / learner.rule.shape.step);
        let read = self.store.read_blocking("read a history", |connection| {
            if let Some(told) = book::made_by(connection, id, &key)? {
                return Ok(Err(told));
            }
            let versions = book::versions(connection, learner)?;
            let chosen = versions.iter().find(|version| version.is_chosen);
            let previous = match chosen {
                Some(version) => book::model(connection, &version.digest)?.map(|model| (version.version, model)),
                None => None,
            };
            Ok(Ok((book::history(connection, id, steps)?, previous)))
        });
        let (samples, previous) = match read.map_err(|error| broken(&self.call, error))? {
            Ok(read) => read,
            // Asked before, and done.
            Err(told) => return Ok(told),
        };
        if Instant::now() >= self.until {
            return Ok(self.stayed(learner, "the time limit was reached before it could begin"));
        }
        let previous = previous.as_ref().map(|(version, model)| (*version, model));
        let task = Task {
            rule: learner.rule,
            brain: self.train.kind,
            seed: self.train.seed.unwrap_or(1),
            until: self.until,
            previous: previous.filter(|(_, model)| model.traits().shape == learner.rule.shape),
        };
        match lesson::learn(&task, samples) {
            Ok(learned) => self.write(learner, learned),
            Err(lesson::Error::TooLittle(reason)) => Ok(self.stayed(learner, &reason.to_string())),
            Err(error) => Err(broken(&self.call, error)),
        }
    }

    /// Writes a model, whether it takes over, and the ledger's entry of that, all or nothing.
    fn write(&self, learner: &Learner, learned: Learned) -> Result<Value, Failure> {
        let Learned { weights, takeover, report } = learned;
        let Takeover { takes_over, reason } = match self.train.take_over {
            TakeOver::Better => takeover,
            TakeOver::Always => Takeover { takes_over: true, reason: format!("as asked; {}", takeover.reason) },
            TakeOver::Never => Takeover { takes_over: false, reason: format!("as asked; {}", takeover.reason) },
        };
        let (learner, key, call) = (learner.clone(), self.call.key.0.clone(), self.call.clone());
        let write = move |tx: &mut store::Transaction<'_>| {
            let digest = shared::digest::Digest::of(&weights);
            let told = |version: i64| {
                json!({
                    "device": learner.name.device, "channel": learner.name.channel, "version": version, "model": digest,
                    "tookOver": takes_over, "reason": reason, "report": report,
                })
            };
            let version = book::add(tx.connection(), learner.id, &weights, &key, clock::now(), told)?;
            if takes_over {
                book::choose(tx.connection(), learner.id, version, &key)?;
            }
            tx.append(&entry(&call, &learner, version, digest, takes_over, &reason))?;
            Ok(told(version))
        };
        self.store.write_blocking("keep a trained model", write).map_err(|error| broken(&self.call, error))
    }

    /// Lets a model judge that was trained before. Asked again, it changes nothing.
    fn choose(&self, learner: &Learner, version: i64) -> Result<Value, Failure> {
        let (learner, call) = (learner.clone(), self.call.clone());
        let versions = self.store.read_blocking("read the models", |connection| book::versions(connection, &learner));
        let versions = versions.map_err(|error| broken(&call, error))?;
        let Some(found) = versions.iter().find(|known| known.version == version) else {
            let known = versions.iter().map(|known| known.version.to_string()).collect::<Vec<_>>().join(", ");
            return Err(wrong(
                &call,
                "version",
                &format!("{} has no version {version}; there is [{known}]", series(&learner)),
            ));
        };
        let told = json!({
            "device": learner.name.device, "channel": learner.name.channel, "version": version,
            "model": found.digest, "tookOver": true, "reason": "as asked", "report": found.told["report"],
        });
        let Ok(digest) = found.digest.parse() else { return Err(broken(&call, "a model's digest is none")) };
        let write = move |tx: &mut store::Transaction<'_>| {
            if learner.chosen != Some(version) {
                book::choose(tx.connection(), learner.id, version, &call.key.0)?;
                tx.append(&entry(&call, &learner, version, digest, true, "as asked"))?;
            }
            Ok(())
        };
        self.store.write_blocking("choose a model", write).map_err(|error| broken(&self.call, error))?;
        Ok(told)
    }
}

fn entry(
    call: &Call,
    learner: &Learner,
    version: i64,
    model: shared::digest::Digest,
    took_over: bool,
    reason: &str,
) -> Entry {
    let fact = Fact::DetectorTrained {
        detector: format!("{}/{}", learner.name.feed, learner.name.detector),
        series: series(learner),
        version: version.unsigned_abs(),
        model,
        took_over,
        reason: reason.to_owned(),
    };
    Entry { at: clock::now(), run: Some(call.run), task: Some(call.task.clone()), fact }
}

fn series(learner: &Learner) -> String {
    format!("{}/{}", learner.name.device, learner.name.channel)
}

fn duration(call: &Call, field: &str, text: Option<&str>) -> Result<Option<Duration>, Failure> {
    let parsed = |text: &str| {
        parse_iso8601(text).map_err(|_| {
            wrong(call, field, &format!("{text:?} is no ISO 8601 duration: expected one such as P30D or PT1M"))
        })
    };
    text.map(parsed).transpose()
}

fn wrong(call: &Call, field: &str, expected: &str) -> Failure {
    Failure::new(kind::VALIDATION, format!("{} of {}: {field}: {expected}", call.function, call.task))
}

fn broken(call: &Call, error: impl std::fmt::Display) -> Failure {
    Failure::new(kind::RUNTIME, format!("{} of {}: {error}", call.function, call.task))
}
