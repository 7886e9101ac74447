//! Numbers, instants, labels and small drawings as text.

use std::fmt::Write as _;

use crate::{
    label::{DataClass, Label},
    time::Timestamp,
};

/// A rock in the waves: the mark of both sides, as SVG.
pub const MARK: &str = r#"<svg viewBox="0 0 32 32" aria-hidden="true"><path class="rock" d="M6 21 L12.5 9.5 Q13.6 7.8 15 9.4 L18.4 13.6 L20.6 11.6 Q21.8 10.6 22.8 12.2 L27 21 Z"/><path class="wave" d="M2 22.5 q3.5 -3 7 0 t7 0 t7 0 t7 0"/><path class="wave" d="M5 27.5 q3.2 -2.6 6.4 0 t6.4 0 t6.4 0"/></svg>"#;

/// The class of the pill that shows a run's status.
#[must_use]
pub fn status_class(status: &str) -> &'static str {
    match status {
        "completed" => "good",
        "faulted" | "cancelled" => "bad",
        "waiting" | "parked" | "suspended" => "wait",
        "running" => "sea",
        _ => "",
    }
}

/// A label in words, such as `restricted, personal, from CH`.
#[must_use]
pub fn label(label: &Label) -> String {
    let class = match label.class {
        DataClass::Public => "public",
        DataClass::Internal => "internal",
        DataClass::Confidential => "confidential",
        DataClass::Restricted => "restricted",
    };
    let mut words = class.to_owned();
    if label.personal {
        words.push_str(", personal");
    }
    let origins: Vec<&str> = label.origins.iter().map(String::as_str).collect();
    if !origins.is_empty() {
        let _ = write!(words, ", from {}", origins.join(", "));
    }
    words
}

/// An instant as people say it: an age when it is near, else day and minute in UTC.
#[must_use]
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..=1 if at <= now => "just now".to_owned(),
        2..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => minute(at),
    }
}

/// A span as people say it.
#[must_use]
pub fn span(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Day and minute in UTC, such as `2026-11-21 08:30`.
#[must_use]
pub fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

/// Day and second in UTC.
#[must_use]
pub fn second(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// A unit as people write it.
#[must_use]
pub fn unit(unit: &str) -> &str {
    match unit {
        "degC" | "Cel" => "°C",
        "m3/h" => "m³/h",
        other => other,
    }
}

/// A measured value with as many digits as say something.
#[must_use]
pub fn number(value: f64) -> String {
    // The sum of nothing is -0.0, and reads as a mistake.
    let value = value + 0.0;
    match value.abs() {
        size if size >= 10_000.0 => count(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with thin spaces between thousands.
#[must_use]
pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value + 0.0);
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 entry`, `2 entries`.
#[must_use]
pub fn counted(value: f64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1.0 { one } else { many })
}

/// The last values as a small line, as SVG; empty for fewer than two. `class` is `spark` or `spark hot`.
#[must_use]
pub fn spark(values: &[f64], class: &str) -> String {
    let [first, .., last] = values else { return String::new() };
    let (low, high) = values.iter().fold((*first, *first), |(low, high), v| (low.min(*v), high.max(*v)));
    let span = if high > low { high - low } else { 1.0 };
    let height = |value: f64| 25.0 - (value - low) / span * 22.0;
    let mut points = String::new();
    for (index, value) in values.iter().enumerate() {
        let x = index as f64 / (values.len() - 1) as f64 * 128.0 + 2.0;
        let _ = write!(points, "{x:.1},{:.1} ", height(*value));
    }
    format!(
        r#"<svg class="{class}" viewBox="0 0 132 28" role="img" aria-label="from {} to {}"><polyline points="{}"/><circle cx="130" cy="{:.1}" r="2.4"/></svg>"#,
        number(low),
        number(high),
        points.trim_end(),
        height(*last)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        let told: Vec<String> = [0.5, 12.34, 345.6, 22_695.0, -1_234_567.0].map(number).into();
        assert_eq!(told, ["0.50", "12.3", "346", "22\u{202f}695", "-1\u{202f}234\u{202f}567"]);
    }

    #[test]
    fn nothing_is_no_negative_number_and_one_is_no_plural() {
        let none: f64 = [].iter().sum::<f64>();
        assert_eq!((number(none), count(none)), ("0.00".to_owned(), "0".to_owned()));
        let entries = |value| counted(value, "entry", "entries");
        assert_eq!(
            (entries(none), entries(1.0), entries(1_200.0)),
            ("0 entries".to_owned(), "1 entry".to_owned(), "1\u{202f}200 entries".to_owned())
        );
    }

    #[test]
    fn near_instants_are_ages_and_far_ones_dates() {
        let now: Timestamp = "2026-11-21T08:30:00Z".parse().unwrap();
        let back = |seconds: i64| age(now.plus_micros(-seconds * 1_000_000), now);
        assert_eq!([back(1), back(90), back(600), back(7_200)], ["just now", "90 s ago", "10 min ago", "2 h ago"]);
        assert_eq!([back(172_800), back(-60)], ["2026-11-19 08:30", "2026-11-21 08:31"]);
    }

    #[test]
    fn a_line_needs_two_values_and_a_flat_one_is_drawn_too() {
        assert_eq!(spark(&[1.0], "spark"), "");
        assert!(spark(&[1.0, 1.0], "spark").contains("2.0,25.0 130.0,25.0"));
    }
}
