//! Disturbances planted in a history, to see how many of them a model finds: what an error alone does not say.

use super::{
    line::Sample,
    model::{Model, Shape, Track},
};

/// Places in the history where each kind is planted.
const PLACES: usize = 40;

/// What is planted. `size` is a quarter of the span in which nine tenths of the samples lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One sample is off by twice the size.
    Spike,
    /// All that follow are off by the size.
    Shift,
    /// The value stands still.
    Stuck,
    /// It drifts away, up to twice the size.
    Drift,
}

const KINDS: [Kind; 4] = [Kind::Spike, Kind::Shift, Kind::Stuck, Kind::Drift];

/// How many disturbances were planted and found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Drill {
    pub planted: usize,
    pub found: usize,
}

/// Plants each kind at places all over the samples from `from` on. `anomalous`: of each sample of the undisturbed history,
/// whether the model tells of it: what it tells of anyway is not found.
pub(super) fn drill(model: &Model, threshold: f64, samples: &[Sample], from: usize, anomalous: &[bool]) -> Drill {
    let shape = &model.traits().shape;
    let size = size(&samples[from..]);
    let lasts = shape.length.min(24);
    let last = samples.len().saturating_sub(lasts);
    let every = (last.saturating_sub(from) / PLACES).max(1);
    let mut drill = Drill::default();
    let mut track = Track::default();
    for (row, sample) in samples.iter().enumerate().take(last) {
        if row >= from && (row - from).is_multiple_of(every) && track.is_ready(shape) && size > 0.0 {
            for (kind, turn) in KINDS.into_iter().zip(0..) {
                let sign = if ((row - from) / every + turn).is_multiple_of(2) { 1.0 } else { -1.0 };
                drill.planted += 1;
                let stretch = row..row + lasts;
                let is_found = finds(model, threshold, track.clone(), &samples[stretch.clone()], |index, value| {
                    disturbed(kind, sign * size, index, lasts, value, sample.value)
                });
                let is_new = is_found.is_some_and(|at| !anomalous[stretch][..=at].iter().any(|told| *told));
                drill.found += usize::from(is_new);
            }
        }
        track.take(shape, Some(model), *sample);
    }
    drill
}

/// The first of these samples that the model tells of, disturbed.
fn finds(
    model: &Model,
    threshold: f64,
    mut track: Track,
    samples: &[Sample],
    disturbed: impl Fn(usize, f64) -> f64,
) -> Option<usize> {
    let shape: &Shape = &model.traits().shape;
    samples.iter().enumerate().position(|(index, sample)| {
        let sample = Sample { value: disturbed(index, sample.value), ..*sample };
        track.take(shape, Some(model), sample).is_some_and(|judged| judged.error >= threshold)
    })
}

#[expect(clippy::cast_precision_loss, reason = "at most 24 samples")]
fn disturbed(kind: Kind, size: f64, index: usize, lasts: usize, value: f64, first: f64) -> f64 {
    match kind {
        Kind::Spike if index == 0 => value + 2.0 * size,
        Kind::Spike => value,
        Kind::Shift => value + size,
        Kind::Stuck => first,
        Kind::Drift => value + 2.0 * size * (index + 1) as f64 / lasts as f64,
    }
}

fn size(samples: &[Sample]) -> f64 {
    let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    sorted.sort_by(f64::total_cmp);
    let at =
        |twentieth: usize| sorted.get(sorted.len().saturating_sub(1) * twentieth / 20).copied().unwrap_or_default();
    (at(19) - at(1)) / 4.0
}
