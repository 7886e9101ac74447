//! What a feed's windows and detectors are told to do, checked at the door.

use serde::{Deserialize, Serialize};

pub use super::span::Span;

/// Steps in one sliding window. More would make closing a window dearer than all that it is made of.
const PANES_MAX: i64 = 1_000;
/// Readings that a rolling detector keeps. Inserting moves at most this many numbers (8 KiB), which is quicker than any tree.
const LENGTH_MAX: usize = 1_024;
/// Slots of a season: one a minute of a day.
const SLOTS_MAX: usize = 1_440;

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

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Limits,
    Robust,
    Seasonal,
    Rate,
    Flatline,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawDetector {
    name: String,
    kind: Kind,
    channel: Option<String>,
    #[serde(default)]
    of: Quantity,
    #[serde(default)]
    severity: Severity,
    cool_down: Option<Span>,
    repeat_after: Option<Span>,
    low: Option<f64>,
    high: Option<f64>,
    hysteresis: Option<f64>,
    hold: Option<Span>,
    length: Option<usize>,
    smooth: Option<usize>,
    threshold: Option<f64>,
    warm_up: Option<Span>,
    warm_up_values: Option<usize>,
    floor: Option<f64>,
    season: Option<Span>,
    slots: Option<usize>,
    rise: Option<f64>,
    fall: Option<f64>,
    per: Option<Span>,
    band: Option<f64>,
}

impl TryFrom<RawDetector> for Detector {
    type Error = String;

    fn try_from(mut raw: RawDetector) -> Result<Self, String> {
        if raw.name.is_empty() || raw.name.len() > 100 {
            return Err("name: expected 1 to 100 characters".to_owned());
        }
        let name = std::mem::take(&mut raw.name);
        let method = raw.method()?;
        if let Some(field) = raw.left_over() {
            return Err(format!("{field}: does not belong to this kind of detector"));
        }
        Ok(Self {
            method,
            name,
            channel: raw.channel,
            of: raw.of,
            severity: raw.severity,
            cool_down: raw.cool_down.unwrap_or(Span::from_secs(300)),
            repeat_after: raw.repeat_after,
        })
    }
}

impl RawDetector {
    /// Takes the fields that belong to the kind.
    fn method(&mut self) -> Result<Method, String> {
        match self.kind {
            Kind::Limits => self.limits(),
            Kind::Robust => self.robust(),
            Kind::Seasonal => self.seasonal(),
            Kind::Rate => self.rate(),
            Kind::Flatline => self.flatline(),
        }
    }

    fn limits(&mut self) -> Result<Method, String> {
        let (low, high) = (self.low.take(), self.high.take());
        let hysteresis = within("hysteresis", self.hysteresis.take().unwrap_or(0.0), 0.0, f64::MAX)?;
        match (low, high) {
            (None, None) => return Err("limits need `low` or `high`, or both".to_owned()),
            (Some(low), Some(high))
                if (low + 2.0 * hysteresis).partial_cmp(&high) != Some(std::cmp::Ordering::Less) =>
            {
                return Err(format!("low: {low} must lie below `high` {high} by more than twice the hysteresis"));
            }
            _ => {}
        }
        let hold_micros = self.hold.take().map_or(0, Span::as_micros);
        Ok(Method::Limits(Limits { low, high, hysteresis, hold_micros }))
    }

    fn robust(&mut self) -> Result<Method, String> {
        let length = self.length.take().unwrap_or(288);
        if !(8..=LENGTH_MAX).contains(&length) {
            return Err(format!("length: {length} is out of range: expected 8 to {LENGTH_MAX} values"));
        }
        let warm_up = self.warm_up_values.take().unwrap_or(length / 2);
        if !(4..=length).contains(&warm_up) {
            return Err(format!("warmUpValues: {warm_up} is out of range: expected 4 to `length` ({length}) values"));
        }
        Ok(Method::Robust(Robust {
            length,
            smooth: smooth(self.smooth.take(), 1)?,
            threshold: within("threshold", self.threshold.take().unwrap_or(6.0), 0.1, 1e9)?,
            warm_up,
            floor: within("floor", self.floor.take().unwrap_or(0.0), 0.0, f64::MAX)?,
        }))
    }

    fn seasonal(&mut self) -> Result<Method, String> {
        let season = self.season.take().unwrap_or(Span::from_secs(86_400));
        let slots = self.slots.take().unwrap_or(96);
        if !(2..=SLOTS_MAX).contains(&slots) {
            return Err(format!("slots: {slots} is out of range: expected 2 to {SLOTS_MAX} parts of the season"));
        }
        Ok(Method::Seasonal(Seasonal {
            season,
            slots,
            threshold: within("threshold", self.threshold.take().unwrap_or(5.0), 0.1, 1e9)?,
            warm_up: self.warm_up.take().unwrap_or(Span(season.0.saturating_mul(2))),
            smooth: smooth(self.smooth.take(), 3)?,
            floor: within("floor", self.floor.take().unwrap_or(0.0), 0.0, f64::MAX)?,
        }))
    }

    fn rate(&mut self) -> Result<Method, String> {
        let (rise, fall) = (self.rise.take(), self.fall.take());
        if rise.is_none() && fall.is_none() {
            return Err("a rate needs `rise` or `fall`".to_owned());
        }
        for (name, bound) in [("rise", rise), ("fall", fall)] {
            if let Some(bound) = bound {
                within(name, bound, f64::MIN_POSITIVE, f64::MAX)?;
            }
        }
        Ok(Method::Rate(Rate { rise, fall, per: self.per.take().ok_or("per: a rate needs one, such as 1m")? }))
    }

    fn flatline(&mut self) -> Result<Method, String> {
        let band = within("band", self.band.take().unwrap_or(0.0), 0.0, f64::MAX)?;
        Ok(Method::Flatline(Flatline {
            band,
            hold: self.hold.take().ok_or("hold: a flatline needs one, such as 30m")?,
        }))
    }

    /// The first field that no one took.
    fn left_over(&self) -> Option<&'static str> {
        let fields = [
            ("low", self.low.is_some()),
            ("high", self.high.is_some()),
            ("hysteresis", self.hysteresis.is_some()),
            ("hold", self.hold.is_some()),
            ("length", self.length.is_some()),
            ("smooth", self.smooth.is_some()),
            ("threshold", self.threshold.is_some()),
            ("warmUp", self.warm_up.is_some()),
            ("warmUpValues", self.warm_up_values.is_some()),
            ("floor", self.floor.is_some()),
            ("season", self.season.is_some()),
            ("slots", self.slots.is_some()),
            ("rise", self.rise.is_some()),
            ("fall", self.fall.is_some()),
            ("per", self.per.is_some()),
            ("band", self.band.is_some()),
        ];
        fields.into_iter().find(|(_, there)| *there).map(|(name, _)| name)
    }
}

fn smooth(given: Option<usize>, default: usize) -> Result<usize, String> {
    let smooth = given.unwrap_or(default);
    if (1..=64).contains(&smooth) {
        Ok(smooth)
    } else {
        Err(format!("smooth: {smooth} is out of range: expected 1 to 64 values"))
    }
}

fn within(name: &str, value: f64, low: f64, high: f64) -> Result<f64, String> {
    if value.is_finite() && value >= low && value <= high {
        Ok(value)
    } else {
        Err(format!("{name}: {value} is out of range: expected a number from {low} to {high}"))
    }
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
