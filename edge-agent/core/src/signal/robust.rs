//! Rolling robust z-score: the distance from the median of the last values in units of their median absolute deviation
//! times 1.4826 (Iglewicz and Hoaglin, 1993). Both are found by binary search in a sorted copy of the window.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{bits, config::Robust, detect::Verdict};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub(super) struct Memory {
    window: VecDeque<f64>,
    /// The same values in order. At most 1,024: moving 8 KiB at worst is quicker than any tree.
    sorted: Vec<f64>,
    recent: VecDeque<f64>,
}

/// The order of the values is found again from the values.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Saved {
    #[serde(with = "bits")]
    window: VecDeque<f64>,
    #[serde(with = "bits")]
    recent: VecDeque<f64>,
}

impl From<Saved> for Memory {
    fn from(saved: Saved) -> Self {
        let mut sorted: Vec<f64> = saved.window.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        Self { window: saved.window, sorted, recent: saved.recent }
    }
}

impl From<Memory> for Saved {
    fn from(memory: Memory) -> Self {
        Self { window: memory.window, recent: memory.recent }
    }
}

impl Memory {
    pub(super) fn judge(&mut self, robust: &Robust, value: f64) -> Option<Verdict> {
        self.recent.push_back(value);
        while self.recent.len() > robust.smooth {
            self.recent.pop_front();
        }
        let verdict = (self.sorted.len() >= robust.warm_up).then(|| {
            let middle = self.sorted[self.sorted.len() / 2];
            let scale = scale(&self.sorted, middle, robust.floor);
            let score = (median_of_few(&self.recent) - middle) / scale;
            let reach = robust.threshold * scale;
            Verdict {
                anomalous: score.abs() >= robust.threshold,
                kind: if score < 0.0 { "low" } else { "high" },
                score: score.abs(),
                low: Some(middle - reach),
                high: Some(middle + reach),
            }
        });
        self.remember(robust.length, value);
        verdict
    }

    fn remember(&mut self, length: usize, value: f64) {
        while self.window.len() >= length {
            let oldest = self.window.pop_front().expect("the window is not empty");
            let place = self.sorted.partition_point(|other| other.total_cmp(&oldest).is_lt());
            self.sorted.remove(place);
        }
        self.window.push_back(value);
        let place = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(place, value);
    }
}

/// The spread as a standard deviation would have it; never zero.
#[expect(clippy::cast_precision_loss, reason = "at most 1,024 values")]
fn scale(sorted: &[f64], middle: f64, floor: f64) -> f64 {
    let mut scale = 1.4826 * median_deviation(sorted, middle);
    if scale == 0.0 {
        // More than half of the values are equal: the mean deviation still tells something of the rest.
        scale = 1.2533 * sorted.iter().map(|value| (value - middle).abs()).sum::<f64>() / sorted.len() as f64;
    }
    scale.max(floor).max(middle.abs() * 1e-6).max(1e-9)
}

/// The median of the distances from `middle`, an element of `sorted`: the k-th of two sorted lists, the distances
/// going down from the middle and going up from it.
fn median_deviation(sorted: &[f64], middle: f64) -> f64 {
    let split = sorted.partition_point(|value| value.total_cmp(&middle).is_lt());
    let (below, above) = sorted.split_at(split);
    let rank = sorted.len() / 2;
    let down = |index: usize| middle - below[below.len() - 1 - index];
    let up = |index: usize| above[index] - middle;
    // How many of the `rank` smallest distances lie below the middle: the least `taken` for which the next one up is
    // not smaller than the last one taken down.
    let (mut least, mut most) = (rank.saturating_sub(above.len()), rank.min(below.len()));
    while least < most {
        let taken = usize::midpoint(least, most);
        if rank > taken && down(taken) < up(rank - taken - 1) {
            least = taken + 1;
        } else {
            most = taken;
        }
    }
    let (next_down, next_up) =
        ((least < below.len()).then(|| down(least)), (rank - least < above.len()).then(|| up(rank - least)));
    match (next_down, next_up) {
        (Some(a), Some(b)) => a.min(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => 0.0,
    }
}

fn median_of_few(values: &VecDeque<f64>) -> f64 {
    if let [only] = values.as_slices().0
        && values.len() == 1
    {
        return *only;
    }
    let mut sorted: Vec<f64> = values.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_deviation_is_the_median_of_all_distances(mut values in proptest::collection::vec(-50_i32..50, 1..80)) {
            values.sort_unstable();
            let sorted: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let middle = sorted[sorted.len() / 2];
            let mut distances: Vec<f64> = sorted.iter().map(|value| (value - middle).abs()).collect();
            distances.sort_by(f64::total_cmp);
            prop_assert_eq!(median_deviation(&sorted, middle), distances[distances.len() / 2]);
        }

        #[test]
        fn the_sorted_copy_always_holds_the_window(values in proptest::collection::vec(-9_i32..9, 1..100)) {
            let robust = Robust { length: 16, smooth: 1, threshold: 5.0, warm_up: 8, floor: 0.0 };
            let mut memory = Memory::default();
            for value in values {
                memory.judge(&robust, f64::from(value));
                let mut window: Vec<f64> = memory.window.iter().copied().collect();
                window.sort_by(f64::total_cmp);
                prop_assert_eq!(&window, &memory.sorted);
                prop_assert!(window.len() <= 16);
            }
        }
    }

    #[test]
    fn a_spike_is_far_out_and_noise_is_not() {
        let robust = Robust { length: 100, smooth: 1, threshold: 6.0, warm_up: 50, floor: 0.0 };
        let mut memory = Memory::default();
        for n in 0_u32..200 {
            let verdict = memory.judge(&robust, f64::from(n * 7919 % 100) / 100.0);
            assert!(!verdict.is_some_and(|verdict| verdict.anomalous), "{n}");
        }
        let spike = memory.judge(&robust, 9.0).expect("warm");
        assert!(spike.anomalous && spike.kind == "high" && spike.high.is_some_and(|high| high < 9.0));
    }
}
