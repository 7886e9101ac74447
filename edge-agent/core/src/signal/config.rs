//! What a feed's windows and detectors are told to do, checked at the door.

use serde::{Deserialize, Serialize};

pub use super::span::Span;
use super::written::RawDetector;

/// Steps in one sliding window. More would make closing a window dearer than all that it is made of.
const PANES_MAX: i64 = 1_000;

/// How readings are gathered: event-time windows of `size` that begin every `step` (tumbling: `step` = `size`), aligned
/// to 1970-01-01T00:00:00Z. A window closes when a reading comes that lies `lateness` past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawWindow")]
pub struct Window {
    pub size: Span,
    pub step: Span,
    /// Microseconds; zero: a reading older than the newest is late.
    pub lateness_micros: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    kind: WindowKind,
    size: Span,
    step: Option<Span>,
    lateness: Option<Span>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WindowKind {
    Tumbling,
    Sliding,
}

impl TryFrom<RawWindow> for Window {
    type Error = String;

    fn try_from(raw: RawWindow) -> Result<Self, String> {
        let step = match (raw.kind, raw.step) {
            (WindowKind::Tumbling, None) => raw.size,
            (WindowKind::Tumbling, Some(_)) => {
                return Err("step: a tumbling window has none: leave it out, or say `kind: sliding`".to_owned());
            }
            (WindowKind::Sliding, None) => return Err("step: a sliding window needs one, such as 1m".to_owned()),
            (WindowKind::Sliding, Some(step)) => step,
        };
        let panes = raw.size.0 / step.0;
        if raw.size.0 % step.0 != 0 || !(1..=PANES_MAX).contains(&panes) {
            return Err(format!("step: {step} must divide `size` {} into 1 to {PANES_MAX} parts", raw.size));
        }
        Ok(Self { size: raw.size, step, lateness_micros: raw.lateness.map_or(0, Span::as_micros) })
    }
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    #[default]
    Warning,
    Critical,
}

/// What a detector looks at: each reading as it comes, or one figure of each closed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    #[default]
    Value,
    Mean,
    Min,
    Max,
    Range,
    Stddev,
    Count,
}

/// One detector of a feed; each series (device and channel) has its own state of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawDetector")]
pub struct Detector {
    /// Unique within the feed.
    pub name: String,
    /// Only series with this channel; all if `None`.
    pub channel: Option<String>,
    pub of: Quantity,
    pub severity: Severity,
    /// One anomaly is one finding: the next may come when nothing was anomalous for this long.
    pub cool_down: Span,
    /// An anomaly that goes on is told again after this long; once only if `None`.
    pub repeat_after: Option<Span>,
    pub method: Method,
}

/// How a detector tells what is anomalous. See the file of the same name for each.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    Limits(Limits),
    Robust(Robust),
    Seasonal(Seasonal),
    Rate(Rate),
    Flatline(Flatline),
    Learned(Learned),
}

/// Outside `low..=high`. Back inside only when past the limit by `hysteresis`; a finding only after `hold` outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub hysteresis: f64,
    pub hold_micros: i64,
}

/// Far from the median of the last `length` values, measured in scaled median absolute deviations.
#[derive(Debug, Clone, PartialEq)]
pub struct Robust {
    pub length: usize,
    /// Judge the median of the last so many values instead of one, so that a single outlier is not a finding.
    pub smooth: usize,
    pub threshold: f64,
    pub warm_up: usize,
    /// The least deviation that counts as one, in the unit of the value.
    pub floor: f64,
}

/// Far from what this time of the season has been so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Seasonal {
    pub season: Span,
    pub slots: usize,
    pub threshold: f64,
    pub warm_up: Span,
    /// Judge the mean of the residuals over about so many values.
    pub smooth: usize,
    pub floor: f64,
}

/// Rises or falls faster than `rise` or `fall` within `per`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    pub rise: Option<f64>,
    pub fall: Option<f64>,
    pub per: Span,
}

/// Stays within `band` for `hold`.
#[derive(Debug, Clone, PartialEq)]
pub struct Flatline {
    pub band: f64,
    pub hold: Span,
}

/// Not what a model, trained on the series' own history, expects.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Readings are gathered to one sample, their mean, for each of these.
    pub step: Span,
    /// Samples that the model looks at.
    pub length: usize,
    /// After which time things repeat; `None`: they do not.
    pub season: Option<Span>,
    /// Judge the mean of so many errors.
    pub smooth: usize,
    /// In which time one false finding is taken.
    pub false_alarm_every: Span,
    /// What judges until there is a model; nothing if `None`.
    pub fallback: Option<Box<Method>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: &str) -> String {
        serde_json::from_str::<Detector>(json).expect_err("refused").to_string()
    }

    #[test]
    fn a_detector_says_what_is_wrong_with_it() {
        for (json, told) in [
            (r#"{"name":"a","kind":"limits"}"#, "limits need `low` or `high`"),
            (r#"{"name":"a","kind":"limits","low":5,"high":5}"#, "must lie below"),
            (r#"{"name":"a","kind":"limits","high":5,"slots":3}"#, "slots: does not belong to this kind"),
            (r#"{"name":"a","kind":"robust","length":4}"#, "length: 4 is out of range: expected 8 to 1024"),
            (r#"{"name":"a","kind":"rate","rise":1}"#, "per: a rate needs one"),
            (r#"{"name":"a","kind":"flatline","hold":"soon"}"#, "is not a span of time"),
            (r#"{"name":"a","kind":"limits","high":5,"hihg":3}"#, "unknown field `hihg`"),
            (r#"{"kind":"limits","high":5}"#, "missing field `name`"),
            (r#"{"name":"a","kind":"learned"}"#, "step: a learned detector needs one"),
            (r#"{"name":"a","kind":"learned","step":"5m","season":"30m"}"#, "season: 30m must be at least eight times"),
            (
                r#"{"name":"a","kind":"learned","step":"5m","falseAlarmEvery":"1h"}"#,
                "falseAlarmEvery: 1h must be at least twenty times `step` 5m",
            ),
            (r#"{"name":"a","kind":"learned","step":"5m","threshold":3}"#, "threshold: does not belong to this kind"),
            (
                r#"{"name":"a","kind":"learned","step":"5m","fallback":{"kind":"limits"}}"#,
                "fallback: limits need `low` or `high`",
            ),
            (
                r#"{"name":"a","kind":"learned","step":"5m","fallback":{"kind":"limits","high":5,"coolDown":"1h"}}"#,
                "fallback.coolDown: belongs to the detector",
            ),
            (
                r#"{"name":"a","kind":"learned","step":"5m","fallback":{"kind":"learned","step":"5m"}}"#,
                "fallback.kind: expected another kind",
            ),
            (r#"{"name":"a","kind":"guess"}"#, "unknown variant `guess`"),
        ] {
            assert!(wrong(json).contains(told), "{json}: {}", wrong(json));
        }
    }

    #[test]
    fn a_window_says_what_is_wrong_with_it() {
        let wrong = |json: &str| serde_json::from_str::<Window>(json).expect_err("refused").to_string();
        assert!(wrong(r#"{"kind":"sliding","size":"1h"}"#).contains("step: a sliding window needs one"));
        assert!(wrong(r#"{"kind":"sliding","size":"1h","step":"7m"}"#).contains("must divide `size`"));
        assert!(wrong(r#"{"kind":"tumbling","size":"1h","step":"7m"}"#).contains("step: a tumbling window has none"));
    }
}
