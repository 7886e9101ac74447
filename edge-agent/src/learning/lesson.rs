//! One lesson: a history in, a model with its report out. Takes a second or some, on a thread that may block.

use std::time::Instant;

use edge_core::signal::learned::{
    Brain, Evaluation, Examples, Layer, Model, Net, Sample, Study, Takeover, TooLittle, Traits, compare,
};
use models::series::{self, End, Fitted, Settings, Widths};
use serde::Serialize;
use serde_json::json;
use shared::{digest::Digest, time::Timestamp};

use super::book::Rule;

/// What is to be learned.
pub struct Task<'a> {
    pub rule: Rule,
    pub brain: Brain,
    pub seed: u64,
    /// When to stop, whatever has been learned by then.
    pub until: Instant,
    /// The model that judges now, with its version, if it looks at the same.
    pub previous: Option<(i64, &'a Model)>,
}

/// What was learned.
pub struct Learned {
    pub weights: Vec<u8>,
    pub takeover: Takeover,
    pub report: Report,
}

/// What `train` tells of a lesson.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    kind: Brain,
    samples: usize,
    from: Timestamp,
    to: Timestamp,
    rounds: usize,
    best_round: usize,
    /// `settled`, `rounds` or `time`.
    ended: &'static str,
    loss_at_first: f64,
    loss: f64,
    /// Both on the newest part of the history, which the new model did not learn from.
    new: Evaluation,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Evaluation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_version: Option<i64>,
    duration_ms: u64,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    TooLittle(#[from] TooLittle),
    #[error("the model cannot be made: {0}")]
    Broken(String),
}

/// Learns from these samples, and compares what came of it with the model before. The same samples, seed and rule give the
/// same bytes, unless the time ran out.
///
/// # Errors
/// When the history is too short or has nothing to learn.
pub fn learn(task: &Task<'_>, samples: Vec<Sample>) -> Result<Learned, Error> {
    let began = Instant::now();
    let step = task.rule.shape.step;
    let at = |index: i64| Timestamp::from_micros(index.saturating_mul(step));
    let (from, to) = (samples.first().map(|sample| sample.index), samples.last().map(|sample| sample.index + 1));
    let (from, to) = (at(from.unwrap_or_default()), at(to.unwrap_or_default()));
    let history = digest(&samples);
    let study = Study::of(samples, task.rule.shape, task.brain)?;
    let fitted = fit(&study, task)?;
    let (rounds, best_round, ended) = (fitted.rounds.len() - 1, fitted.best, words(fitted.end));
    let (loss_at_first, loss) = (fitted.rounds[0].held_out, fitted.rounds[fitted.best].held_out);
    let model = study.model(narrow(fitted.net)).map_err(Error::Broken)?;
    let judged = |model: &Model| Evaluation::of(model, task.rule.promise, study.samples(), study.newest_part());
    let new = judged(&model);
    let previous = task.previous.map(|(version, model)| (version, model.traits().brain, judged(model)));
    let takeover = compare(task.brain, &new, previous.as_ref().map(|(_, brain, judged)| (*brain, judged)));
    let model = study.settled(model).map_err(Error::Broken)?;
    let report = Report {
        kind: task.brain,
        samples: study.samples().len(),
        from,
        to,
        rounds,
        best_round,
        ended,
        loss_at_first,
        loss,
        new,
        previous: previous.as_ref().map(|(_, _, judged)| *judged),
        previous_version: previous.map(|(version, ..)| version),
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let about = json!({ "from": from, "to": to, "history": history, "seed": task.seed });
    Ok(Learned { weights: pack(&model, &about)?, takeover, report })
}

fn fit(study: &Study, task: &Task<'_>) -> Result<Fitted, Error> {
    let (inputs, inner, outputs) = study.widths();
    let widths = Widths { inputs, inner, outputs, is_straight: study.is_straight() };
    fn rows(examples: &Examples) -> series::Examples<'_> {
        series::Examples { inputs: &examples.inputs, targets: &examples.targets }
    }
    let settings = Settings { seed: task.seed, ..Settings::default() };
    let go_on = || Instant::now() < task.until;
    series::fit(&widths, rows(&study.learned_from), rows(&study.held_out), &settings, go_on)
        .map_err(|error| Error::Broken(error.to_string()))
}

const fn words(end: End) -> &'static str {
    match end {
        End::Settled => "settled",
        End::Rounds => "rounds",
        End::Stopped => "time",
    }
}

/// What was learned from, so that anyone with the same history can see that it was this.
fn digest(samples: &[Sample]) -> Digest {
    let bytes = samples.iter().flat_map(|sample| [sample.index.to_le_bytes(), sample.value.to_le_bytes()]);
    Digest::of(&bytes.flatten().collect::<Vec<u8>>())
}

/// A model as one file.
fn pack(model: &Model, about: &serde_json::Value) -> Result<Vec<u8>, Error> {
    let text = json!({ "traits": model.traits(), "trained": about }).to_string();
    let wide = |layer: &Layer| series::Layer {
        inputs: layer.inputs,
        outputs: layer.outputs,
        weights: layer.weights.clone(),
        bias: layer.bias.clone(),
    };
    let net = model.net();
    let net = series::Net { layers: net.layers.iter().map(wide).collect(), skip: net.skip.as_ref().map(wide) };
    series::save(&net, &text).map_err(|error| Error::Broken(error.to_string()))
}

/// The model of such a file.
///
/// # Errors
/// What is wrong with it.
pub fn unpack(bytes: &[u8]) -> Result<Model, String> {
    #[derive(serde::Deserialize)]
    struct About {
        traits: Traits,
    }
    let (net, text) = series::load(bytes).map_err(|error| error.to_string())?;
    let About { traits } = serde_json::from_str(&text).map_err(|error| format!("what it says of itself: {error}"))?;
    Model::new(traits, narrow(net))
}

fn narrow(net: series::Net) -> Net {
    let of = |layer: series::Layer| {
        let series::Layer { inputs, outputs, weights, bias } = layer;
        Layer { inputs, outputs, weights, bias }
    };
    Net { layers: net.layers.into_iter().map(of).collect(), skip: net.skip.map(of) }
}
