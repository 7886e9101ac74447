//! Scripts that put no space between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer. What they need in order to be cut and searched. Pure.

use std::borrow::Cow;

/// Whether a character is of such a script.
#[must_use]
pub fn is_unspaced(c: char) -> bool {
    is_eastern(c) || is_southern(c)
}

/// Chinese and Japanese characters, most of them a word or a part of one with a meaning of its own.
const fn is_eastern(c: char) -> bool {
    matches!(c,
        '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{3029}' | '\u{3031}'..='\u{3035}' | '\u{303b}'
        | '\u{3041}'..='\u{3096}' | '\u{3099}' | '\u{309a}' | '\u{309d}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}'
        | '\u{30fc}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{323af}')
}

/// Letters of Thai, Lao, Burmese and Khmer, several to a word.
const fn is_southern(c: char) -> bool {
    matches!(c, '\u{e01}'..='\u{e4e}' | '\u{e81}'..='\u{ece}' | '\u{1000}'..='\u{103f}' | '\u{1050}'..='\u{108f}'
        | '\u{1780}'..='\u{17d3}' | '\u{17dd}')
}

/// A mark that belongs to the character before it.
#[must_use]
pub const fn is_mark(c: char) -> bool {
    matches!(c, '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}' | '\u{eb1}' | '\u{eb4}'..='\u{ebc}' | '\u{ec8}'..='\u{ece}'
        | '\u{102b}'..='\u{103e}' | '\u{1056}'..='\u{1059}' | '\u{17b4}'..='\u{17d3}' | '\u{17dd}' | '\u{3099}' | '\u{309a}'
        | '\u{fe00}'..='\u{fe0f}')
}

/// What stands between the sentences and clauses of Chinese and Japanese.
const fn is_eastern_punctuation(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff01}'..='\u{ff65}')
}

/// A mark that ends a sentence where no space follows it.
const fn ends_at(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '｡' | '．' | '；' | '។' | '။')
}

/// What may stand between the end of a sentence and the next one.
const fn closes(c: char) -> bool {
    matches!(c, '」' | '』' | '）' | '】' | '〉' | '》' | '”' | '’' | '"' | '\'' | ')' | ']')
}

/// Whether a sentence ends with this word.
#[must_use]
pub fn ends_sentence(word: &str) -> bool {
    let word = word.trim_end_matches(closes);
    word.ends_with(|c| ends_at(c) || matches!(c, '.' | '!' | '?' | ';' | '…'))
}

/// What characters without spaces come to in tokens, and how many bytes of others there are: a Chinese or Japanese character is a token in most
/// models, of the southern scripts two letters are about one.
#[must_use]
pub fn tokens(word: &str) -> (usize, usize) {
    if word.is_ascii() {
        return (0, word.len());
    }
    let (mut eastern, mut southern, mut rest) = (0, 0, 0usize);
    for c in word.chars() {
        match c {
            _ if is_eastern(c) || is_eastern_punctuation(c) => eastern += 1,
            _ if is_southern(c) => southern += 1,
            _ => rest += c.len_utf8(),
        }
    }
    (eastern + usize::div_ceil(southern, 2), rest)
}

/// Where a word is to be cut, in bytes: after the first sentence in it, or after so many characters without spaces; its length where nowhere.
#[must_use]
pub fn cut(word: &str, chars_max: usize) -> usize {
    let mut before: Option<char> = None;
    let mut has_ended = false;
    for (count, (at, c)) in word.char_indices().enumerate() {
        if let Some(before) = before {
            let stays = is_mark(c) || closes(c) || ends_at(c) || is_eastern_punctuation(c);
            let may_end = is_unspaced(before) || is_unspaced(c);
            if !stays && (has_ended || (may_end && count >= chars_max)) {
                return at;
            }
        }
        has_ended = ends_at(c) || (has_ended && closes(c));
        before = Some(c);
    }
    word.len()
}

/// A text whose characters without spaces stand apart, each a word for the full text, so that what is a word to people is a phrase there.
#[must_use]
pub fn apart(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(is_unspaced) {
        return Cow::Borrowed(text);
    }
    let mut apart = String::with_capacity(2 * text.len());
    let mut before = ' ';
    for c in text.chars() {
        if (is_unspaced(before) || is_unspaced(c)) && !before.is_whitespace() && !c.is_whitespace() {
            apart.push(' ');
        }
        apart.push(c);
        before = c;
    }
    Cow::Owned(apart)
}

/// What is looked for in the full text in place of a query's words: each word, and of characters without spaces each that stand side by side, two,
/// or three letters of a southern script. Words come without punctuation.
pub fn phrases(query: &str) -> impl Iterator<Item = String> {
    let words = query.split(|c: char| !c.is_alphanumeric() && !is_mark(c)).filter(|word| !word.is_empty());
    words.flat_map(runs).flat_map(|run| {
        let Some(first) = run.chars().next().filter(|c| is_unspaced(*c)) else { return vec![run.to_owned()] };
        // The full text has no marks.
        let letters: Vec<char> = run.chars().filter(|c| !is_mark(*c)).collect();
        let length = if is_eastern(first) { 2 } else { 3 };
        let phrase = |letters: &[char]| letters.iter().map(char::to_string).collect::<Vec<_>>().join(" ");
        match letters.len() {
            0 => Vec::new(),
            len if len <= length => vec![phrase(&letters)],
            _ => letters.windows(length).map(phrase).collect(),
        }
    })
}

/// Cuts a word where characters without spaces begin and end.
fn runs(word: &str) -> impl Iterator<Item = &str> {
    let kind = |c: char| {
        if is_eastern(c) {
            1
        } else if is_southern(c) {
            2
        } else {
            0
        }
    };
    let mut rest = word;
    std::iter::from_fn(move || {
        let first = kind(rest.chars().next()?);
        let end = rest.find(|c| !is_mark(c) && kind(c) != first).unwrap_or(rest.len());
        let (run, more) = rest.split_at(end);
        rest = more;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_without_spaces_stand_apart_and_others_stay_as_they_are() {
        assert_eq!(apart("冷却水ポンプ"), "冷 却 水 ポ ン プ");
        assert_eq!(apart("PLCの交換 はA4で"), "PLC の 交 換 は A4 で");
        assert!(matches!(apart("Kühlung, naïve"), Cow::Borrowed("Kühlung, naïve")));
    }

    #[test]
    fn a_query_is_looked_for_by_what_stands_side_by_side() {
        let phrases = |query| phrases(query).collect::<Vec<_>>();
        assert_eq!(phrases("E-42 pump?"), ["E", "42", "pump"]);
        assert_eq!(phrases("冷却水、油"), ["冷 却", "却 水", "油"]);
        assert_eq!(phrases("PLC交換"), ["PLC", "交 換"]);
        assert_eq!(phrases("น้ำมัน"), ["น ำ ม", "ำ ม น"], "without marks");
        assert_eq!(phrases(" ?! "), [""; 0]);
    }

    #[test]
    fn a_word_is_cut_after_a_sentence_or_between_characters_and_never_before_a_mark() {
        let cut = |word: &'static str, max| word.split_at(cut(word, max));
        assert_eq!(cut("止まった。次に", 9), ("止まった。", "次に"));
        assert_eq!(cut("「止まる。」と", 9), ("「止まる。」", "と"));
        assert_eq!(cut("冷却水ポンプ", 4), ("冷却水ポ", "ンプ"));
        assert_eq!(cut("abcdefgh", 4), ("abcdefgh", ""));
        assert_eq!(cut("น้ำมัน", 1), ("น้", "ำมัน"));
        assert!(ends_sentence("た。」") && ends_sentence("end.") && !ends_sentence("た、"));
    }
}
