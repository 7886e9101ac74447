//! From how far out a sample is to how rarely that happens by chance: the largest tenth of the errors of samples that the
//! model did not learn from, beyond them a generalised Pareto tail (Pickands, 1975) fitted by probability-weighted moments
//! (Hosking and Wallis, 1987). So a threshold is a rate of false alarms, not a number that someone guessed.

use serde::{Deserialize, Serialize};

/// The share of the errors that the tail is fitted to.
const SHARE: f64 = 0.1;
/// A tail that would end somewhere is taken as one that thins out exponentially, and one heavier than this is not believed:
/// the few values that it is fitted to cannot tell.
const SHAPE_MAX: f64 = 0.5;
/// Errors that a tail is fitted to at least.
pub const ERRORS_MIN: usize = 30;

/// How errors are distributed where they are large.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Where the tail begins.
    pub from: f64,
    /// The share of errors beyond that.
    pub share: f64,
    /// How heavy the tail is: 0 is exponential.
    pub shape: f64,
    /// How far it reaches, in the unit of the errors.
    pub reach: f64,
}

impl Tail {
    /// The tail of these errors; `None` when they are too few.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "some thousand errors")]
    pub fn of(mut errors: Vec<f64>) -> Option<Self> {
        errors.retain(|error| error.is_finite());
        if errors.len() < ERRORS_MIN {
            return None;
        }
        errors.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a tenth of a count")]
        let beyond = ((errors.len() as f64 * SHARE) as usize).max(10);
        let (usual, large) = errors.split_at(errors.len() - beyond);
        let from = usual.last().copied()?;
        let count = large.len() as f64;
        let excess = || large.iter().map(|error| error - from);
        let mean = excess().sum::<f64>() / count;
        let weighted = excess().zip(1_u32..).map(|(excess, rank)| excess * (count - f64::from(rank) + 0.35) / count);
        let weighted = weighted.sum::<f64>() / count;
        let apart = mean - 2.0 * weighted;
        let fitted = if apart > 0.0 { 2.0 - mean / apart } else { SHAPE_MAX };
        let shape = fitted.clamp(0.0, SHAPE_MAX);
        // With the shape given, the mean of the excesses is `reach / (1 - shape)`.
        let reach = (mean * (1.0 - shape)).max(from.abs() * 1e-6).max(1e-12);
        Some(Self { from, share: count / errors.len() as f64, shape, reach })
    }

    /// The error that a sample exceeds by chance once in `1 / chance` samples; never below where the tail begins.
    #[must_use]
    pub fn threshold(&self, chance: f64) -> f64 {
        let rarer = self.share / chance.max(f64::MIN_POSITIVE);
        if rarer <= 1.0 {
            return self.from;
        }
        let steps = if self.shape > 1e-6 { (rarer.powf(self.shape) - 1.0) / self.shape } else { rarer.ln() };
        self.from + self.reach * steps
    }

    /// The share of samples that would have such an error or a larger one by chance.
    #[must_use]
    pub fn chance(&self, error: f64) -> f64 {
        let steps = (error - self.from) / self.reach;
        if steps <= 0.0 {
            // Below the tail nobody asks exactly.
            let part = if self.from > 0.0 { (error / self.from).clamp(0.0, 1.0) } else { 1.0 };
            return 1.0 - (1.0 - self.share) * part;
        }
        let left = if self.shape > 1e-6 { (1.0 + self.shape * steps).powf(-1.0 / self.shape) } else { (-steps).exp() };
        self.share * left
    }

    /// Whether these are numbers of a tail.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let finite = [self.from, self.share, self.shape, self.reach].into_iter().all(f64::is_finite);
        finite && self.share > 0.0 && self.share <= 1.0 && (0.0..=SHAPE_MAX).contains(&self.shape) && self.reach > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::learned::dice::Dice;
    use proptest::prelude::*;

    #[test]
    fn a_threshold_is_a_rate_of_false_alarms() {
        for seed in 0..20 {
            let mut dice = Dice::new(seed);
            let mut errors = |count: usize| (0..count).map(|_| dice.normal().abs()).collect::<Vec<f64>>();
            let tail = Tail::of(errors(2_000)).expect("enough");
            let threshold = tail.threshold(1e-3);
            let above = errors(100_000).iter().filter(|error| **error >= threshold).count();
            // 100 are promised. A normal distribution thins out faster than the tail that is assumed: there are fewer.
            assert!((3..300).contains(&above), "seed {seed}: {above} above {threshold}");
        }
    }

    #[test]
    fn few_errors_have_no_tail() {
        assert_eq!(Tail::of(vec![1.0; ERRORS_MIN - 1]), None);
        assert_eq!(Tail::of(vec![f64::NAN; 100]), None);
        assert!(Tail::of(vec![0.0; 100]).expect("a tail").is_sound());
    }

    proptest! {
        #[test]
        fn rarer_is_further_out_and_back_again(
            errors in proptest::collection::vec(0.0_f64..100.0, 30..300),
            chance in 1e-6_f64..0.09,
        ) {
            let tail = Tail::of(errors).expect("enough");
            prop_assert!(tail.is_sound());
            let threshold = tail.threshold(chance);
            prop_assert!(tail.threshold(chance / 2.0) >= threshold);
            if threshold > tail.from {
                prop_assert!((tail.chance(threshold) / chance.min(tail.share) - 1.0).abs() < 1e-6);
            }
        }
    }
}
