//! Small readings of text: sentences, words as ranking compares them, numbers, stated values, readable names. English.

use unicode_segmentation::UnicodeSegmentation;

/// Words that say nothing about what a text is about.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "answer", "any", "are", "as", "at", "be", "been", "before",
    "by", "can", "could", "did", "do", "does", "explain", "for", "from", "give", "had", "has", "have", "how", "i",
    "if", "in", "into", "is", "it", "its", "likely", "may", "me", "more", "most", "my", "no", "not", "of", "on", "one",
    "only", "or", "our", "out", "please", "should", "so", "some", "such", "tell", "than", "that", "the", "their",
    "then", "there", "these", "they", "this", "to", "up", "use", "was", "we", "were", "what", "when", "where", "which",
    "while", "who", "why", "will", "with", "would", "you", "your",
];

/// Whether a word, in lower case, says nothing about what an English text is about.
#[must_use]
pub fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// Sentences by Unicode's rules (UAX 29), but an abbreviation ends none.
pub(crate) fn sentences(text: &str) -> Vec<String> {
    const ABBREVIATIONS: &[&str] =
        &["e.g.", "i.e.", "approx.", "no.", "fig.", "max.", "min.", "ca.", "cf.", "incl.", "sec.", "vs."];
    let mut found: Vec<String> = Vec::new();
    let mut is_open = false;
    for piece in text.split_sentence_bounds() {
        match found.last_mut().filter(|_| is_open) {
            Some(last) => last.push_str(piece),
            None => found.push(piece.to_owned()),
        }
        let last_word = piece.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
        is_open = ABBREVIATIONS.contains(&last_word.trim_start_matches('('));
    }
    found.iter().map(|sentence| sentence.trim().to_owned()).filter(|sentence| !sentence.is_empty()).collect()
}

/// The words of a text that carry meaning, lower case and without common English endings.
pub(crate) fn stems(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.unicode_words().filter(|word| !is_stop_word(word)).map(stem).collect()
}

/// The word without a plural or verb ending, so that `bearings` meets `bearing` and `overheated` meets `overheating`.
pub(crate) fn stem(word: &str) -> String {
    let cut = |ending: &str, left_min: usize| word.strip_suffix(ending).filter(|left| left.len() >= left_min);
    let left = cut("ings", 3)
        .or_else(|| cut("ing", 3))
        .or_else(|| cut("ies", 3))
        .or_else(|| cut("ed", 3))
        .or_else(|| cut("es", 3))
        .or_else(|| cut("s", 3).filter(|left| !left.ends_with('s')))
        .or_else(|| cut("e", 3))
        .or_else(|| cut("y", 3))
        .unwrap_or(word);
    left.to_owned()
}

/// How many words a text has; what the extractive generator counts as tokens.
pub(crate) fn count(text: &str) -> usize {
    text.unicode_words().count()
}

/// The text up to the end of its n-th word; the whole text when it has no more.
pub(crate) fn first(text: &str, words: usize) -> &str {
    let next = text.unicode_word_indices().nth(words).map(|(at, _)| at);
    next.map_or(text, |end| text[..end].trim_end())
}

/// `rootCause`, `root_cause` and `root-cause` as `root cause`.
pub(crate) fn readable(name: &str) -> String {
    let mut out = String::new();
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || c == '-' || c == '.' {
            out.push(' ');
        } else {
            if c.is_uppercase() && was_lower {
                out.push(' ');
            }
            out.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase() || c.is_numeric();
    }
    out
}

/// The numbers of a text in order. Digits that belong to a name (`P-101`, `M8`, `2026-11-21`) are none.
pub(crate) fn numbers(text: &str) -> Vec<f64> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len()
            && (bytes[at].is_ascii_digit() || (bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)))
        {
            at += 1;
        }
        let before = text[..start].chars().next_back();
        let before_that = text[..start].chars().rev().nth(1);
        let is_negative = before == Some('-') && !before_that.is_some_and(char::is_alphanumeric);
        let is_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
            || (before == Some('-') && !is_negative)
            || (bytes.get(at) == Some(&b'-') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit));
        if let (false, Ok(value)) = (is_name, text[start..at].parse::<f64>()) {
            found.push(if is_negative { -value } else { value });
        }
    }
    found
}

/// The value that a text states for a name, as JSON (`"device": "press-1"`), as `device=press-1`, or as a line `Device: press-1`.
pub(crate) fn stated<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    in_json(name, text).or_else(|| in_json(&readable(name), text)).or_else(|| {
        let readable = readable(name);
        text.lines().find_map(|line| {
            let (key, value) = line.split_once([':', '='])?;
            let key = key.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '-' | '#'));
            let is_key = key.eq_ignore_ascii_case(name) || key.eq_ignore_ascii_case(&readable);
            let value = value.trim().trim_matches(|c| matches!(c, '*' | '"' | '`')).trim();
            (is_key && !value.is_empty()).then_some(value)
        })
    })
}

fn in_json<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let key = format!("\"{name}\"");
    let after = text[text.find(&key)? + key.len()..].trim_start().strip_prefix(':')?.trim_start();
    match after.strip_prefix('"') {
        Some(value) => value.split_once('"').map(|(value, _)| value),
        None => after.split([',', '}', ']', '\n']).next().map(str::trim).filter(|v| !v.starts_with(['{', '['])),
    }
    .filter(|value| !value.is_empty())
}

/// The first words of a text that have no more than this many characters together.
pub(crate) fn shorten(text: &str, chars_max: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(chars_max) else { return text };
    let whole_words = text[..end].rfind(char::is_whitespace).filter(|_| !text[end..].starts_with(char::is_whitespace));
    text[..whole_words.filter(|&at| at > 0).unwrap_or(end)].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted_so_that_they_can_be_searched() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn forms_of_a_word_have_one_stem() {
        let same = |words: &str| stems(words).windows(2).all(|pair| pair[0] == pair[1]);
        assert!(same("bearing bearings") && same("overheated overheating overheats") && same("causes cause caused"));
        assert_eq!(stems("What is the pressure?"), ["pressur"]);
    }

    #[test]
    fn numbers_are_values_not_parts_of_names() {
        assert_eq!(numbers("P-101 at 95.5 °C (limit -3, M8, 2026-11-21), 7 bar, 10-20"), [95.5, -3.0, 7.0]);
    }

    #[test]
    fn stated_values_are_found_in_json_and_in_lines() {
        let text = "Finding {\"device\": \"press-1\", \"value\": 95.5, \"window\": {\"to\": 3}}\nRoot cause: dry seal";
        assert_eq!(stated("device", text), Some("press-1"));
        assert_eq!(stated("value", text), Some("95.5"));
        assert_eq!(stated("window", text), None);
        assert_eq!(stated("rootCause", text), Some("dry seal"));
        assert_eq!(stated("severity", text), None);
    }

    #[test]
    fn texts_are_shortened_between_words() {
        assert_eq!(shorten("replace the seal", 11), "replace the");
        assert_eq!(shorten("replace the seal", 13), "replace the");
        assert_eq!(shorten("größer", 3), "grö");
        assert_eq!(shorten("same", 4), "same");
    }
}
