//! A value that stays within a band for too long: a stuck sensor.

use serde::{Deserialize, Serialize};

use super::{config::Flatline, detect::Verdict};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Since when the value has stayed between the two bounds.
    stay: Option<(i64, f64, f64)>,
}

impl Memory {
    pub(super) fn judge(&mut self, flatline: &Flatline, at: i64, value: f64) -> Option<Verdict> {
        let stay = self.stay.map(|(since, low, high)| (since, low.min(value), high.max(value)));
        let stay = stay.filter(|(_, low, high)| high - low <= flatline.band).unwrap_or((at, value, value));
        self.stay = Some(stay);
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let score = at.saturating_sub(stay.0).max(0) as f64 / flatline.hold.as_micros() as f64;
        Some(Verdict { anomalous: score >= 1.0, kind: "flat", score, low: None, high: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_value_is_told_after_the_hold() {
        let flatline = Flatline { band: 0.5, hold: "10s".parse().expect("span") };
        let mut memory = Memory::default();
        let mut judge =
            |second: i64, value| memory.judge(&flatline, second * 1_000_000, value).expect("judged").anomalous;
        assert!(!judge(0, 1.0));
        assert!(!judge(9, 1.4));
        assert!(judge(10, 1.2));
        assert!(!judge(11, 1.6), "it moved");
    }
}
