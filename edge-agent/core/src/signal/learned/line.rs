//! Samples of one series: means over steps of equal length, and the last of them as a model sees them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::bits;

/// Steps without a reading that are filled with the sample before: a few lost messages. After a longer gap the model
/// begins anew, with as many samples as it looks at.
const FILLED_MAX: i64 = 3;

/// The mean of the readings of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Steps since 1970-01-01T00:00:00Z.
    pub index: i64,
    pub value: f64,
}

/// Readings of the step that is not over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sampler {
    /// Index, sum and count.
    open: Option<(i64, f64, f64)>,
}

impl Sampler {
    /// Takes a reading; `Some` when it is the first after a step that is over now. One of a step that is over already
    /// counts in the open one.
    pub fn take(&mut self, step: i64, at: i64, value: f64) -> Option<Sample> {
        let now = at.div_euclid(step);
        match &mut self.open {
            Some((index, sum, count)) if now <= *index => {
                *sum += value;
                *count += 1.0;
                None
            }
            open => open.replace((now, value, 1.0)).map(|(index, sum, count)| Sample { index, value: sum / count }),
        }
    }
}

/// The last samples without a gap, the newest last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(with = "bits")]
    values: VecDeque<f64>,
    /// The index of the newest.
    newest: Option<i64>,
}

impl Line {
    /// Adds a sample and keeps the last `length`. `false`: it stands behind the newest and was left out.
    pub fn add(&mut self, sample: Sample, length: usize) -> bool {
        let missing = self.newest.map_or(0, |newest| sample.index.saturating_sub(newest) - 1);
        if missing < 0 {
            return false;
        }
        if missing > FILLED_MAX {
            self.values.clear();
        } else if let Some(last) = self.values.back().copied() {
            (0..missing).for_each(|_| self.values.push_back(last));
        }
        self.values.push_back(sample.value);
        while self.values.len() > length {
            self.values.pop_front();
        }
        self.newest = Some(sample.index);
        true
    }

    /// The last samples, once there are `length`.
    pub fn full(&self, length: usize) -> Option<&VecDeque<f64>> {
        (self.values.len() == length).then_some(&self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_mean_of_its_step_and_is_there_when_the_next_begins() {
        let mut sampler = Sampler::default();
        let mut take = |at, value| sampler.take(10, at, value).map(|sample| (sample.index, sample.value));
        assert_eq!(take(3, 1.0), None);
        assert_eq!(take(9, 3.0), None);
        assert_eq!(take(45, 7.0), Some((0, 2.0)));
        assert_eq!(take(31, 9.0), None, "late, and counted where it can be");
        assert_eq!(take(50, 0.0), Some((4, 8.0)));
    }

    #[test]
    fn a_short_gap_is_filled_and_a_long_one_begins_anew() {
        let mut line = Line::default();
        let mut add = |index, value: f64| {
            line.add(Sample { index, value }, 4).then(|| line.values.iter().copied().collect::<Vec<f64>>())
        };
        assert_eq!(add(7, 1.0).expect("added"), [1.0]);
        assert_eq!(add(10, 2.0).expect("added"), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(add(11, 3.0).expect("added"), [1.0, 1.0, 2.0, 3.0]);
        assert_eq!(add(11, 4.0), None);
        assert_eq!(add(16, 5.0).expect("added"), [5.0]);
    }
}
