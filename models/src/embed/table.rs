//! The built-in embedder: one vector for each word piece, summed. Distilled from all-MiniLM-L6-v2 by
//! `reference/distill.py`, compiled in, read where it lies: the pages of rows that no text uses are never touched.
//!
//! The file, little endian: `SKTABLE1`, count u32, dimensions u32, length of the names u32, SHA-256 of what follows;
//! then count + 1 u32 offsets into the names, count f32 scales, the names (sorted by bytes), count rows of i8.
//! A token's vector is its scale times its row; the scale carries the token's weight (rare words count more).

use std::sync::Arc;

use shared::digest::Digest;

use super::{Embedder, normalise, wordpiece};
use crate::Error;

static TABLE: &[u8] = include_bytes!("table.bin");

const HEADER_LEN: usize = 8 + 3 * 4 + 32;

/// Measured on `reference/retrieval.json`.
const UNRELATED_BELOW: f32 = 0.25;

/// A table of token vectors in the form above.
pub(super) struct Table {
    count: usize,
    dimensions: usize,
    digest: Digest,
    offsets: &'static [u8],
    scales: &'static [u8],
    names: &'static [u8],
    rows: &'static [u8],
}

/// The embedder that needs no files: always there, a few microseconds a text, English.
#[must_use]
pub fn default_embedder() -> Arc<dyn Embedder> {
    Arc::new(Table::built_in())
}

impl Table {
    pub(super) fn built_in() -> Self {
        Self::parse(TABLE).expect("the table that is compiled in has the form that its program wrote")
    }

    /// `None` when the lengths do not add up. The digest is taken from the header (a test checks it): computing it would
    /// touch every page.
    fn parse(bytes: &'static [u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        if !bytes.starts_with(b"SKTABLE1") {
            return None;
        }
        let (count, dimensions, names_len) = (number(8)?, number(12)?, number(16)?);
        let digest = Digest::from_bytes(bytes.get(20..HEADER_LEN)?.try_into().ok()?);
        let (offsets, rest) = bytes[HEADER_LEN..].split_at_checked((count + 1) * 4)?;
        let (scales, rest) = rest.split_at_checked(count * 4)?;
        let (names, rows) = rest.split_at_checked(names_len)?;
        (rows.len() == count * dimensions).then_some(Self { count, dimensions, digest, offsets, scales, names, rows })
    }

    fn offset(&self, at: usize) -> usize {
        u32::from_le_bytes(self.offsets[at * 4..][..4].try_into().expect("four bytes")) as usize
    }

    fn name(&self, row: usize) -> &'static [u8] {
        &self.names[self.offset(row)..self.offset(row + 1)]
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn add(&self, row: usize, sum: &mut [f32]) {
        let scale = f32::from_le_bytes(self.scales[row * 4..][..4].try_into().expect("four bytes"));
        let values = &self.rows[row * self.dimensions..][..self.dimensions];
        for (sum, value) in sum.iter_mut().zip(values) {
            *sum += scale * f32::from(value.cast_signed());
        }
    }

    /// The sum of the pieces' vectors, not yet of length 1.
    pub(super) fn sum(&self, text: &str) -> Vec<f32> {
        let mut sum = vec![0.0; self.dimensions];
        wordpiece::pieces(text, |name| self.find(name), |row| self.add(row, &mut sum));
        sum
    }
}

impl Embedder for Table {
    fn name(&self) -> &'static str {
        "skerry-table"
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn tokens(&self, text: &str) -> usize {
        let mut count = 0;
        wordpiece::pieces(text, |name| self.find(name), |_| count += 1);
        count
    }

    fn unrelated_below(&self) -> Option<f32> {
        Some(UNRELATED_BELOW)
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let embed = |text: &&str| {
            let mut vector = self.sum(text);
            normalise(&mut vector);
            vector
        };
        Ok(texts.iter().map(embed).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Tokenizer;

    use super::*;
    use crate::embed::similarity;

    #[test]
    fn the_table_that_is_compiled_in_is_the_one_that_its_digest_names() {
        assert_eq!(Table::built_in().digest(), Digest::of(&TABLE[HEADER_LEN..]));
    }

    #[test]
    fn every_token_is_found_at_its_own_row() {
        let table = Table::built_in();
        for row in 0..table.count {
            assert_eq!(table.find(table.name(row)), Some(row));
        }
        assert_eq!(table.find(b"no such token"), None);
    }

    #[test]
    fn near_meanings_have_near_vectors_of_length_one() {
        let texts = [
            "The bearing of the pump runs hot.",
            "High temperature at the pump's bearing",
            "The canteen serves soup on Fridays.",
        ];
        let vectors = default_embedder().embed(&texts).unwrap();
        for vector in &vectors {
            assert!((similarity(vector, vector) - 1.0).abs() < 1e-5);
        }
        let (near, far) = (similarity(&vectors[0], &vectors[1]), similarity(&vectors[0], &vectors[2]));
        assert!(near > 0.6 && far < 0.3, "near {near}, far {far}");
    }

    #[test]
    fn a_text_without_known_words_gives_the_zero_vector() {
        let vectors = default_embedder().embed(&["", " \n", "\u{4e00}"]).unwrap();
        assert!(vectors.iter().flatten().all(|value| *value == 0.0));
    }

    fn reference(table: &Table) -> Tokenizer {
        let mut vocabulary: serde_json::Map<String, serde_json::Value> =
            (0..table.count).map(|row| (String::from_utf8(table.name(row).to_vec()).unwrap(), row.into())).collect();
        vocabulary.insert("[UNK]".to_owned(), u32::MAX.into());
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": vocabulary},
        });
        tokenizer.to_string().parse().unwrap()
    }

    fn own(table: &Table, text: &str) -> Vec<u32> {
        let mut rows = Vec::new();
        wordpiece::pieces(text, |name| table.find(name), |row| rows.push(u32::try_from(row).unwrap()));
        rows
    }

    #[test]
    fn pieces_are_those_of_the_tokenizers_crate() {
        let table = Table::built_in();
        let tokenizer = reference(&table);
        let check = |text: &str| {
            let encoding = tokenizer.encode_fast(text, false).unwrap();
            let expected: Vec<u32> = encoding.get_ids().iter().copied().filter(|id| *id != u32::MAX).collect();
            assert_eq!(own(&table, text), expected, "{text:?}");
            assert_eq!(table.tokens(text), expected.len(), "{text:?}");
        };
        check("Überdruck: 80°C, p=2.5 bar (±5%) — see §4.2; Kühlmittelpumpe P-101/B läuft heiß!");
        check("İstanbul ﬁn ½ №5 \u{301}e\u{301} a\u{200b}b\tc\r\nd 中文字 ok \u{0}x \u{fffd}");
        proptest!(ProptestConfig::with_cases(2000), |(text in "(\\PC|[a-z ]{1,8}|[\\t\\n]){0,40}")| check(&text));
    }
}
