//! Rate of change: how far the value has risen from the least, or fallen from the greatest, of the last `per`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{config::Rate, detect::Verdict};

/// Candidates kept for the least and the greatest value. Readings that come so fast that more would be needed are
/// compared with a shorter past.
const KEPT_MAX: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Values that may yet be the least of the span: times and values both rise.
    least: VecDeque<(i64, f64)>,
    /// Values that may yet be the greatest: times rise, values fall.
    greatest: VecDeque<(i64, f64)>,
}

impl Memory {
    pub(super) fn judge(&mut self, rate: &Rate, at: i64, value: f64) -> Option<Verdict> {
        let from = at.saturating_sub(rate.per.as_micros());
        keep(&mut self.least, from, |other| other >= value, at, value);
        keep(&mut self.greatest, from, |other| other <= value, at, value);
        let (least, greatest) = (self.least.front()?.1, self.greatest.front()?.1);
        let rose = rate.rise.map_or(0.0, |bound| (value - least) / bound);
        let fell = rate.fall.map_or(0.0, |bound| (greatest - value) / bound);
        let (kind, score) = if rose >= fell { ("rise", rose) } else { ("fall", fell) };
        Some(Verdict {
            anomalous: score > 1.0,
            kind,
            score,
            low: rate.fall.map(|bound| greatest - bound),
            high: rate.rise.map(|bound| least + bound),
        })
    }
}

fn keep(kept: &mut VecDeque<(i64, f64)>, from: i64, beaten: impl Fn(f64) -> bool, at: i64, value: f64) {
    while kept.back().is_some_and(|(_, other)| beaten(*other)) {
        kept.pop_back();
    }
    kept.push_back((at, value));
    while kept.len() > KEPT_MAX || kept.front().is_some_and(|(then, _)| *then < from) {
        kept.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rise_within_the_span_counts() {
        let rate = Rate { rise: Some(5.0), fall: None, per: "10s".parse().expect("span") };
        let mut memory = Memory::default();
        let mut judge = |second: i64, value| memory.judge(&rate, second * 1_000_000, value).expect("judged").anomalous;
        assert!(!judge(0, 0.0));
        assert!(!judge(8, 4.0));
        assert!(!judge(16, 8.0), "the zero is forgotten");
        assert!(judge(17, 9.5));
        assert!(!judge(18, 0.0), "falling is not asked about");
    }
}
