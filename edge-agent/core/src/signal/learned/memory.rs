//! What the detector remembers of a series: the step that is open, the last samples, which model judges them, and what its
//! fallback remembers, which goes on learning beside the model.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    super::{
        config::Learned,
        detect::{self, Verdict},
    },
    line::{Sample, Sampler},
    model::{Brain, Judged, Model, Shape, Track},
};

/// Scores end here: what is rarer than once in so many powers of ten of samples has no number.
const SCORE_MAX: f64 = 30.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Memory {
    shape: Shape,
    sampler: Sampler,
    track: Track,
    /// The digest of the model that judges. After a restart the same one goes on, whatever was trained meanwhile.
    model: Option<String>,
    fallback: Option<detect::Memory>,
    /// That model. Not part of what is saved: it is found again by its digest.
    #[serde(skip)]
    brain: Option<Arc<Model>>,
}

impl Memory {
    pub fn new(learned: &Learned) -> Self {
        Self {
            shape: Shape::from(learned),
            sampler: Sampler::default(),
            track: Track::default(),
            model: None,
            fallback: learned.fallback.as_deref().map(detect::Memory::new),
            brain: None,
        }
    }

    pub fn fits(&self, learned: &Learned) -> bool {
        let fallback = match (&self.fallback, learned.fallback.as_deref()) {
            (Some(memory), Some(method)) => memory.fits(method),
            (None, None) => true,
            _ => false,
        };
        fallback && self.shape == Shape::from(learned)
    }

    /// The digest of the model that judges, or should.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// From now on this model judges, or none. Errors of the one before are in another unit, and forgotten.
    pub fn equip(&mut self, model: Option<(String, Arc<Model>)>) {
        let (digest, brain) = model.unzip();
        if self.model != digest {
            self.track.forget_errors();
        }
        (self.model, self.brain) = (digest, brain);
    }

    /// Judges a reading by the fallback, or the step that it ends by the model. Steps that are over are added to `samples`.
    pub fn judge(&mut self, learned: &Learned, at: i64, value: f64, samples: &mut Vec<Sample>) -> Option<Verdict> {
        let fallback = self.fallback.as_mut().zip(learned.fallback.as_deref());
        let usual = fallback.and_then(|(memory, method)| memory.judge(method, at, value, samples));
        let over = self.sampler.take(self.shape.step, at, value);
        let model = self.brain.as_deref();
        let judged = over.and_then(|sample| {
            samples.push(sample);
            self.track.take(&self.shape, model, sample)
        });
        match model {
            Some(model) if self.track.is_ready(&self.shape) => judged.map(|judged| verdict(learned, model, judged)),
            _ => usual,
        }
    }
}

fn verdict(learned: &Learned, model: &Model, judged: Judged) -> Verdict {
    let threshold = model.threshold(learned.false_alarm_every.as_micros());
    let reach = model.reach(threshold);
    let rare = model.traits().tail.chance(judged.error).max(f64::MIN_POSITIVE);
    let kind = match (model.traits().brain, judged.below) {
        (Brain::Reconstruct, _) => "form",
        (Brain::Forecast, true) => "low",
        (Brain::Forecast, false) => "high",
    };
    Verdict {
        anomalous: judged.error >= threshold,
        kind,
        score: (-rare.log10()).clamp(0.0, SCORE_MAX),
        low: Some(judged.expected - reach),
        high: Some(judged.expected + reach),
    }
}
