//! Whether sources bear out what a text says, by its words: a statement is borne out when one passage of the sources has
//! most of its words, and the sources have each of its numbers.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::Spot;

/// Sentences of a source that are looked at together: a statement may draw on two of them.
const WINDOW: usize = 3;
/// Which part of a statement's words a passage must have.
const SHARE_MIN: f64 = 0.6;
/// Passages of all sources, and statements that are judged by them: beyond it a check would take minutes.
const PASSAGES_MAX: usize = 16_384;
const STATEMENTS_MAX: usize = 2_048;
/// A statement with fewer words says too little to be judged by them.
const WORDS_MIN: usize = 3;

/// What the sources say.
pub(super) struct Sources {
    /// By word, the passages that have it.
    passages: HashMap<String, Vec<u32>>,
    count: usize,
    numbers: HashSet<String>,
}

impl Sources {
    pub fn read(texts: &[String]) -> Self {
        let mut sources = Self { passages: HashMap::new(), count: 0, numbers: HashSet::new() };
        for text in texts {
            let sentences: Vec<Vec<String>> =
                sentences(text).into_iter().map(|place| words(&text[place]).collect()).collect();
            let numbers = sentences.iter().flatten().filter(|word| is_number(word));
            sources.numbers.extend(numbers.map(|word| plain_number(word)));
            for window in sentences.windows(WINDOW.min(sentences.len().max(1))) {
                if sources.count >= PASSAGES_MAX {
                    break;
                }
                let passage = u32::try_from(sources.count).unwrap_or(u32::MAX);
                sources.count += 1;
                for word in window.iter().flatten().map(|word| stem(word)).collect::<HashSet<_>>() {
                    sources.passages.entry(word).or_default().push(passage);
                }
            }
        }
        sources
    }

    /// The statements that the sources do not bear out.
    pub fn unsupported(&self, text: &str) -> Vec<Spot> {
        let judge = |place: Range<usize>| {
            let words: Vec<String> = words(&text[place.clone()]).collect();
            let (kind, message) = self.fault(&words)?;
            Some(Spot { kind, place, message: message.to_owned(), mask: None })
        };
        let all = sentences(text);
        let beyond = all.get(STATEMENTS_MAX).map(|first| Spot {
            kind: "statement",
            place: first.start..text.len(),
            message: format!("more than {STATEMENTS_MAX} statements: the rest was not compared with the sources"),
            mask: None,
        });
        all.into_iter().take(STATEMENTS_MAX).filter_map(judge).chain(beyond).collect()
    }

    fn fault(&self, words: &[String]) -> Option<(&'static str, &'static str)> {
        if words.iter().any(|word| is_number(word) && !self.numbers.contains(&plain_number(word))) {
            return Some(("number", "a number that no source has"));
        }
        let wanted: HashSet<String> =
            words.iter().filter(|w| !is_number(w) && !is_common(w)).map(|w| stem(w)).collect();
        if wanted.len() < WORDS_MIN {
            return None;
        }
        let mut had = vec![0_usize; self.count];
        for word in &wanted {
            self.passages.get(word).into_iter().flatten().for_each(|passage| had[*passage as usize] += 1);
        }
        let best = had.into_iter().max().unwrap_or(0) as f64 / wanted.len() as f64;
        (best < SHARE_MIN).then_some(("statement", "a statement that no source bears out"))
    }
}

/// The places of the sentences, trimmed.
fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map(|(_, c)| *c);
        let ends = c == '\n' || (matches!(c, '.' | '!' | '?') && next.is_none_or(char::is_whitespace));
        if ends {
            found.push(start..at + c.len_utf8());
            start = at + c.len_utf8();
        }
    }
    found.push(start..text.len());
    let trimmed = |place: Range<usize>| {
        let part = &text[place.clone()];
        let start = place.start + (part.len() - part.trim_start().len());
        start..start + part.trim().len()
    };
    found.into_iter().map(trimmed).filter(|place| !place.is_empty()).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | ',' | '-' | '\'')));
    let parts = parts.map(|part| part.trim_matches(|c: char| !c.is_alphanumeric()));
    parts.filter(|part| !part.is_empty()).map(str::to_lowercase)
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
}

/// `1,200`, `1200.0` and `1200` are one number.
fn plain_number(word: &str) -> String {
    let plain = word.replace(',', "");
    plain.parse::<f64>().map_or(plain, |value| value.to_string())
}

/// The word without the endings that change most: enough to know `bearings` and `bearing` as one.
fn stem(word: &str) -> String {
    let characters = word.chars().count();
    let cut = ["ings", "ing", "edly", "ed", "es", "s", "ly"];
    let ending = cut.iter().find(|ending| word.ends_with(**ending) && characters >= ending.len() + 3);
    let root = ending.map_or(word, |ending| &word[..word.len() - ending.len()]);
    root.strip_suffix('e').filter(|root| root.chars().count() >= 3).unwrap_or(root).to_owned()
}

/// Words that every text has.
fn is_common(word: &str) -> bool {
    const COMMON: &[&str] = &[
        "a", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could", "do", "does", "for",
        "from", "had", "has", "have", "if", "in", "into", "is", "it", "its", "may", "more", "most", "must", "not",
        "of", "on", "or", "should", "so", "some", "such", "than", "that", "the", "their", "then", "there", "these",
        "they", "this", "those", "to", "was", "were", "when", "which", "will", "with", "would", "you", "your",
    ];
    COMMON.binary_search(&word).is_ok()
}
