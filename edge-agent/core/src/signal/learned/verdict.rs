//! What a model is worth on samples that it has not learned from, and whether it takes over from the one before.

use serde::{Deserialize, Serialize};

use super::{
    drill::drill,
    line::Sample,
    model::{Brain, Model, Track},
};

/// By how much a share of planted disturbances, or an error, must differ to count: less is chance.
const SHARE_MARGIN: f64 = 0.02;
const ERROR_MARGIN: f64 = 0.02;
/// The share of planted disturbances that a model without a former one must find: below it the fallback sees more.
const FIRST_SHARE_MIN: f64 = 0.1;
/// A forecast that is worse than "as before" by more than this is of no use.
const NAIVE_MARGIN: f64 = 1.1;

/// What a model did on samples that it has not learned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Samples that it judged.
    pub samples: usize,
    /// How far a sample was from what the model expected, on average, in the unit of the readings.
    pub error: f64,
    /// The same when the sample before is expected again.
    pub naive_error: f64,
    /// Findings that there would have been.
    pub alarms: usize,
    /// Findings that were promised for so many samples, if nothing was wrong.
    pub alarms_promised: f64,
    /// Disturbances that were planted, and those that were found.
    pub planted: usize,
    pub found: usize,
}

/// Which findings a detector makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Promise {
    /// Microseconds in which one false finding is taken.
    pub false_alarm_every: i64,
    /// Microseconds without anything odd after which the next finding may come.
    pub cool_down: i64,
}

impl Evaluation {
    /// Judges the samples from `from` on as the detector would.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "some thousand samples")]
    pub fn of(model: &Model, promise: Promise, samples: &[Sample], from: usize) -> Self {
        let shape = &model.traits().shape;
        let threshold = model.threshold(promise.false_alarm_every);
        let (mut track, mut anomalous) = (Track::default(), vec![false; samples.len()]);
        let (mut judged_count, mut errors, mut naive, mut alarms) = (0_usize, 0.0, 0.0, 0);
        let mut last_odd: Option<i64> = None;
        for (row, sample) in samples.iter().enumerate() {
            let Some(judged) = track.take(shape, Some(model), *sample).filter(|_| row >= from) else { continue };
            judged_count += 1;
            errors += (sample.value - judged.expected).abs();
            naive += row.checked_sub(1).map_or(0.0, |before| (sample.value - samples[before].value).abs());
            if judged.error >= threshold {
                anomalous[row] = true;
                let at = sample.index.saturating_mul(shape.step);
                alarms += usize::from(last_odd.is_none_or(|last| at.saturating_sub(last) > promise.cool_down));
                last_odd = Some(at);
            }
        }
        let count = judged_count.max(1) as f64;
        let drill = drill(model, threshold, samples, from, &anomalous);
        Self {
            samples: judged_count,
            error: errors / count,
            naive_error: naive / count,
            alarms,
            alarms_promised: judged_count as f64 * shape.step as f64 / promise.false_alarm_every.max(1) as f64,
            planted: drill.planted,
            found: drill.found,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "some hundred disturbances")]
    fn share_found(&self) -> f64 {
        self.found as f64 / self.planted.max(1) as f64
    }

    /// Findings that chance explains: what was promised, twice, and one.
    fn alarms_allowed(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        let promised = (2.0 * self.alarms_promised) as usize;
        promised + 1
    }
}

/// Whether a new model takes over, and why or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Takeover {
    pub takes_over: bool,
    pub reason: String,
}

/// Compares a new model with the one before by what both did on the same samples, which neither has learned from. The new
/// one must not raise more alarms than the old one or than chance explains, and not find fewer of the planted disturbances;
/// and it must find more, or raise fewer alarms than an old one that raises more than chance explains, or err less. Without an old one it must be sound and not blind.
#[must_use]
pub fn compare(brain: Brain, new: &Evaluation, old: Option<(Brain, &Evaluation)>) -> Takeover {
    let told = |takes_over, reason: String| Takeover { takes_over, reason };
    let allowed = new.alarms_allowed().max(old.map_or(0, |(_, old)| old.alarms));
    if new.alarms > allowed {
        return told(false, format!("it would have raised {} alarms: expected at most {allowed}", new.alarms));
    }
    let Some((old_brain, old)) = old else {
        if brain == Brain::Forecast && new.error > NAIVE_MARGIN * new.naive_error {
            return told(
                false,
                format!("its error is {} of that of \"as before\"", percent(new.error, new.naive_error)),
            );
        }
        if new.planted > 0 && new.share_found() < FIRST_SHARE_MIN {
            let found = format!("it finds {} of {} disturbances", new.found, new.planted);
            return told(false, format!("{found}: expected a tenth of them, perhaps with a shorter `falseAlarmEvery`"));
        }
        return told(true, "it is the first, and sound".to_owned());
    };
    let (share, share_old) = (new.share_found(), old.share_found());
    let found = format!("it finds {} of {} disturbances, the one before {}", new.found, new.planted, old.found);
    if share < share_old - SHARE_MARGIN {
        return told(false, found);
    }
    if share >= share_old + SHARE_MARGIN {
        return told(true, found);
    }
    // Fewer than chance explains is no better than what chance explains.
    if new.alarms < old.alarms && old.alarms > old.alarms_allowed() {
        return told(true, format!("it would have raised {} alarms, the one before {}", new.alarms, old.alarms));
    }
    // Shares alone: the ledger keeps this, and the readings may be confidential.
    let errors = format!("its error is {} of that of the one before", percent(new.error, old.error));
    told(brain == old_brain && new.error <= old.error * (1.0 - ERROR_MARGIN), errors)
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.0}%", 100.0 * part / whole) } else { "more than all".to_owned() }
}
