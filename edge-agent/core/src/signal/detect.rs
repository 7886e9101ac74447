//! What all detectors share: the judgement of one value, and when an anomaly becomes a finding.

use serde::{Deserialize, Serialize};

use super::{
    config::{Detector, Method},
    flatline,
    learned::{self, Sample},
    limits, rate, robust, seasonal,
};

/// What a detector says of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub anomalous: bool,
    /// What kind of anomaly: `high`, `low`, `rise`, `fall`, `flat`, `form`.
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

/// What a detector's method remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Memory {
    Limits(limits::Memory),
    Robust(robust::Memory),
    Seasonal(Box<seasonal::Memory>),
    Rate(rate::Memory),
    Flatline(flatline::Memory),
    Learned(Box<learned::Memory>),
}

/// From anomalous values to findings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Episode {
    last_anomalous: Option<i64>,
    last_told: Option<i64>,
}

impl Watch {
    pub(super) fn new(detector: &Detector) -> Self {
        Self { episode: Episode::default(), memory: Memory::new(&detector.method) }
    }

    /// Whether this memory was made by a detector of the same kind and shape: then it goes on under a changed
    /// threshold, severity or cool-down instead of learning anew.
    pub(super) fn fits(&self, detector: &Detector) -> bool {
        self.memory.fits(&detector.method)
    }

    /// Judges a value and remembers it; `Some` when it begins an anomaly that has to be told. Adds to `samples` what a model
    /// may learn from later.
    pub(super) fn judge(
        &mut self,
        detector: &Detector,
        at: i64,
        value: f64,
        samples: &mut Vec<Sample>,
    ) -> Option<Verdict> {
        let verdict = self.memory.judge(&detector.method, at, value, samples)?;
        self.episode.tells(detector, at, verdict.anomalous).then_some(verdict)
    }

    /// The memory of a detector with a model.
    pub(super) fn learned(&self) -> Option<&learned::Memory> {
        match &self.memory {
            Memory::Learned(memory) => Some(memory),
            _ => None,
        }
    }

    pub(super) fn learned_mut(&mut self) -> Option<&mut learned::Memory> {
        match &mut self.memory {
            Memory::Learned(memory) => Some(memory),
            _ => None,
        }
    }
}

impl Memory {
    pub(super) fn new(method: &Method) -> Self {
        match method {
            Method::Limits(_) => Self::Limits(limits::Memory::default()),
            Method::Robust(_) => Self::Robust(robust::Memory::default()),
            Method::Seasonal(method) => Self::Seasonal(Box::new(seasonal::Memory::new(method))),
            Method::Rate(_) => Self::Rate(rate::Memory::default()),
            Method::Flatline(_) => Self::Flatline(flatline::Memory::default()),
            Method::Learned(method) => Self::Learned(Box::new(learned::Memory::new(method))),
        }
    }

    pub(super) fn fits(&self, method: &Method) -> bool {
        match (self, method) {
            (Self::Seasonal(memory), Method::Seasonal(method)) => memory.fits(method),
            (Self::Learned(memory), Method::Learned(method)) => memory.fits(method),
            (Self::Limits(_), Method::Limits(_))
            | (Self::Robust(_), Method::Robust(_))
            | (Self::Rate(_), Method::Rate(_))
            | (Self::Flatline(_), Method::Flatline(_)) => true,
            _ => false,
        }
    }

    pub(super) fn judge(&mut self, method: &Method, at: i64, value: f64, samples: &mut Vec<Sample>) -> Option<Verdict> {
        match (self, method) {
            (Self::Limits(memory), Method::Limits(method)) => memory.judge(method, at, value),
            (Self::Robust(memory), Method::Robust(method)) => memory.judge(method, value),
            (Self::Seasonal(memory), Method::Seasonal(method)) => memory.judge(method, at, value),
            (Self::Rate(memory), Method::Rate(method)) => memory.judge(method, at, value),
            (Self::Flatline(memory), Method::Flatline(method)) => memory.judge(method, at, value),
            (Self::Learned(memory), Method::Learned(method)) => memory.judge(method, at, value, samples),
            _ => unreachable!("a memory is made for its method or checked to fit it"),
        }
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
        let tells = |&(second, value): &(i64, f64)| {
            watch.judge(&detector, second * 1_000_000, value, &mut Vec::new()).map(|_| second)
        };
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
