//! Event-time windows made of panes: adding a reading costs the same however long the window is; closing one merges its
//! panes in order, so that the same readings always give the same bits.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use shared::time::Timestamp;

use super::config::{Quantity, Window};

/// What a closed window, or the newest open one, holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub max: f64,
    pub stddev: f64,
}

impl Summary {
    /// The summary of a single reading.
    #[must_use]
    pub const fn of_one(at: Timestamp, value: f64) -> Self {
        Self { from: at, to: at, count: 1, mean: value, min: value, max: value, stddev: 0.0 }
    }

    /// The figure that a detector looks at.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a window of 2^53 readings would take years to fill")]
    pub fn figure(&self, of: Quantity) -> f64 {
        match of {
            Quantity::Value | Quantity::Mean => self.mean,
            Quantity::Min => self.min,
            Quantity::Max => self.max,
            Quantity::Range => self.max - self.min,
            Quantity::Stddev => self.stddev,
            Quantity::Count => self.count as f64,
        }
    }
}

/// The readings of one step: count, mean and spread by Welford's update, merged by Chan's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Pane {
    index: i64,
    count: u64,
    mean: f64,
    /// Sum of squared differences from the mean.
    squares: f64,
    min: f64,
    max: f64,
}

#[expect(clippy::cast_precision_loss, reason = "a pane of 2^53 readings would take years to fill")]
impl Pane {
    const fn of_one(index: i64, value: f64) -> Self {
        Self { index, count: 1, mean: value, squares: 0.0, min: value, max: value }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn merge(mut self, other: &Self) -> Self {
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        self.squares += other.squares + apart * apart * (self.count as f64 * other.count as f64 / count as f64);
        self.mean += apart * other.count as f64 / count as f64;
        self.count = count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self
    }

    fn summary(&self, from: i64, to: i64) -> Summary {
        Summary {
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(to),
            count: self.count,
            mean: self.mean,
            min: self.min,
            max: self.max,
            stddev: (self.squares / self.count as f64).max(0.0).sqrt(),
        }
    }
}

/// The open windows of one series.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Windows {
    /// Panes that a window which is still open needs, oldest first; none is empty.
    panes: VecDeque<Pane>,
    /// The last pane of the next window to close.
    next: Option<i64>,
    /// How many windows have closed.
    closed: u64,
}

impl Windows {
    /// Adds a reading that is not late.
    pub fn add(&mut self, window: &Window, at: Timestamp, value: f64) {
        let index = at.as_micros().div_euclid(window.step.as_micros());
        if self.panes.is_empty() {
            self.next = Some(self.next.map_or(index, |next| next.max(index)));
        } else if let Some(next) = self.next {
            // Within the lateness the first readings may come in any order.
            if index < next && self.closed == 0 {
                self.next = Some(index);
            }
        }
        let place = self.panes.partition_point(|pane| pane.index < index);
        match self.panes.get_mut(place) {
            Some(pane) if pane.index == index => pane.add(value),
            _ => self.panes.insert(place, Pane::of_one(index, value)),
        }
    }

    /// Closes what ends at or before the watermark, oldest first. A window without readings is not reported.
    pub fn close(&mut self, window: &Window, watermark: i64, mut each: impl FnMut(Summary)) {
        let step = window.step.as_micros();
        let length = window.size.as_micros() / step;
        // The last pane that ends at or before the watermark.
        let through = watermark.div_euclid(step) - 1;
        let Some(mut last) = self.next else { return };
        while let Some(front) = self.panes.front() {
            last = last.max(front.index);
            if last > through {
                break;
            }
            let mut inside = self.panes.iter().take_while(|pane| pane.index <= last);
            if let Some(first) = inside.next() {
                let all = inside.fold(*first, |all, pane| all.merge(pane));
                each(all.summary((last + 1 - length) * step, (last + 1) * step));
                self.closed += 1;
            }
            last += 1;
            while self.panes.front().is_some_and(|pane| pane.index <= last - length) {
                self.panes.pop_front();
            }
        }
        self.next = Some(last.max(through + 1));
    }

    /// The newest window, still open: the readings that a finding on a single value stands among.
    #[must_use]
    pub fn newest(&self, window: &Window) -> Option<Summary> {
        let step = window.step.as_micros();
        let length = window.size.as_micros() / step;
        let last = self.panes.back()?.index;
        let mut inside = self.panes.iter().filter(|pane| pane.index > last - length);
        let first = inside.next()?;
        let all = inside.fold(*first, |all, pane| all.merge(pane));
        Some(all.summary((last + 1 - length) * step, (last + 1) * step))
    }

    /// How many windows have closed.
    #[must_use]
    pub const fn closed(&self) -> u64 {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(size: &str, step: &str) -> Window {
        Window { size: size.parse().expect("span"), step: step.parse().expect("span"), lateness_micros: 0 }
    }

    fn run(window: &Window, readings: &[(i64, f64)]) -> Vec<Summary> {
        let (mut windows, mut closed, mut newest) = (Windows::default(), Vec::new(), i64::MIN);
        for &(second, value) in readings {
            let at = second * 1_000_000;
            newest = newest.max(at);
            windows.add(window, Timestamp::from_micros(at), value);
            windows.close(window, newest, |summary| closed.push(summary));
        }
        closed
    }

    #[test]
    fn a_tumbling_window_closes_when_a_later_reading_comes() {
        let closed = run(&window("10s", "10s"), &[(0, 1.0), (4, 3.0), (10, 7.0), (35, 1.0)]);
        let told: Vec<_> = closed.iter().map(|w| (w.from.as_millis() / 1_000, w.count, w.mean, w.min, w.max)).collect();
        assert_eq!(told, [(0, 2, 2.0, 1.0, 3.0), (10, 1, 7.0, 7.0, 7.0)]);
    }

    #[test]
    fn a_sliding_window_reports_each_step_that_has_readings() {
        let closed = run(&window("30s", "10s"), &[(5, 1.0), (15, 2.0), (45, 6.0), (100, 0.0)]);
        let told: Vec<_> = closed.iter().map(|w| (w.from.as_millis() / 1_000, w.count, w.mean)).collect();
        assert_eq!(
            told,
            [(-20, 1, 1.0), (-10, 2, 1.5), (0, 2, 1.5), (10, 1, 2.0), (20, 1, 6.0), (30, 1, 6.0), (40, 1, 6.0)]
        );
    }

    proptest! {
        #[test]
        fn windows_agree_with_counting_by_hand(
            gaps in proptest::collection::vec((0_i64..40, -100_i32..100), 1..200),
            panes in 1_i64..6,
        ) {
            let step = 10_i64;
            let window = window(&format!("{}s", step * panes), &format!("{step}s"));
            let mut second = 0;
            let readings: Vec<_> =
                gaps.iter().map(|(gap, value)| { second += gap; (second, f64::from(*value)) }).collect();
            let closed = run(&window, &readings);
            let mut by_hand = Vec::new();
            let first = readings[0].0.div_euclid(step);
            for last in first..second.div_euclid(step) {
                let (from, to) = ((last + 1 - panes) * step, (last + 1) * step);
                let inside: Vec<f64> =
                    readings.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, value)| *value).collect();
                if !inside.is_empty() {
                    by_hand.push((from, inside));
                }
            }
            prop_assert_eq!(closed.len(), by_hand.len());
            for (summary, (from, inside)) in closed.iter().zip(by_hand) {
                #[expect(clippy::cast_precision_loss, reason = "small counts")]
                let mean = inside.iter().sum::<f64>() / inside.len() as f64;
                prop_assert_eq!(summary.from.as_micros(), from * 1_000_000);
                prop_assert_eq!(summary.count, inside.len() as u64);
                prop_assert!((summary.mean - mean).abs() < 1e-9);
                prop_assert_eq!(summary.max, inside.iter().copied().fold(f64::MIN, f64::max));
            }
        }
    }
}
