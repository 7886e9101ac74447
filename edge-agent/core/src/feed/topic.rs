//! MQTT topics and topic filters (MQTT 5.0, 4.7).

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A topic filter, checked: `+` and `#` stand alone in their level, `#` only last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    text: String,
    /// The filter without the prefix of a shared subscription.
    levels: Vec<String>,
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::parsed(deserializer)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |why: &str| Err(format!("{text:?} is not a topic filter: {why}"));
        if text.is_empty() || text.len() > 1_000 || text.contains('\0') {
            return expected("expected 1 to 1000 characters, such as plant/+/temperature");
        }
        let bare = match text.strip_prefix("$share/") {
            None => text,
            Some(rest) => match rest.split_once('/') {
                Some((group, filter)) if !group.is_empty() && !filter.is_empty() && !group.contains(['+', '#']) => {
                    filter
                }
                _ => return expected("a shared subscription is $share/<group>/<filter>"),
            },
        };
        let levels: Vec<String> = bare.split('/').map(str::to_owned).collect();
        for (index, level) in levels.iter().enumerate() {
            if level.len() > 1 && level.contains(['+', '#']) {
                return expected("`+` and `#` must stand alone between slashes");
            }
            if level == "#" && index + 1 < levels.len() {
                return expected("`#` may only be the last level");
            }
        }
        Ok(Self { levels, text: text.to_owned() })
    }
}

impl Filter {
    /// The text to subscribe with.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a message of this topic matches.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        // Wildcards at the start do not match the broker's own topics (4.7.2).
        if topic.starts_with('$') && matches!(self.levels[0].as_str(), "+" | "#") {
            return false;
        }
        let mut levels = topic.split('/');
        for (index, want) in self.levels.iter().enumerate() {
            if want == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if want == "+" || want == level => {}
                // `sport/#` matches `sport` too.
                _ => return false,
            }
            if index + 2 == self.levels.len() && self.levels[index + 1] == "#" {
                return true;
            }
        }
        levels.next().is_none()
    }

    /// How many levels a matching topic can have.
    #[must_use]
    pub fn levels_max(&self) -> usize {
        if self.levels.last().is_some_and(|last| last == "#") { usize::MAX } else { self.levels.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().expect("a filter")
    }

    #[test]
    fn wildcards_match_as_the_standard_says() {
        for (text, topic, matches) in [
            ("plant/+/temperature", "plant/press-1/temperature", true),
            ("plant/+/temperature", "plant/press-1/x/temperature", false),
            ("plant/+", "plant/", true),
            ("plant/+", "plant", false),
            ("sport/#", "sport", true),
            ("sport/#", "sport/a/b", true),
            ("sport/#", "sports", false),
            ("#", "a/b", true),
            ("#", "$SYS/uptime", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("$share/g/plant/#", "plant/a", true),
            ("/a", "/a", true),
            ("/a", "a", false),
        ] {
            assert_eq!(filter(text).matches(topic), matches, "{text} on {topic}");
        }
    }

    #[test]
    fn a_filter_with_a_misplaced_wildcard_is_refused() {
        for text in ["", "a/#/b", "a/b+", "a#", "$share/g", "$share//a"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
