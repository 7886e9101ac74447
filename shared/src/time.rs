//! Instants and durations as data. Nothing here reads a clock.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant: microseconds since 1970-01-01T00:00:00Z, leap seconds ignored. Text form: RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// The first and the last instant that has a text form, in microseconds (those of jiff, years -9999 to 9999).
const FIRST: i64 = -377_705_023_201_000_000;
const LAST: i64 = 253_402_207_200_000_000;

/// The text was not an RFC 3339 instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an instant: expected RFC 3339 such as 2026-11-21T08:30:00Z")]
pub struct ParseError {
    text: String,
}

impl Timestamp {
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This instant and a span (or less a negative span), at most until the last instant that has a text form: whoever
    /// waits for ten thousand years waits until the end of the year 9999.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        match self.0.saturating_add(micros) {
            ..FIRST => Self(FIRST),
            sum @ FIRST..=LAST => Self(sum),
            _ => Self(LAST),
        }
    }

    /// This instant and a span; saturates.
    #[must_use]
    pub fn plus(self, span: std::time::Duration) -> Self {
        self.plus_micros(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
    }

    /// How far `self` lies past `earlier`; zero when it does not.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// What [`span`] reads, for whoever wrote something else.
pub const SPAN: &str = "a span of time such as P30D or PT12H, in weeks, days, hours, minutes and seconds";

/// An ISO 8601 duration such as `PT10M` or `P30D`; a day has 24 hours, and nobody knows how long a month is. `None`: it is none of these.
#[must_use]
pub fn span(text: &str) -> Option<std::time::Duration> {
    // jiff reads `30 days` as well.
    let span: jiff::Span = if text.starts_with('P') { text.parse().ok()? } else { return None };
    let span = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    span.try_into().ok()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_microsecond(self.0.clamp(FIRST, LAST));
        fmt::Display::fmt(&instant.unwrap_or_default(), f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| ParseError { text: text.to_owned() })?;
        Ok(Self(instant.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_a_round_trip() {
        for text in ["2026-11-21T08:30:00Z", "1969-12-31T23:59:59.999999Z", "2014-01-01T00:05:00.5Z"] {
            let instant: Timestamp = text.parse().expect("valid");
            assert_eq!(instant.to_string(), text);
        }
        assert!("2026-11-21 08:30".parse::<Timestamp>().is_err());
    }

    #[test]
    fn a_span_is_a_duration_of_iso_8601() {
        let hours = |text| span(text).map(|span| span.as_secs() / 3_600);
        assert_eq!((hours("PT36H"), hours("P30D"), hours("P1W")), (Some(36), Some(720), Some(168)));
        for wrong in ["P1M", "P1Y", "-PT1H", "30 days", "", "P"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_saturate_instead_of_wrapping() {
        for (end, span) in [(i64::MAX, 1), (i64::MIN, -1), (0, i64::MAX), (0, i64::MIN), (LAST, 1), (FIRST, -1)] {
            let instant = Timestamp::from_micros(end).plus_micros(span);
            assert_eq!(instant.to_string().parse(), Ok(instant), "{instant} is read as it is written");
        }
        assert_eq!(Timestamp::from_micros(0).since(Timestamp::from_micros(5)), std::time::Duration::ZERO);
    }
}
