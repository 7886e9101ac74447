//! Tokens that stand in a text as they are written, such as `<|im_end|>`: all of them are found in one pass, however many there are.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};

/// The longest that are known have some 30 bytes.
const MARK_BYTES_MAX: usize = 256;
/// Bytes of all marks; each is a state or two of what finds them. Llama 3 has 256 marks, Gemma 3 some 6,000.
const BYTES_MAX: usize = 1 << 20;

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
    /// When one is too long, or all together are.
    pub(super) fn new(tokens: Vec<(String, u32)>) -> Result<Self, String> {
        if let Some((text, id)) = tokens.iter().find(|(text, _)| text.len() > MARK_BYTES_MAX) {
            let len = text.len();
            return Err(format!("control token {id} has {len} bytes: expected at most {MARK_BYTES_MAX}"));
        }
        let bytes: usize = tokens.iter().map(|(text, _)| text.len()).sum();
        if bytes > BYTES_MAX {
            return Err(format!("control tokens of {bytes} bytes: expected at most {BYTES_MAX}"));
        }
        let find = |kind| {
            let texts = tokens.iter().map(|(text, _)| text);
            AhoCorasick::builder().match_kind(kind).build(texts).map_err(|error| error.to_string())
        };
        let (apart, all) = (find(MatchKind::LeftmostLongest)?, find(MatchKind::Standard)?);
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

    #[test]
    fn marks_that_would_take_much_memory_to_find_are_refused() {
        let refused = |texts: Vec<String>| Marks::new(texts.into_iter().zip(7..).collect()).err();
        assert_eq!(refused(vec!["<".repeat(256)]), None);
        let long = refused(vec!["<".repeat(257)]);
        assert_eq!(long.as_deref(), Some("control token 7 has 257 bytes: expected at most 256"));
        let many = refused((0..5_000).map(|n| format!("{n:0>250}")).collect());
        assert_eq!(many.as_deref(), Some("control tokens of 1250000 bytes: expected at most 1048576"));
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
