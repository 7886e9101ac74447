//! Detectors as a person writes them, parsed into what `config` says that they are.

use serde::Deserialize;
use shared::problem::split_field;

use super::config::{Detector, Flatline, Learned, Limits, Method, Quantity, Rate, Robust, Seasonal, Severity, Span};

/// Readings that a rolling detector keeps. Inserting moves at most this many numbers (8 KiB), which is quicker than any tree.
const LENGTH_MAX: usize = 1_024;
/// Samples that a model looks at: the work of training grows with it.
const SAMPLES_MAX: usize = 256;
/// Slots of a season: one a minute of a day.
const SLOTS_MAX: usize = 1_440;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Limits,
    Robust,
    Seasonal,
    Rate,
    Flatline,
    Learned,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawDetector {
    name: Option<String>,
    kind: Kind,
    channel: Option<String>,
    of: Option<Quantity>,
    severity: Option<Severity>,
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
    step: Option<Span>,
    false_alarm_every: Option<Span>,
    fallback: Option<Box<RawDetector>>,
}

impl TryFrom<RawDetector> for Detector {
    type Error = String;

    fn try_from(mut raw: RawDetector) -> Result<Self, String> {
        let name = raw.name.take().ok_or("missing field `name`")?;
        if name.is_empty() || name.len() > 100 {
            return Err("name: expected 1 to 100 characters".to_owned());
        }
        let method = raw.method()?;
        if let Some(field) = raw.left_over() {
            return Err(format!("{field}: does not belong to this kind of detector"));
        }
        Ok(Self {
            method,
            name,
            channel: raw.channel,
            of: raw.of.unwrap_or_default(),
            severity: raw.severity.unwrap_or_default(),
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
            Kind::Learned => self.learned(),
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

    fn learned(&mut self) -> Result<Method, String> {
        let step = self.step.take().ok_or("step: a learned detector needs one, such as 5m")?;
        let length = self.length.take().unwrap_or(24);
        if !(8..=SAMPLES_MAX).contains(&length) {
            return Err(format!("length: {length} is out of range: expected 8 to {SAMPLES_MAX} samples"));
        }
        let season = self.season.take();
        if let Some(season) = season.filter(|season| season.0 < step.0.saturating_mul(8)) {
            return Err(format!("season: {season} must be at least eight times `step` {step}"));
        }
        let false_alarm_every = self.false_alarm_every.take().unwrap_or(Span(30 * 86_400_000_000));
        if false_alarm_every.0 < step.0.saturating_mul(20) {
            return Err(format!("falseAlarmEvery: {false_alarm_every} must be at least twenty times `step` {step}"));
        }
        let fallback = self.fallback.take().map(|raw| raw.fallback()).transpose()?;
        let smooth = smooth(self.smooth.take(), 2)?;
        Ok(Method::Learned(Learned { step, length, season, smooth, false_alarm_every, fallback }))
    }

    /// The method of a detector that stands in for another, which has the name and all that is not the method's.
    fn fallback(mut self) -> Result<Box<Method>, String> {
        let named = [
            ("name", self.name.is_some()),
            ("channel", self.channel.is_some()),
            ("of", self.of.is_some()),
            ("severity", self.severity.is_some()),
            ("coolDown", self.cool_down.is_some()),
            ("repeatAfter", self.repeat_after.is_some()),
        ];
        if let Some((field, _)) = named.into_iter().find(|(_, there)| *there) {
            return Err(format!("fallback.{field}: belongs to the detector, not to its fallback"));
        }
        if matches!(self.kind, Kind::Learned) {
            return Err("fallback.kind: expected another kind than `learned`".to_owned());
        }
        let method = self.method().map_err(|told| match split_field(&told) {
            (field, _) if field.is_empty() => format!("fallback: {told}"),
            _ => format!("fallback.{told}"),
        })?;
        match self.left_over() {
            Some(field) => Err(format!("fallback.{field}: does not belong to this kind of detector")),
            None => Ok(Box::new(method)),
        }
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
            ("step", self.step.is_some()),
            ("falseAlarmEvery", self.false_alarm_every.is_some()),
            ("fallback", self.fallback.is_some()),
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
