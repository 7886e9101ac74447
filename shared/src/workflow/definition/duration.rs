//! Spans of time as the language writes them: `{ minutes: 5 }`, ISO 8601 such as `PT5M`, or an expression giving either.

use std::time;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::form::text_or_object;

/// A span as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Duration {
    Parts(Parts),
    /// Valid ISO 8601.
    Iso8601(String),
    /// A whole `${ }`, to be evaluated to one of the other forms.
    Expression(String),
}

/// A span in parts; at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
}

impl Parts {
    fn span(self) -> time::Duration {
        let seconds = u64::from(self.days.unwrap_or(0)) * 86_400
            + u64::from(self.hours.unwrap_or(0)) * 3_600
            + u64::from(self.minutes.unwrap_or(0)) * 60
            + u64::from(self.seconds.unwrap_or(0));
        time::Duration::from_secs(seconds).saturating_add(time::Duration::from_millis(self.milliseconds.unwrap_or(0)))
    }
}

/// The value is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} is not a duration: expected ISO 8601 such as PT5M, or an object such as {{\"minutes\": 5}}")]
pub struct DurationError {
    found: String,
}

impl Duration {
    /// The span, unless it is an expression that has to be evaluated first.
    #[must_use]
    pub fn span(&self) -> Option<time::Duration> {
        match self {
            Self::Parts(parts) => Some(parts.span()),
            Self::Iso8601(text) => parse_iso8601(text).ok(),
            Self::Expression(_) => None,
        }
    }

    /// The span that an evaluated expression stands for.
    pub fn span_of(value: &Value) -> Result<time::Duration, DurationError> {
        let wrong = || DurationError { found: value.to_string() };
        match value {
            Value::String(text) => parse_iso8601(text),
            Value::Object(map) if !map.is_empty() => Parts::deserialize(value).map(Parts::span).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

/// Reads an ISO 8601 duration: `P` years, months, weeks, days, `T` hours, minutes, seconds, fractions allowed. A year
/// counts 365 days and a month 30: a timeout has no calendar.
pub fn parse_iso8601(text: &str) -> Result<time::Duration, DurationError> {
    let parse = || {
        let body = text.strip_prefix('P')?;
        let (date, clock) = match body.split_once('T') {
            Some((_, "")) => return None,
            Some((date, clock)) => (date, clock),
            None => (body, ""),
        };
        if date.is_empty() && clock.is_empty() {
            return None;
        }
        let days = designated(date, &[('Y', 365.0), ('M', 30.0), ('W', 7.0), ('D', 1.0)])?;
        let seconds = designated(clock, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)])?;
        // Milliseconds as whole numbers, so that PT0.1S is exactly 100 ms.
        let milliseconds = (days * 86_400.0 + seconds) * 1_000.0;
        (milliseconds < 9.0e15).then(|| time::Duration::from_micros((milliseconds * 1_000.0).round() as u64))
    };
    parse().ok_or_else(|| DurationError { found: format!("{text:?}") })
}

/// Sums `number designator` pairs whose designators come in this order, each at most once.
fn designated(mut text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut sum = 0.0;
    let mut units = units.iter();
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at(end);
        if number.starts_with('.') || number.ends_with('.') {
            return None;
        }
        let designator = rest.chars().next()?;
        let (_, scale) = units.find(|(unit, _)| *unit == designator)?;
        sum += number.parse::<f64>().ok()? * scale;
        text = &rest[designator.len_utf8()..];
    }
    Some(sum)
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Parts(parts) => parts.serialize(serializer),
            Self::Iso8601(text) | Self::Expression(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a duration: an object such as { minutes: 5 }, ISO 8601 such as PT5M, or an expression";
        let from_text = |text: String| {
            if text.trim_start().starts_with("${") {
                return Ok(Self::Expression(text));
            }
            parse_iso8601(&text).map(|_| Self::Iso8601(text)).map_err(|error| error.to_string())
        };
        let read = text_or_object(deserializer, expected, from_text, Self::Parts)?;
        if read == Self::Parts(Parts::default()) {
            return Err(serde::de::Error::custom(
                "a duration needs at least one of days, hours, minutes, seconds, milliseconds",
            ));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(text: &str) -> Option<u128> {
        parse_iso8601(text).ok().map(|span| span.as_millis())
    }

    #[test]
    fn iso8601_is_read_as_the_schema_allows_it() {
        assert_eq!(millis("PT5M"), Some(300_000));
        assert_eq!(millis("P1DT2H3M4.5S"), Some(93_784_500));
        assert_eq!(millis("PT0.1S"), Some(100));
        assert_eq!(millis("P1Y2M3W4D"), Some((365 + 60 + 21 + 4) * 86_400_000));
        assert_eq!(millis("PT0S"), Some(0));
        for bad in
            ["", "P", "PT", "P1", "5M", "PT5", "P5S", "PT5M3H", "PT-5M", "pt5m", "PT5M ", "PT1.M", "P1DT", "PT1é"]
        {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_evaluated_expression_may_give_either_form() {
        assert_eq!(Duration::span_of(&serde_json::json!("PT1S")), Ok(time::Duration::from_secs(1)));
        assert_eq!(Duration::span_of(&serde_json::json!({"minutes": 2})), Ok(time::Duration::from_secs(120)));
        let error = Duration::span_of(&serde_json::json!(5)).unwrap_err().to_string();
        assert_eq!(
            error,
            r#"5 is not a duration: expected ISO 8601 such as PT5M, or an object such as {"minutes": 5}"#
        );
    }

    proptest! {
        #[test]
        fn parts_and_iso8601_agree(d in 0_u32..100, h in 0_u32..100, m in 0_u32..100, s in 0_u32..100, ms in 0_u64..1000) {
            let parts = Parts { days: Some(d), hours: Some(h), minutes: Some(m), seconds: Some(s), milliseconds: Some(ms) };
            let text = format!("P{d}DT{h}H{m}M{s}.{ms:03}S");
            prop_assert_eq!(parse_iso8601(&text), Ok(parts.span()));
        }

        #[test]
        fn no_text_breaks_the_reader(text in "P?[0-9.YMWDTHSé-]{0,12}") {
            let _ = parse_iso8601(&text);
        }
    }
}
