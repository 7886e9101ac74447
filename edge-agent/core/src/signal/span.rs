//! A span of time as people write it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};

/// A span of time above zero, written `250ms`, `30s`, `5m`, `1h` or `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub(super) i64);

impl Span {
    /// The span in microseconds.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// A span of whole seconds; at least one.
    #[must_use]
    pub const fn from_secs(secs: u32) -> Self {
        Self(if secs == 0 { 1 } else { secs as i64 } * 1_000_000)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?} is not a span of time: expected a whole number and a unit, such as 250ms, 30s, 5m, 1h or 7d"
            )
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
        let unit = match &text[digits..] {
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return Err(expected()),
        };
        let count: i64 = text[..digits].parse().map_err(|_| expected())?;
        // Ten years: longer is a slip of the pen.
        match count.checked_mul(unit) {
            Some(micros) if (1..=3_653 * 86_400_000_000).contains(&micros) => Ok(Self(micros)),
            _ => Err(expected()),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::parsed(deserializer)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s")]
            .into_iter()
            .find(|(micros, _)| self.0 % micros == 0)
            .map_or((self.0 / 1_000, "ms"), |(micros, unit)| (self.0 / micros, unit));
        write!(f, "{count}{unit}")
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_and_written_alike() {
        for text in ["250ms", "30s", "5m", "1h", "7d"] {
            assert_eq!(text.parse::<Span>().expect("a span").to_string(), text);
        }
        for bad in ["", "5", "m", "-1s", "1.5h", "0s", "9999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
