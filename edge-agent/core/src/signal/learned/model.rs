//! A trained model: what it makes of the last samples, how far the newest lies from that, and how rare so much is.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    super::{bits, config::Learned},
    line::{Line, Sample},
    net::Net,
    tail::Tail,
};

/// Samples further out than this teach and say no more than this, in usual deviations.
const CLIP: f64 = 10.0;
const DAY: i64 = 86_400_000_000;

/// What a model does with the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Brain {
    /// Says what comes next from the samples before; finds what comes otherwise.
    #[default]
    Forecast,
    /// Presses a stretch of samples through a narrow place and says them again (an autoencoder); finds stretches of a form
    /// that it has not learned.
    Reconstruct,
}

/// What a model looks at: the detector says it, and a model of another shape does not serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Shape {
    /// Microseconds of one sample.
    pub step: i64,
    /// Samples that it looks at.
    pub length: usize,
    /// Microseconds after which things repeat; 0: they do not.
    pub season: i64,
    /// Errors that are judged together.
    pub smooth: usize,
}

impl From<&Learned> for Shape {
    fn from(learned: &Learned) -> Self {
        let season = learned.season.map_or(0, |season| season.as_micros());
        Self { step: learned.step.as_micros(), length: learned.length, season, smooth: learned.smooth }
    }
}

/// Everything of a model but its net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Traits {
    pub brain: Brain,
    pub shape: Shape,
    /// The usual value and its usual deviation.
    pub center: f64,
    pub scale: f64,
    /// By how much one sample usually differs from the one before.
    pub change: f64,
    /// Whether the time of the season is an input.
    pub knows_season: bool,
    pub tail: Tail,
}

/// A model that can judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    traits: Traits,
    net: Net,
}

/// What a model says of the newest sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    /// How far off, in the model's own unit, at least zero.
    pub error: f64,
    /// What was expected in the place of the newest sample.
    pub expected: f64,
    /// Whether it lies below that.
    pub below: bool,
}

/// What a model remembers of a series.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Track {
    pub line: Line,
    /// The last errors, with their signs.
    #[serde(with = "bits")]
    errors: VecDeque<f64>,
}

impl Track {
    /// Adds a sample; `Some` when there is a model and it has enough samples to judge this one.
    pub fn take(&mut self, shape: &Shape, model: Option<&Model>, sample: Sample) -> Option<Judged> {
        if !self.line.add(sample, shape.length + 1) {
            return None;
        }
        let Some(values) = self.line.full(shape.length + 1) else {
            self.errors.clear();
            return None;
        };
        let model = model?;
        let (expected, error) = model.error(values, sample.index);
        self.errors.push_back(error);
        while self.errors.len() > shape.smooth {
            self.errors.pop_front();
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 64 errors")]
        let mean = self.errors.iter().sum::<f64>() / self.errors.len() as f64;
        Some(Judged { error: mean.abs(), expected, below: sample.value < expected })
    }
}

impl Track {
    /// Whether there are samples enough to judge the newest.
    pub fn is_ready(&self, shape: &Shape) -> bool {
        self.line.full(shape.length + 1).is_some()
    }

    pub fn forget_errors(&mut self) {
        self.errors.clear();
    }
}

impl Model {
    /// A model of these parts.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn new(traits: Traits, net: Net) -> Result<Self, String> {
        let numbers = [traits.center, traits.scale, traits.change];
        if numbers.into_iter().any(|number| !number.is_finite()) || traits.scale <= 0.0 || traits.change <= 0.0 {
            return Err("its usual value, deviation and change are no such numbers".to_owned());
        }
        if !traits.tail.is_sound() {
            return Err("the tail of its errors is none".to_owned());
        }
        let (inputs, outputs) = widths(traits.brain, &traits.shape, traits.knows_season);
        net.check(inputs, outputs)?;
        Ok(Self { traits, net })
    }

    #[must_use]
    pub const fn traits(&self) -> &Traits {
        &self.traits
    }

    #[must_use]
    pub const fn net(&self) -> &Net {
        &self.net
    }

    /// The same with another tail.
    #[must_use]
    pub fn with_tail(mut self, tail: Tail) -> Self {
        self.traits.tail = tail;
        self
    }

    /// Whether the model looks at what this detector does.
    #[must_use]
    pub fn fits(&self, learned: &Learned) -> bool {
        self.traits.shape == Shape::from(learned)
    }

    /// The error that a sample exceeds by chance once in `every` microseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of some years")]
    pub fn threshold(&self, every: i64) -> f64 {
        self.traits.tail.threshold(self.traits.shape.step as f64 / every.max(1) as f64)
    }

    /// How far one sample may lie from what was expected before `threshold` is passed, if it alone counted.
    pub(super) const fn reach(&self, threshold: f64) -> f64 {
        match self.traits.brain {
            Brain::Forecast => threshold * self.traits.change,
            Brain::Reconstruct => threshold * self.traits.scale,
        }
    }

    /// What the newest of these samples was expected to be, and how far off they are.
    fn error(&self, values: &VecDeque<f64>, index: i64) -> (f64, f64) {
        let traits = &self.traits;
        let (input, target) = traits.example(values, index);
        let output = self.net.apply(&input);
        let newest = values.back().copied().unwrap_or_default();
        match traits.brain {
            Brain::Forecast => {
                let off = target.last().copied().unwrap_or_default() - output.last().copied().unwrap_or_default();
                (newest - off * traits.change, off)
            }
            #[expect(clippy::cast_precision_loss, reason = "at most some hundred samples")]
            Brain::Reconstruct => {
                let squares = target.iter().zip(&output).map(|(is, said)| (is - said) * (is - said)).sum::<f64>();
                let said = traits.center + traits.scale * output.last().copied().unwrap_or_default();
                (said, (squares / target.len().max(1) as f64).sqrt())
            }
        }
    }
}

impl Traits {
    /// What the net gets of these samples (`length` and the newest) and what it should make of them.
    pub(super) fn example(&self, values: &VecDeque<f64>, index: i64) -> (Vec<f64>, Vec<f64>) {
        let scaled = |value: f64, from: f64| ((value - from) / self.scale).clamp(-CLIP, CLIP);
        let before = values.len().saturating_sub(1);
        match self.brain {
            Brain::Forecast => {
                let last = values.get(before.saturating_sub(1)).copied().unwrap_or_default();
                let mut input: Vec<f64> =
                    values.iter().take(before.saturating_sub(1)).map(|v| scaled(*v, last)).collect();
                input.push(scaled(last, self.center));
                if self.knows_season {
                    season(&self.shape, index, &mut input);
                }
                let newest = values.back().copied().unwrap_or_default();
                (input, vec![(newest - last) / self.change])
            }
            Brain::Reconstruct => {
                let stretch: Vec<f64> = values.iter().skip(1).map(|value| scaled(*value, self.center)).collect();
                (stretch.clone(), stretch)
            }
        }
    }
}

/// How many numbers a net takes and gives.
pub(super) fn widths(brain: Brain, shape: &Shape, knows_season: bool) -> (usize, usize) {
    match brain {
        Brain::Forecast => (shape.length + if knows_season { 2 * waves(shape.season).len() } else { 0 }, 1),
        Brain::Reconstruct => (shape.length, shape.length),
    }
}

/// How often each wave that tells the time goes up and down in one season. Days within a longer season have their own.
fn waves(season: i64) -> Vec<i64> {
    let days = if season % DAY == 0 { season / DAY } else { 1 };
    match (season, days) {
        (..=0, _) => Vec::new(),
        (_, 2..=14) => vec![1, 2, 3, days, 2 * days, 3 * days, 4 * days],
        _ => vec![1, 2, 3, 4],
    }
}

/// The time of the season, as waves of several lengths and their quarters.
fn season(shape: &Shape, index: i64, input: &mut Vec<f64>) {
    let at = index.saturating_mul(shape.step);
    for times in waves(shape.season) {
        #[expect(clippy::cast_precision_loss, reason = "a season has fewer than 2^53 microseconds")]
        let phase = at.saturating_mul(times).rem_euclid(shape.season) as f64 / shape.season as f64;
        input.extend([wave(phase), wave((phase + 0.25).fract())]);
    }
}

/// Two parabolas in the place of a sine, for a phase of 0..1: a library's sine differs between systems in its last bits.
fn wave(phase: f64) -> f64 {
    if phase < 0.5 { 16.0 * phase * (0.5 - phase) } else { -16.0 * (phase - 0.5) * (1.0 - phase) }
}
