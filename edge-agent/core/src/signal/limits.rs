//! Fixed limits, with hysteresis and a time to hold.

use serde::{Deserialize, Serialize};

use super::{config::Limits, detect::Verdict};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Since when the value is beyond a limit, and on which side.
    outside: Option<(i64, Side)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Side {
    Low,
    High,
}

impl Memory {
    pub(super) fn judge(&mut self, limits: &Limits, at: i64, value: f64) -> Option<Verdict> {
        let margin = |side| if self.outside.is_some_and(|(_, was)| was == side) { limits.hysteresis } else { 0.0 };
        let side = if limits.high.is_some_and(|high| value > high - margin(Side::High)) {
            Some(Side::High)
        } else if limits.low.is_some_and(|low| value < low + margin(Side::Low)) {
            Some(Side::Low)
        } else {
            None
        };
        self.outside = match (side, self.outside) {
            (None, _) => None,
            (Some(side), Some((since, was))) if side == was => Some((since, was)),
            (Some(side), _) => Some((at, side)),
        };
        let held = self.outside.is_some_and(|(since, _)| at.saturating_sub(since) >= limits.hold_micros);
        let (kind, bound) = match side {
            Some(Side::Low) => ("low", limits.low),
            _ => ("high", limits.high),
        };
        // In spans between the limits if there are two, else relative to the limit.
        let span = match (limits.low, limits.high) {
            (Some(low), Some(high)) => high - low,
            _ => bound.unwrap_or(0.0).abs().max(1.0),
        };
        let score = if side.is_some() { bound.map_or(0.0, |bound| (value - bound).abs() / span) } else { 0.0 };
        Some(Verdict { anomalous: held, kind, score, low: limits.low, high: limits.high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hysteresis_and_hold_keep_a_flickering_value_quiet() {
        let limits = Limits { low: None, high: Some(10.0), hysteresis: 2.0, hold_micros: 3 };
        let mut memory = Memory::default();
        let series = [9.0, 11.0, 9.0, 9.5, 9.0, 7.0, 11.0, 9.9, 9.9];
        let anomalous: Vec<bool> =
            (0..).zip(series).map(|(at, value)| memory.judge(&limits, at, value).expect("judged").anomalous).collect();
        assert_eq!(anomalous, [false, false, false, false, true, false, false, false, false]);
    }
}
