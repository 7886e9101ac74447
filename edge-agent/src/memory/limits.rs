//! `[memory]` of the node's configuration: how long what workflows keep is kept, how much of it, and what happens when that is full.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use shared::time;

use super::session::SESSIONS;
use crate::size::Bytes;

/// Texts that workflows keep in one index, where nothing else is said: one that never stops is a mistake.
const ENTRIES: u32 = 10_000;
/// Their bytes; the vectors take about three times as much on the disk.
const BYTES: Bytes = Bytes(64 << 20);
/// More than a node with small models finds its way in.
const ENTRIES_MAX: u32 = 1_000_000;

/// Between two looks at the files that were added, where nothing else is said: soon enough for people, and next to nothing for a disk.
const FOLLOW_EVERY: Duration = Duration::from_secs(300);

/// What is kept, in every index that does not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    keep_for: Option<Span>,
    entries: Option<u32>,
    bytes: Option<Bytes>,
    when_full: Option<WhenFull>,
    /// Between two looks at the files that were added.
    follow_every: Option<Span>,
    /// By the names of indexes; conversations are kept in `sessions`.
    #[serde(default)]
    indexes: BTreeMap<String, OfIndex>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfIndex {
    keep_for: Option<Span>,
    entries: Option<u32>,
    bytes: Option<Bytes>,
    when_full: Option<WhenFull>,
}

/// What happens when a text has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhenFull {
    /// It is refused: what somebody relies on does not vanish because of what came later.
    Refuse,
    /// Those kept first make room.
    ForgetOldest,
}

/// An ISO 8601 duration.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = time::span(&text).filter(|span| !span.is_zero());
        span.map(Self).ok_or_else(|| D::Error::custom(format!("found {text:?}, expected {}", time::SPAN)))
    }
}

/// What holds in one index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    /// For a text that does not say; without it until it is forgotten.
    pub keep_for: Option<Duration>,
    pub entries: u32,
    /// Of the texts.
    pub bytes: u64,
    pub when_full: WhenFull,
}

impl Limits {
    /// Whether the configuration speaks of an index of this name.
    #[must_use]
    pub fn knows(&self, index: &str) -> bool {
        self.indexes.contains_key(index)
    }

    /// What holds for texts in an index.
    pub(super) fn of(&self, index: &str) -> Bounds {
        let own = self.indexes.get(index).copied().unwrap_or_default();
        let Bytes(bytes) = own.bytes.or(self.bytes).unwrap_or(BYTES);
        Bounds {
            keep_for: own.keep_for.or(self.keep_for).map(|Span(span)| span),
            entries: own.entries.or(self.entries).unwrap_or(ENTRIES),
            bytes,
            when_full: own.when_full.or(self.when_full).unwrap_or(WhenFull::Refuse),
        }
    }

    /// Time between two looks at the files that were added.
    #[must_use]
    pub fn follow_every(&self) -> Duration {
        self.follow_every.map_or(FOLLOW_EVERY, |Span(span)| span)
    }

    /// What is wrong although every field by itself may be so: the field, and what was expected.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let sessions = self.indexes.get(SESSIONS).copied().unwrap_or_default();
        let bounds = [
            ("entries", sessions.entries.is_some()),
            ("bytes", sessions.bytes.is_some()),
            ("when_full", sessions.when_full.is_some()),
        ];
        let fixed = bounds.into_iter().filter(|(_, is_given)| *is_given).map(|(bound, _)| {
            let expected = "conversations have bounds of their own: expected keep_for alone";
            (format!("memory.indexes.{SESSIONS}.{bound}"), expected.to_owned())
        });
        let of_indexes = self.indexes.iter().map(|(name, own)| (format!("memory.indexes.{name}.entries"), own.entries));
        let all = std::iter::once(("memory.entries".to_owned(), self.entries)).chain(of_indexes);
        let wrong = |(field, entries): (String, Option<u32>)| {
            let entries = entries.filter(|entries| !(1..=ENTRIES_MAX).contains(entries))?;
            Some((field, format!("{entries}: expected 1 to {ENTRIES_MAX}")))
        };
        all.filter_map(wrong).chain(fixed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Limits, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_index_has_its_own_bounds_and_else_those_of_all() {
        let limits = read(
            "keep_for = 'P90D'\nbytes = '1 MB'\n[indexes.notes]\nkeep_for = 'PT1H'\nentries = 3\nwhen_full = 'forget_oldest'",
        );
        let limits = limits.expect("valid");
        let hour = Duration::from_secs(3_600);
        let notes = Bounds { keep_for: Some(hour), entries: 3, bytes: 1 << 20, when_full: WhenFull::ForgetOldest };
        assert_eq!(limits.of("notes"), notes);
        let others =
            Bounds { keep_for: Some(hour * 24 * 90), entries: ENTRIES, bytes: 1 << 20, when_full: WhenFull::Refuse };
        assert_eq!(limits.of("other"), others);
        assert_eq!(Limits::default().of("any").keep_for, None, "nothing goes unless somebody says so");
        let minute = read("follow_every = 'PT1M'").expect("valid").follow_every();
        assert_eq!((minute, Limits::default().follow_every()), (Duration::from_secs(60), FOLLOW_EVERY));
    }

    #[test]
    fn a_wrong_bound_says_what_was_expected() {
        for (text, told) in [
            ("keep_for = 'a month'", "found \"a month\", expected a span of time such as P30D"),
            ("keep_for = 'PT0S'", "found \"PT0S\", expected a span of time"),
            ("when_full = 'panic'", "unknown variant `panic`, expected `refuse` or `forget_oldest`"),
            ("size = 1", "unknown field `size`"),
            ("bytes = '64'", "\"64\" is no size"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(told), "{error}");
        }
        let none = read("entries = 0\n[indexes.notes]\nentries = 2000000").expect("read").mistakes();
        assert_eq!(none[0], ("memory.entries".to_owned(), "0: expected 1 to 1000000".to_owned()));
        assert_eq!(none[1].0, "memory.indexes.notes.entries");
        let sessions =
            read("[indexes.sessions]\nkeep_for = 'P1D'\nentries = 5\nwhen_full = 'refuse'").expect("read").mistakes();
        let fields: Vec<&str> = sessions.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["memory.indexes.sessions.entries", "memory.indexes.sessions.when_full"]);
    }
}
