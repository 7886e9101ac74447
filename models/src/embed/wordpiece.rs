//! BERT's uncased WordPiece: the text as the pieces that a vocabulary knows. Keeps nothing but what it is given.
//!
//! The same steps as `tokenizers` with BertNormalizer and BertPreTokenizer (a test compares the two), without the hash maps that
//! cost 10 MB and a tenth of a second at start.

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// A longer word has no pieces, as in BERT.
const WORD_CHARS_MAX: usize = 100;

/// Calls `piece` with the row of each piece of the text that the vocabulary knows. A word that cannot be put together
/// from known pieces is passed over.
pub(super) fn pieces(text: &str, lookup: impl Fn(&[u8]) -> Option<usize>, mut piece: impl FnMut(usize)) {
    let mut word = String::new();
    let mut rows = Vec::new();
    let mut end = |word: &mut String| {
        rows.clear();
        if split(word, &lookup, &mut rows) {
            rows.iter().copied().for_each(&mut piece);
        }
        word.clear();
    };
    let kept = text.chars().filter(|&c| !is_dropped(c));
    for c in kept.nfd().filter(|&c| !c.is_mark_nonspacing()).flat_map(char::to_lowercase) {
        if c.is_whitespace() {
            end(&mut word);
        } else if c.is_ascii_punctuation() || c.is_punctuation() || is_ideograph(c) {
            end(&mut word);
            word.push(c);
            end(&mut word);
        } else {
            word.push(c);
        }
    }
    end(&mut word);
}

fn is_dropped(c: char) -> bool {
    let is_space = matches!(c, '\t' | '\n' | '\r');
    c == '\0' || c == '\u{fffd}' || (!is_space && c.is_other())
}

/// The blocks that BERT sets apart, each sign a word.
fn is_ideograph(c: char) -> bool {
    matches!(c as u32,
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// Takes the longest known piece again and again; false when nothing known begins what is left.
fn split(word: &str, lookup: &impl Fn(&[u8]) -> Option<usize>, rows: &mut Vec<usize>) -> bool {
    if word.is_empty() || word.chars().count() > WORD_CHARS_MAX {
        return false;
    }
    let mut name = Vec::with_capacity(word.len() + 2);
    let mut start = 0;
    while start < word.len() {
        let mut end = word.len();
        let found = loop {
            name.clear();
            if start > 0 {
                name.extend_from_slice(b"##");
            }
            name.extend_from_slice(&word.as_bytes()[start..end]);
            if let Some(row) = lookup(&name) {
                break Some(row);
            }
            end = match word[start..end].char_indices().next_back() {
                Some((last, _)) if last > 0 => start + last,
                _ => break None,
            };
        };
        let Some(row) = found else { return false };
        rows.push(row);
        start = end;
    }
    true
}
