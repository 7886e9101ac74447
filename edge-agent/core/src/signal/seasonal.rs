//! Learns what is normal at each time of a season, such as a day, and tells what is far from it.
//!
//! The season is cut into slots; each has a level, the clipped mean of its visits, which follows slowly, and all share a
//! drift, which follows within a season. A value is expected between the levels of its slot and the two beside it. How
//! far outside it is, over the mean of a few values, is measured in units of the residuals' usual size. Clipping (Huber,
//! 1964) keeps an anomaly from becoming the new normal before someone has seen it; a change that stays is learned.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{bits, config::Seasonal, detect::Verdict};

/// How many visits a slot's level remembers.
const VISITS_REMEMBERED: f64 = 6.0;
/// Residuals beyond so many usual sizes teach no more than this much.
const CLIP: f64 = 3.0;
/// Over how many seasons the usual size, and the drift of all levels, are forgotten.
const SIZE_SEASONS: f64 = 10.0;
const DRIFT_SEASONS: f64 = 1.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    season: i64,
    #[serde(with = "bits")]
    levels: Vec<f64>,
    #[serde(with = "bits")]
    visits: Vec<f64>,
    /// The slot being visited: index, sum and count of its values so far.
    visiting: Option<(usize, f64, f64)>,
    first_at: Option<i64>,
    last_at: Option<i64>,
    /// The usual size of a residual, and how many values it was learned from.
    size: f64,
    learned: f64,
    /// By how much all slots lie higher than they used to, of late.
    drift: f64,
    #[serde(with = "bits")]
    recent: VecDeque<f64>,
}

impl Memory {
    pub(super) fn new(seasonal: &Seasonal) -> Self {
        Self {
            season: seasonal.season.as_micros(),
            levels: vec![0.0; seasonal.slots],
            visits: vec![0.0; seasonal.slots],
            visiting: None,
            first_at: None,
            last_at: None,
            size: 0.0,
            learned: 0.0,
            drift: 0.0,
            recent: VecDeque::new(),
        }
    }

    pub(super) fn fits(&self, seasonal: &Seasonal) -> bool {
        self.season == seasonal.season.as_micros() && self.levels.len() == seasonal.slots
    }

    pub(super) fn judge(&mut self, seasonal: &Seasonal, at: i64, value: f64) -> Option<Verdict> {
        let first_at = *self.first_at.get_or_insert(at);
        let warm = at.saturating_sub(first_at) >= seasonal.warm_up.as_micros();
        let expected = self.expected(at);
        let verdict = expected.and_then(|expected| self.weigh(seasonal, at, value, expected, warm));
        let reach = CLIP * self.size;
        // Before the level is known there is nothing to clip to.
        let taught = match expected {
            Some((low, high)) if warm && reach > 0.0 => value.clamp(low - reach, high + reach),
            _ => value,
        };
        self.visit(at, taught);
        self.last_at = Some(at);
        verdict
    }

    /// How far the value is outside what is expected, against the usual size; learns that size.
    fn weigh(&mut self, seasonal: &Seasonal, at: i64, value: f64, expected: (f64, f64), warm: bool) -> Option<Verdict> {
        let (low, high) = (expected.0 + self.drift, expected.1 + self.drift);
        let outside = if value > high { value - high } else { (value - low).min(0.0) };
        self.recent.push_back(outside);
        while self.recent.len() > seasonal.smooth {
            self.recent.pop_front();
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 64 values")]
        let residual = self.recent.iter().sum::<f64>() / self.recent.len() as f64;
        let scale = (1.2533 * self.size).max(seasonal.floor).max(low.abs().max(high.abs()) * 1e-4).max(1e-9);
        let score = residual / scale;
        self.learn(at, value - self.levels[self.place(at).0]);
        let reach = seasonal.threshold * scale;
        warm.then(|| Verdict {
            anomalous: score.abs() >= seasonal.threshold,
            kind: if score < 0.0 { "low" } else { "high" },
            score: score.abs(),
            low: Some(low - reach),
            high: Some(high + reach),
        })
    }

    /// Learns from a residual, clipped: at first as a plain mean, later forgetting by the clock, however fast readings come.
    fn learn(&mut self, at: i64, residual: f64) {
        self.learned += 1.0;
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let elapsed = at.saturating_sub(self.last_at.unwrap_or(at)).max(0) as f64 / self.season as f64;
        let weight = |seasons: f64| (1.0 / self.learned).max((elapsed / seasons).min(0.05));
        let (for_size, for_drift) = (weight(SIZE_SEASONS), weight(DRIFT_SEASONS));
        let size = (residual - self.drift).abs();
        let taught = if self.learned > 50.0 { size.min(CLIP * self.size.max(f64::MIN_POSITIVE)) } else { size };
        self.size += for_size * (taught - self.size);
        let reach = CLIP * self.size;
        self.drift += for_drift * (residual - self.drift).clamp(-reach, reach);
    }

    fn place(&self, at: i64) -> (usize, f64) {
        #[expect(clippy::cast_precision_loss, reason = "a season has fewer than 2^53 microseconds")]
        let position = at.rem_euclid(self.season) as f64 / self.season as f64 * self.levels.len() as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of slots"
        )]
        let slot = (position as usize).min(self.levels.len() - 1);
        #[expect(clippy::cast_precision_loss, reason = "at most 1,440 slots")]
        (slot, position - slot as f64)
    }

    /// Between which levels the value is expected: those of its slot and of the two beside it, so that what happens a
    /// little earlier or later than usual is no anomaly. `None` before the slot was visited.
    fn expected(&self, at: i64) -> Option<(f64, f64)> {
        let (slot, _) = self.place(at);
        if self.visits[slot] == 0.0 {
            return None;
        }
        let slots = self.levels.len();
        let beside = [(slot + slots - 1) % slots, slot, (slot + 1) % slots];
        let known = beside.into_iter().filter(|slot| self.visits[*slot] > 0.0).map(|slot| self.levels[slot]);
        Some(known.fold((f64::MAX, f64::MIN), |(low, high), level| (low.min(level), high.max(level))))
    }

    /// Adds a value to the visit of its slot; when the slot changes, the visit's mean teaches the level it left.
    fn visit(&mut self, at: i64, value: f64) {
        let (slot, _) = self.place(at);
        match &mut self.visiting {
            Some((current, sum, count)) if *current == slot => {
                *sum += value;
                *count += 1.0;
            }
            visiting => {
                if let Some((left, sum, count)) = visiting.replace((slot, value, 1.0)) {
                    self.visits[left] += 1.0;
                    let weight = (1.0 / self.visits[left]).max(1.0 / VISITS_REMEMBERED);
                    self.levels[left] += weight * (sum / count - self.levels[left]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn day(hour: i64) -> f64 {
        20.0 + 10.0 * (std::f64::consts::TAU * f64::from(i32::try_from(hour % 24).expect("small")) / 24.0).sin()
    }

    #[test]
    fn a_value_that_is_normal_at_noon_is_not_at_midnight() {
        let seasonal = Seasonal {
            season: "1d".parse().expect("span"),
            slots: 24,
            threshold: 6.0,
            warm_up: "3d".parse().expect("span"),
            smooth: 1,
            floor: 0.1,
        };
        let mut memory = Memory::new(&seasonal);
        for hour in 0..24 * 8 {
            let noise = f64::from(i32::try_from(hour * 7919 % 100).expect("small")) / 100.0;
            let verdict = memory.judge(&seasonal, hour * HOUR, day(hour) + noise);
            assert!(!verdict.is_some_and(|verdict| verdict.anomalous), "hour {hour}: {verdict:?}");
            assert_eq!(verdict.is_some(), hour >= 72);
        }
        let midnight = memory.judge(&seasonal, 24 * 8 * HOUR, day(6)).expect("warm");
        assert!(midnight.anomalous && midnight.kind == "high", "{midnight:?}");
    }
}
