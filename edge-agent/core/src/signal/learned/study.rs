//! From a history to a model: the oldest 60% are learned from, the next 20% say when to stop and how large errors usually
//! are, and the newest 20%, which nothing was learned from, say what the model is worth.

use super::{
    line::Sample,
    model::{Brain, Model, Shape, Track, Traits, widths},
    net::Net,
    tail::{self, Tail},
};

/// Samples beside those that a model looks at that a history must have: with fewer, the errors that are kept for the tail
/// would be too few.
const SAMPLES_MIN: usize = 200;
/// Seasons that must be learned from before the time of the season is an input: a model that saw one Monday would take
/// everything about it for Mondays' ways.
const SEASONS_MIN: i64 = 3;
/// Of the inner layers.
const FORECAST_WIDTH: usize = 16;
const OUTER_WIDTH_MAX: usize = 32;

/// Rows of numbers to learn from: what goes in, and what should come out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Examples {
    pub inputs: Vec<f32>,
    pub targets: Vec<f32>,
    pub rows: usize,
}

/// The history is too short, or says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLittle {
    #[error(
        "the history has {found} samples of {step}: expected at least {wanted}; wait until it has, or choose a shorter `step`"
    )]
    Short { found: usize, wanted: usize, step: super::super::config::Span },
    #[error("the history does not vary: there is nothing to learn")]
    Still,
    #[error(
        "the history has too many gaps: {found} stretches of {length} samples without one, expected at least {wanted}"
    )]
    Gaps { found: usize, length: usize, wanted: usize },
}

/// A history, ready to be learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    traits: Traits,
    samples: Vec<Sample>,
    /// Where the second and the third part begin.
    parts: [usize; 2],
    pub learned_from: Examples,
    pub held_out: Examples,
}

impl Study {
    /// Prepares a history, oldest first.
    ///
    /// # Errors
    /// When it is too short or has nothing to learn.
    pub fn of(samples: Vec<Sample>, shape: Shape, brain: Brain) -> Result<Self, TooLittle> {
        let wanted = SAMPLES_MIN + 2 * shape.length;
        if samples.len() < wanted {
            let step = super::super::config::Span(shape.step);
            return Err(TooLittle::Short { found: samples.len(), wanted, step });
        }
        let parts = [samples.len() * 3 / 5, samples.len() * 4 / 5];
        let (center, scale, change) = usual(&samples[..parts[0]]).ok_or(TooLittle::Still)?;
        let span = samples[parts[0] - 1].index.saturating_sub(samples[0].index).saturating_mul(shape.step);
        let knows_season = shape.season > 0 && span / shape.season >= SEASONS_MIN;
        // Until the errors are known, any tail will do.
        let tail = Tail { from: 1.0, share: 1.0, shape: 0.0, reach: 1.0 };
        let traits = Traits { brain, shape, center, scale, change, knows_season, tail };
        let (learned_from, held_out) = examples(&traits, &samples, parts);
        let wanted = tail::ERRORS_MIN.max(shape.length);
        let found = learned_from.rows.min(held_out.rows);
        if found < wanted {
            return Err(TooLittle::Gaps { found, length: shape.length, wanted });
        }
        Ok(Self { traits, samples, parts, learned_from, held_out })
    }

    /// Numbers that the net takes, numbers of its inner layers, numbers that it gives.
    #[must_use]
    pub fn widths(&self) -> (usize, Vec<usize>, usize) {
        let length = self.traits.shape.length;
        let (inputs, outputs) = widths(self.traits.brain, &self.traits.shape, self.traits.knows_season);
        let inner = match self.traits.brain {
            Brain::Forecast => vec![FORECAST_WIDTH],
            Brain::Reconstruct => {
                let outer = (length / 2).clamp(4, OUTER_WIDTH_MAX);
                vec![outer, (length / 6).clamp(2, 8), outer]
            }
        };
        (inputs, inner, outputs)
    }

    /// Whether the net has a layer straight from its input to its output. An autoencoder must not: it would say everything
    /// again.
    #[must_use]
    pub fn is_straight(&self) -> bool {
        self.traits.brain == Brain::Forecast
    }

    /// The history that was prepared, oldest first.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Where the part begins that nothing is learned from.
    #[must_use]
    pub const fn newest_part(&self) -> usize {
        self.parts[1]
    }

    /// The model of a net that has learned, with the tail of its errors on the second part: what to judge it by.
    ///
    /// # Errors
    /// When the net is not of these widths, or its errors are no numbers.
    pub fn model(&self, net: Net) -> Result<Model, String> {
        let model = Model::new(self.traits.clone(), net)?;
        self.calibrated(model, self.parts[0]..self.parts[1])
    }

    /// The same model with the tail of its errors on all that it has not learned from: what to use.
    ///
    /// # Errors
    /// When its errors are no numbers.
    pub fn settled(&self, model: Model) -> Result<Model, String> {
        self.calibrated(model, self.parts[0]..self.samples.len())
    }

    fn calibrated(&self, model: Model, part: std::ops::Range<usize>) -> Result<Model, String> {
        let mut track = Track::default();
        let judged = self.samples.iter().map(|sample| track.take(&self.traits.shape, Some(&model), *sample));
        let errors = judged.enumerate().filter(|(row, _)| part.contains(row)).filter_map(|(_, judged)| judged);
        let tail = Tail::of(errors.map(|judged| judged.error).collect());
        tail.map(|tail| model.with_tail(tail)).ok_or_else(|| "its errors are no numbers".to_owned())
    }
}

/// The usual value, its usual deviation, and how much one sample usually differs from the one before; `None` when the
/// samples are all alike.
#[expect(clippy::cast_precision_loss, reason = "some thousand samples")]
fn usual(samples: &[Sample]) -> Option<(f64, f64, f64)> {
    let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |quarter: usize| sorted[(sorted.len() - 1) * quarter / 4];
    let center = at(2);
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    let deviation =
        (sorted.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / sorted.len() as f64).sqrt();
    // Of a normal distribution, the middle half is 1.349 deviations wide. Where half of all samples are alike, that says
    // nothing.
    let scale = ((at(3) - at(1)) / 1.349).max(deviation / 4.0);
    let changes = samples.windows(2).map(|pair| (pair[1].value - pair[0].value).abs());
    let change = 1.2533 * changes.sum::<f64>() / (samples.len() - 1) as f64;
    let sound = scale.is_finite() && change.is_finite() && scale > center.abs() * 1e-12 && change > 0.0;
    sound.then_some((center, scale, change))
}

fn examples(traits: &Traits, samples: &[Sample], parts: [usize; 2]) -> (Examples, Examples) {
    let (mut learned_from, mut held_out) = (Examples::default(), Examples::default());
    let mut track = Track::default();
    for (row, sample) in samples[..parts[1]].iter().enumerate() {
        track.line.add(*sample, traits.shape.length + 1);
        let Some(values) = track.line.full(traits.shape.length + 1) else { continue };
        let (input, target) = traits.example(values, sample.index);
        let into = if row < parts[0] { &mut learned_from } else { &mut held_out };
        #[expect(clippy::cast_possible_truncation, reason = "weights have no more bits")]
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32);
        into.inputs.extend(narrow(input));
        into.targets.extend(narrow(target));
        into.rows += 1;
    }
    (learned_from, held_out)
}
