//! How long readings take from their own time to the detectors, as a histogram.

use std::time::Duration;

use serde::Serialize;

/// Upper bounds in seconds; what took longer is in one more bucket. Close together where a healthy gateway is, so that a
/// p99 can be read off; the last ones tell a feed whose clock or buffer is minutes behind.
const BOUNDS_S: [f64; 22] = [
    0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.010, 0.012, 0.015, 0.020, 0.025, 0.030, 0.040, 0.050, 0.075,
    0.1, 0.25, 0.5, 1.0, 10.0, 60.0,
];

/// Counts of readings by how long they took.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Latency {
    counts: [u64; BOUNDS_S.len() + 1],
    sum_s: f64,
}

impl Latency {
    pub(super) fn took(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.counts[BOUNDS_S.partition_point(|bound| *bound < seconds)] += 1;
        self.sum_s += seconds;
    }

    /// Upper bounds in seconds with the count of readings up to each; the last bound is infinite.
    #[must_use]
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut sum = 0;
        let bounds = BOUNDS_S.into_iter().chain([f64::INFINITY]);
        let running = |(bound, count): (f64, &u64)| {
            sum += count;
            (bound, sum)
        };
        bounds.zip(&self.counts).map(running).collect()
    }

    /// All times together, in seconds.
    #[must_use]
    pub const fn sum_s(&self) -> f64 {
        self.sum_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reading_is_counted_up_to_the_first_bound_that_it_keeps() {
        let mut latency = Latency::default();
        for millis in [1, 2, 7, 120_000] {
            latency.took(Duration::from_millis(millis));
        }
        let up_to = |bound: f64| latency.cumulative().into_iter().find(|(b, _)| *b == bound).map(|(_, count)| count);
        assert_eq!(
            [up_to(0.001), up_to(0.002), up_to(0.006), up_to(0.008), up_to(60.0), up_to(f64::INFINITY)],
            [Some(1), Some(2), Some(2), Some(3), Some(3), Some(4)]
        );
    }
}
