//! Tokens that stand in a text as they are written, such as `<|im_end|>`: all of them are found in one pass, however many there are.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

/// A zero-width space: with it between its letters a text reads the same and is no mark any more.
const BREAK: char = '\u{200b}';

/// Tokens by their texts.
pub(super) struct Marks {
    tokens: Vec<(String, u32)>,
    /// Finds the leftmost first, of several at one place the longest.
    apart: AhoCorasick,
    /// Finds each, also where one overlaps another.
    all: AhoCorasick,
}

/// A text without marks, or one of those.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Marks {
    /// # Errors
    /// When they are too many to be found.
    pub(super) fn new(tokens: Vec<(String, u32)>) -> Result<Self, BuildError> {
        let texts = || tokens.iter().map(|(text, _)| text);
        let apart = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts())?;
        let all = AhoCorasick::builder().match_kind(MatchKind::Standard).build(texts())?;
        Ok(Self { tokens, apart, all })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.tokens.iter().map(|(text, id)| (text.as_str(), *id))
    }

    /// Splits a text at the marks in it.
    pub(super) fn parts<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let (mut parts, mut end) = (Vec::new(), 0);
        for found in self.apart.find_iter(text) {
            parts.extend((found.start() > end).then(|| Part::Text(&text[end..found.start()])));
            parts.push(Part::Token(self.tokens[found.pattern()].1));
            end = found.end();
        }
        parts.extend((end < text.len()).then(|| Part::Text(&text[end..])));
        parts
    }

    /// The text with each mark broken up after its first letter.
    pub(super) fn broken_up(&self, text: &str) -> String {
        let after_first = |start: usize| start + text[start..].chars().next().map_or(0, char::len_utf8);
        let places: BTreeSet<usize> =
            self.all.find_overlapping_iter(text).map(|found| after_first(found.start())).collect();
        let mut broken = String::with_capacity(text.len() + places.len() * BREAK.len_utf8());
        let mut end = 0;
        for place in places {
            broken.push_str(&text[end..place]);
            broken.push(BREAK);
            end = place;
        }
        broken + &text[end..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks(texts: &[&str]) -> Marks {
        Marks::new(texts.iter().map(ToString::to_string).zip(0..).collect()).unwrap()
    }

    #[test]
    fn of_several_at_one_place_the_longest_is_found() {
        let marks = marks(&["<a>", "<a><b>", "<b>"]);
        assert_eq!(marks.parts("x<a><b>y<b>"), [Part::Text("x"), Part::Token(1), Part::Text("y"), Part::Token(2)]);
        assert_eq!(marks.parts(""), []);
    }

    #[test]
    fn many_marks_in_a_long_text_take_one_pass() {
        let texts: Vec<String> = (0..500).map(|n| format!("<|reserved_{n}|>")).collect();
        let marks = marks(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let text = "<|reserved_499|>".repeat(100_000);
        assert_eq!(marks.parts(&text).len(), 100_000);
        assert_eq!(marks.broken_up(&text).len(), text.len() + 300_000);
    }

    proptest! {
        #[test]
        fn parts_are_the_text_and_what_is_broken_up_has_no_mark(text in "[<ab>é]{0,40}") {
            let texts = ["<a>", "<ab>", "><", "é<", "<a><a>"];
            let marks = marks(&texts);
            let written: String = marks.parts(&text).iter().map(|part| match part {
                Part::Text(text) => *text,
                Part::Token(id) => texts[*id as usize],
            }).collect();
            prop_assert_eq!(&written, &text);
            let is_free = |text: &str| texts.iter().all(|mark| !text.contains(mark));
            for part in marks.parts(&text) {
                prop_assert!(!matches!(part, Part::Text(text) if !is_free(text)), "{text}");
            }
            let broken = marks.broken_up(&text);
            prop_assert!(is_free(&broken), "{broken}");
            prop_assert_eq!(broken.replace(BREAK, ""), text);
        }
    }
}
