//! Texts as tokens: of one text, or of two that are looked at together.

use std::path::Path;

use tokenizers::{EncodeInput, ModelWrapper, Tokenizer, TruncationParams};

use super::config::Sizes;
use crate::{Error, embed::size};

/// A text's tokens, and of which kind each is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) ids: Vec<u32>,
    pub(super) types: Vec<u32>,
}

/// Cuts texts into tokens.
pub(super) struct Texts {
    tokenizer: Tokenizer,
    /// Tokens that are read of a text, or of two together.
    most: usize,
}

impl Texts {
    /// Reads `tokenizer.json`; texts will have at most so many tokens.
    pub(super) fn load(folder: &Path, sizes: &Sizes, most: usize) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        let text = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
        let wrong = |message: String| Error::file(&path, message);
        let mut tokenizer = Tokenizer::from_bytes(text).map_err(|error| wrong(error.to_string()))?;
        if let ModelWrapper::BPE(model) = tokenizer.get_model() {
            // Words that the library remembers stay with the thread when the model is gone: it must not remember any.
            let mut model = model.clone();
            model.resize_cache(0);
            tokenizer.with_model(model);
        }
        let last = tokenizer.get_vocab(true).into_values().max().unwrap_or_default() as usize;
        if last >= sizes.vocabulary {
            let expected = sizes.vocabulary;
            return Err(wrong(format!(
                "a token has number {last}: expected numbers below {expected}, config.json's vocab_size"
            )));
        }
        let max_length = most.min(sizes.positions - sizes.first_position);
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| wrong(error.to_string()))?;
        // Texts stand one behind the other; none is filled up to the length of another.
        tokenizer.with_padding(None);
        let texts = Self { tokenizer, most: max_length };
        let [alone, pair] = [EncodeInput::from(""), EncodeInput::from(("a", "a"))].map(|input| texts.tokens(input));
        if alone?.ids.len() < 2 {
            let message = "an empty text has no tokens: expected a tokenizer that puts one before and one behind, as those of BERT do";
            return Err(wrong(message.to_owned()));
        }
        if let Some(kind) = pair?.types.into_iter().find(|kind| *kind as usize >= sizes.types) {
            let expected = sizes.types;
            return Err(wrong(format!(
                "a token of kind {kind}: expected kinds below {expected}, config.json's type_vocab_size"
            )));
        }
        Ok(texts)
    }

    fn tokens(&self, input: EncodeInput<'_>) -> Result<Tokens, Error> {
        let encoding = self.tokenizer.encode_fast(input, true);
        let encoding = encoding.map_err(|error| Error::request(format!("cannot split a text into tokens: {error}")))?;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), types: encoding.get_type_ids().to_vec() })
    }

    /// How many tokens texts have that are looked at together, about.
    pub(super) fn size(&self, texts: &[&str]) -> usize {
        texts.iter().map(|text| size(text)).sum::<usize>().min(self.most)
    }

    pub(super) fn each(&self, texts: &[&str]) -> Result<Vec<Tokens>, Error> {
        texts.iter().map(|text| self.tokens(EncodeInput::from(*text))).collect()
    }

    /// Each text behind the same first one; where both are too long, the longer is cut.
    pub(super) fn pairs(&self, first: &str, texts: &[&str]) -> Result<Vec<Tokens>, Error> {
        texts.iter().map(|text| self.tokens(EncodeInput::from((first, *text)))).collect()
    }
}
