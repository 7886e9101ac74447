//! SentencePiece's byte-pair merging, as Llama 1 and 2 files carry it: a vocabulary with scores and no list of merges.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

/// A neighbouring pair that can become one piece; the best score first, on a tie the leftmost.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Of both together, to see whether they have changed since.
    len: usize,
}

/// A stretch of the text; `len` 0 once it is merged into the one before.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Splits a text (spaces already written as `▁`) into pieces of the vocabulary. What no piece covers is given to `unknown` as bytes.
pub(super) fn split(
    text: &str,
    vocabulary: &HashMap<String, (u32, f32)>,
    tokens: &mut Vec<u32>,
    unknown: impl Fn(&[u8], &mut Vec<u32>),
) {
    let count = text.chars().count();
    let mut symbols: Vec<Symbol> = text
        .char_indices()
        .enumerate()
        .map(|(at, (start, c))| Symbol {
            start,
            len: c.len_utf8(),
            before: at.checked_sub(1),
            after: (at + 1 < count).then_some(at + 1),
        })
        .collect();
    let pair = |symbols: &[Symbol], left: usize, right: usize| {
        let len = symbols[left].len + symbols[right].len;
        let start = symbols[left].start;
        vocabulary.get(&text[start..start + len]).map(|&(_, score)| Pair { score, left, right, len })
    };
    let mut queue: BinaryHeap<Pair> = (1..count).filter_map(|right| pair(&symbols, right - 1, right)).collect();
    while let Some(Pair { left, right, len, .. }) = queue.pop() {
        let is_stale =
            symbols[left].len == 0 || symbols[right].len == 0 || symbols[left].len + symbols[right].len != len;
        if is_stale {
            continue;
        }
        symbols[left].len = len;
        symbols[right].len = 0;
        symbols[left].after = symbols[right].after;
        if let Some(after) = symbols[right].after {
            symbols[after].before = Some(left);
            queue.extend(pair(&symbols, left, after));
        }
        if let Some(before) = symbols[left].before {
            queue.extend(pair(&symbols, before, left));
        }
    }
    for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
        let piece = &text[symbol.start..symbol.start + symbol.len];
        match vocabulary.get(piece) {
            Some(&(token, _)) => tokens.push(token),
            None => unknown(piece.as_bytes(), tokens),
        }
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}
