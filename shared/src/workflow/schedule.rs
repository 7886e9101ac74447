//! When a workflow starts by itself: cron expressions in UTC.

use chrono::{DateTime, Utc};

use crate::time::Timestamp;

/// A cron expression: minute, hour, day of month, month, day of week, in UTC.
#[derive(Debug, Clone)]
pub struct Cron(Box<croner::Cron>);

/// The text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no cron expression: expected five fields such as `15 2 * * *` (minute, hour, day, month, weekday); {reason}"
)]
pub struct CronError {
    text: String,
    reason: String,
}

impl Cron {
    /// Reads five fields, or a name such as `@daily`.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let wrong = |reason: String| CronError { text: text.to_owned(), reason };
        let fields = text.split_whitespace().count();
        if !text.starts_with('@') && fields != 5 {
            return Err(wrong(format!("it has {fields} field(s)")));
        }
        text.parse::<croner::Cron>().map(|cron| Self(Box::new(cron))).map_err(|_| wrong(why_not(text)))
    }

    /// The first start after this instant; `None` when there is none (30 February) or the instant has no calendar.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let at = DateTime::<Utc>::from_timestamp_micros(at.as_micros())?;
        let next = self.0.find_next_occurrence(&at, false).ok()?;
        Some(Timestamp::from_micros(next.timestamp_micros()))
    }
}

/// What the fields are called, and what each may be.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day", "1 to 31, or L for the last"),
    ("month", "1 to 12, or JAN to DEC"),
    ("weekday", "0 (Sunday) to 7, or SUN to SAT"),
];

/// What keeps a text of five fields, or a name, from being read.
fn why_not(text: &str) -> String {
    if text.starts_with('@') {
        return "the names are @yearly, @monthly, @weekly, @daily and @hourly".to_owned();
    }
    let is_broken = |(index, field): &(usize, &str)| {
        let mut fields = ["*"; 5];
        fields[*index] = field;
        fields.join(" ").parse::<croner::Cron>().is_err()
    };
    let Some((index, field)) = text.split_whitespace().enumerate().find(is_broken) else {
        return "its fields do not go together".to_owned();
    };
    let (name, range) = FIELDS[index];
    format!("its {name} is `{field}`, which may be {range}, and `*`, `*/5`, `1-5` or `1,5` of these")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(cron: &str, at: &str) -> Option<String> {
        Cron::parse(cron).unwrap().next_after(at.parse().unwrap()).map(|next| next.to_string())
    }

    #[test]
    fn the_next_start_lies_after_the_instant_and_in_utc() {
        assert_eq!(next("15 2 * * *", "2026-11-21T02:14:59.5Z"), Some("2026-11-21T02:15:00Z".to_owned()));
        assert_eq!(next("15 2 * * *", "2026-11-21T02:15:00Z"), Some("2026-11-22T02:15:00Z".to_owned()));
        assert_eq!(next("0 6 * * 1", "2026-11-21T00:00:00Z"), Some("2026-11-23T06:00:00Z".to_owned()));
        assert_eq!(next("0 0 29 2 *", "2026-11-21T00:00:00Z"), Some("2028-02-29T00:00:00Z".to_owned()));
        assert_eq!(next("@daily", "2026-11-21T08:00:00Z"), Some("2026-11-22T00:00:00Z".to_owned()));
    }

    #[test]
    fn other_text_is_refused_in_words() {
        let expected = "is no cron expression: expected five fields such as `15 2 * * *`";
        for bad in ["", "* * * *", "* * * * * *", "61 * * * *", "a b c d e", "@never"] {
            let message = Cron::parse(bad).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let reason = |cron: &str| Cron::parse(cron).unwrap_err().reason;
        let ranges = "and `*`, `*/5`, `1-5` or `1,5` of these";
        assert_eq!(reason("61 * * * *"), format!("its minute is `61`, which may be 0 to 59, {ranges}"));
        assert_eq!(reason("0 0 1 MAI *"), format!("its month is `MAI`, which may be 1 to 12, or JAN to DEC, {ranges}"));
        assert_eq!(reason("* * *"), "it has 3 field(s)");
        assert_eq!(reason("@never"), "the names are @yearly, @monthly, @weekly, @daily and @hourly");
    }

    proptest! {
        #[test]
        fn starts_follow_one_another(minute in 0_u32..60, hour in 0_u32..24, at in 0_i64..4_000_000_000) {
            let cron = Cron::parse(&format!("{minute} {hour} * * *")).unwrap();
            let first = cron.next_after(Timestamp::from_millis(at * 1_000)).unwrap();
            let second = cron.next_after(first).unwrap();
            prop_assert_eq!(second.since(first), std::time::Duration::from_secs(86_400));
        }
    }
}
