//! What all detectors share: the judgement of one value, and when an anomaly becomes a finding.

use serde::{Deserialize, Serialize};

use super::{
    config::{Detector, Method},
    flatline, limits, rate, robust, seasonal,
};

/// What a detector says of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub anomalous: bool,
    /// What kind of anomaly: `high`, `low`, `rise`, `fall`, `flat`.
    pub kind: &'static str,
    /// How far out; comparable within one detector.
    pub score: f64,
    /// Where the value was expected.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// A detector's memory of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Watch {
    episode: Episode,
    memory: Memory,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Memory {
    Limits(limits::Memory),
    Robust(robust::Memory),
    Seasonal(Box<seasonal::Memory>),
    Rate(rate::Memory),
    Flatline(flatline::Memory),
}

/// From anomalous values to findings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Episode {
    last_anomalous: Option<i64>,
    last_told: Option<i64>,
}

impl Watch {
    pub(super) fn new(detector: &Detector) -> Self {
        let memory = match &detector.method {
            Method::Limits(_) => Memory::Limits(limits::Memory::default()),
            Method::Robust(_) => Memory::Robust(robust::Memory::default()),
            Method::Seasonal(method) => Memory::Seasonal(Box::new(seasonal::Memory::new(method))),
            Method::Rate(_) => Memory::Rate(rate::Memory::default()),
            Method::Flatline(_) => Memory::Flatline(flatline::Memory::default()),
        };
        Self { episode: Episode::default(), memory }
    }

    /// Whether this memory was made by a detector of the same kind and shape: then it goes on under a changed
    /// threshold, severity or cool-down instead of learning anew.
    pub(super) fn fits(&self, detector: &Detector) -> bool {
        match (&self.memory, &detector.method) {
            (Memory::Seasonal(memory), Method::Seasonal(method)) => memory.fits(method),
            (Memory::Limits(_), Method::Limits(_))
            | (Memory::Robust(_), Method::Robust(_))
            | (Memory::Rate(_), Method::Rate(_))
            | (Memory::Flatline(_), Method::Flatline(_)) => true,
            _ => false,
        }
    }

    /// Judges a value and remembers it; `Some` when it begins an anomaly that has to be told.
    pub(super) fn judge(&mut self, detector: &Detector, at: i64, value: f64) -> Option<Verdict> {
        let verdict = match (&mut self.memory, &detector.method) {
            (Memory::Limits(memory), Method::Limits(method)) => memory.judge(method, at, value),
            (Memory::Robust(memory), Method::Robust(method)) => memory.judge(method, value),
            (Memory::Seasonal(memory), Method::Seasonal(method)) => memory.judge(method, at, value),
            (Memory::Rate(memory), Method::Rate(method)) => memory.judge(method, at, value),
            (Memory::Flatline(memory), Method::Flatline(method)) => memory.judge(method, at, value),
            _ => unreachable!("a watch is made for its detector or checked to fit it"),
        }?;
        self.episode.tells(detector, at, verdict.anomalous).then_some(verdict)
    }
}

impl Episode {
    fn tells(&mut self, detector: &Detector, at: i64, anomalous: bool) -> bool {
        if !anomalous {
            return false;
        }
        let since = |then: i64| at.saturating_sub(then);
        let rested = self.last_anomalous.is_none_or(|last| since(last) > detector.cool_down.as_micros());
        let again = detector
            .repeat_after
            .is_some_and(|span| self.last_told.is_some_and(|told| since(told) >= span.as_micros()));
        self.last_anomalous = Some(self.last_anomalous.map_or(at, |last| last.max(at)));
        if rested || again {
            self.last_told = Some(at);
        }
        rested || again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(yaml: &str, series: &[(i64, f64)]) -> Vec<i64> {
        let detector: Detector = serde_json::from_str(yaml).expect("a detector");
        let mut watch = Watch::new(&detector);
        let tells = |&(second, value): &(i64, f64)| watch.judge(&detector, second * 1_000_000, value).map(|_| second);
        series.iter().filter_map(tells).collect()
    }

    #[test]
    fn one_anomaly_is_one_finding_until_it_has_rested() {
        let limits = r#"{"name":"hot","kind":"limits","high":10.0,"coolDown":"60s"}"#;
        let series = [(0, 11.0), (10, 12.0), (20, 5.0), (50, 11.0), (90, 11.0), (160, 11.0)];
        assert_eq!(told(limits, &series), [0, 160]);
    }

    #[test]
    fn an_anomaly_that_goes_on_is_told_again_when_asked() {
        let limits = r#"{"name":"hot","kind":"limits","high":10.0,"coolDown":"60s","repeatAfter":"2m"}"#;
        let series: Vec<_> = (0..30).map(|n| (n * 10, 11.0)).collect();
        assert_eq!(told(limits, &series), [0, 120, 240]);
    }
}
