//! Text to tokens and back, from the vocabulary in a GGUF file: byte-level BPE (`gpt2`) and SentencePiece (`llama`).

use std::collections::{HashMap, HashSet};

use tokenizers::{
    ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
    models::bpe::BPE,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{
    marks::{Marks, Part},
    merge,
};
use crate::{
    Error,
    gguf::{Gguf, Value},
};

const VOCABULARY_MAX: usize = 1 << 20;

/// Token types of `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const ADDED: i64 = 4;
const BYTE: i64 = 6;

/// What splits a text as Llama 3's vocabulary does, LFM2's among them.
const LLAMA3: [&str; 4] = ["llama-bpe", "llama3", "llama-v3", "lfm2"];

/// Control tokens that end an answer in some family, besides the file's own end-of-sequence token.
const ENDS: &[&str] =
    &["<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>", "<|end|>", "<|eom_id|>", "<end_of_turn>"];

/// What each token adds to a text.
type Spelling = Vec<Box<[u8]>>;

/// A vocabulary.
pub(super) struct Tokens {
    coding: Coding,
    bytes: Spelling,
    /// Control tokens by their text, longest first.
    controls: Marks,
    /// Tokens that stand for tags such as `<tool_call>` in any text, longest first.
    tags: Marks,
    ends: HashSet<u32>,
    begin: Option<u32>,
    adds_begin: bool,
}

enum Coding {
    Bpe(Box<Tokenizer>),
    SentencePiece(Pieces),
}

/// A SentencePiece vocabulary: pieces with their scores, and tokens for single bytes.
struct Pieces {
    vocabulary: HashMap<String, (u32, f32)>,
    byte_tokens: Box<[Option<u32>; 256]>,
    unknown: u32,
    adds_space: bool,
}

impl Pieces {
    fn encode(&self, marked: &str, tokens: &mut Vec<u32>) {
        let spell = |bytes: &[u8], tokens: &mut Vec<u32>| {
            tokens.extend(bytes.iter().map(|byte| self.byte_tokens[usize::from(*byte)].unwrap_or(self.unknown)));
        };
        merge::split(marked, &self.vocabulary, tokens, spell);
    }
}

impl Tokens {
    pub(super) fn load(file: &Gguf) -> Result<Self, Error> {
        let texts = file.texts("tokenizer.ggml.tokens")?;
        if texts.is_empty() || texts.len() > VOCABULARY_MAX {
            return Err(file.wrong(format!("{} tokens: expected 1 to {VOCABULARY_MAX}", texts.len())));
        }
        let types = match file.value("tokenizer.ggml.token_type") {
            Some(Value::Wholes(types)) if types.len() == texts.len() => types.clone(),
            None => vec![1; texts.len()],
            Some(_) => return Err(file.wrong("tokenizer.ggml.token_type is not a list with one number for each token")),
        };
        let model = file.text("tokenizer.ggml.model")?;
        let (coding, bytes) = match model {
            "gpt2" => (
                bpe(file, texts)?,
                texts.iter().zip(&types).map(|(text, kind)| byte_level_bytes(text, *kind)).collect(),
            ),
            "llama" => sentence_piece(file, texts, &types)?,
            other => {
                return Err(file.wrong(format!("tokenizer.ggml.model is {other:?}: expected \"gpt2\" or \"llama\"")));
            }
        };
        let token = |key: &str| match file.value(key) {
            None => Ok(None),
            Some(_) => file.whole(key, 0, texts.len() - 1).map(|id| u32::try_from(id).ok()),
        };
        let of_kind = |kind: i64, is_one: &dyn Fn(&str) -> bool| {
            let with_id = texts.iter().zip(0u32..);
            let found = with_id.filter(|(text, id)| types[*id as usize] == kind && is_one(text));
            let mut found: Vec<(String, u32)> = found.map(|(text, id)| (text.clone(), id)).collect();
            found.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.1.cmp(&b.1)));
            Marks::new(found).map_err(|error| file.wrong(format!("tokenizer.ggml.tokens: {error}")))
        };
        let controls = of_kind(CONTROL, &|text| !text.is_empty())?;
        // SentencePiece's own merging finds what was added to it.
        let is_tag = |text: &str| model == "gpt2" && text.len() > 2 && text.starts_with('<') && text.ends_with('>');
        let tags = of_kind(ADDED, &is_tag)?;
        let mut ends: HashSet<u32> =
            controls.iter().filter(|(text, _)| ENDS.contains(text)).map(|(_, id)| id).collect();
        ends.extend(token("tokenizer.ggml.eos_token_id")?);
        ends.extend(token("tokenizer.ggml.eot_token_id")?);
        let begin = token("tokenizer.ggml.bos_token_id")?;
        let adds_begin = match file.value("tokenizer.ggml.add_bos_token") {
            Some(Value::Truth(truth)) => *truth,
            _ => model == "llama" || LLAMA3.contains(&splits(file)),
        };
        Ok(Self { coding, bytes, controls, tags, ends, begin, adds_begin })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What a token adds to a text; a control token adds nothing.
    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    pub(super) fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The text of the token that begins a sequence.
    pub(super) fn begin_text(&self) -> &str {
        self.control_text(|id| Some(id) == self.begin)
    }

    /// The text of a token that ends a sequence.
    pub(super) fn end_text(&self) -> &str {
        self.control_text(|id| self.ends.contains(&id))
    }

    fn control_text(&self, is_it: impl Fn(u32) -> bool) -> &str {
        self.controls.iter().find(|(_, id)| is_it(*id)).map_or("", |(text, _)| text)
    }

    /// The text with every control token's text broken up, so that what a message says is never taken for the frame around it.
    pub(super) fn without_controls(&self, text: &str) -> String {
        self.controls.broken_up(text)
    }

    /// The most bytes of a text that one token stands for.
    pub(super) fn longest(&self) -> usize {
        let controls = self.controls.iter().map(|(text, _)| text.len());
        self.bytes.iter().map(|bytes| bytes.len()).chain(controls).max().unwrap_or(0).max(1)
    }

    /// The tokens of a prompt in which control tokens stand as their text.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = Vec::new();
        if let Some(begin) = self.begin.filter(|_| self.adds_begin && !text.starts_with(self.begin_text())) {
            tokens.push(begin);
        }
        for part in self.controls.parts(text) {
            match part {
                Part::Token(id) => tokens.push(id),
                Part::Text(text) => self.encode_plain(text, &mut tokens)?,
            }
        }
        Ok(tokens)
    }

    /// Appends the tokens of a text that follows on other text and in which nothing is a control token.
    pub(super) fn encode_continued(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        match &self.coding {
            Coding::SentencePiece(pieces) => {
                pieces.encode(&text.replace(' ', "▁"), tokens);
                Ok(())
            }
            Coding::Bpe(_) => self.encode_plain(text, tokens),
        }
    }

    /// Appends the tokens of a text in which nothing is a control token.
    pub(super) fn encode_plain(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.coding {
            Coding::Bpe(tokenizer) => {
                for part in self.tags.parts(text) {
                    match part {
                        Part::Token(id) => tokens.push(id),
                        Part::Text(text) => {
                            let encoding = tokenizer
                                .encode_fast(text, false)
                                .map_err(|error| Error::request(format!("cannot split a text into tokens: {error}")))?;
                            tokens.extend_from_slice(encoding.get_ids());
                        }
                    }
                }
            }
            Coding::SentencePiece(pieces) => {
                let mut marked = text.replace(' ', "▁");
                if pieces.adds_space {
                    marked.insert(0, '▁');
                }
                pieces.encode(&marked, tokens);
            }
        }
        Ok(())
    }

    /// Whether the first token of an answer carries a space that no one wrote.
    pub(super) fn adds_space(&self) -> bool {
        matches!(&self.coding, Coding::SentencePiece(pieces) if pieces.adds_space)
    }
}

fn bpe(file: &Gguf, texts: &[String]) -> Result<Coding, Error> {
    let mut merges = Vec::new();
    for (at, line) in file.texts("tokenizer.ggml.merges")?.iter().enumerate() {
        // The second part may begin with a space of its own in no known file; the first space divides.
        let (left, right) = line.split_once(' ').ok_or_else(|| {
            file.wrong(format!("tokenizer.ggml.merges[{at}] is {line:?}: expected two parts with a space between"))
        })?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    let vocabulary: tokenizers::models::bpe::Vocab = texts.iter().cloned().zip(0..).collect();
    let pre = splits(file);
    // There what a text is split into is one token where it is in the vocabulary, whatever merges lead to it.
    // Words that the library remembers stay with the thread when the model is gone: it must not remember any.
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).cache_capacity(0);
    let model = model.ignore_merges(LLAMA3.contains(&pre)).build();
    let model = model.map_err(|error| file.wrong(format!("tokenizer.ggml.merges: {error}")))?;
    let mut tokenizer = Tokenizer::new(ModelWrapper::BPE(model));
    let pattern =
        pattern(pre).ok_or_else(|| file.wrong(format!("tokenizer.ggml.pre is {pre:?}, which is not supported")))?;
    let split = Split::new(SplitPattern::Regex(pattern.to_owned()), SplitDelimiterBehavior::Isolated, false);
    let split = split.map_err(|error| file.wrong(format!("tokenizer.ggml.pre: {error}")))?;
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![split.into(), bytes.into()]))));
    Ok(Coding::Bpe(Box::new(tokenizer)))
}

/// By which name a file says how its texts are split.
fn splits(file: &Gguf) -> &str {
    file.text("tokenizer.ggml.pre").unwrap_or("default")
}

/// How a text is split before merging, as llama.cpp's `llama-vocab.cpp` names it.
fn pattern(pre: &str) -> Option<&'static str> {
    Some(match pre {
        "qwen2" | "deepseek-r1-qwen" => {
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        }
        _ if LLAMA3.contains(&pre) => {
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        }
        // A word may begin with capitals, and goes on in small letters; what is shortened stays with it. Phi-4-mini's is this one.
        "gpt-4o" => concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        // Digits stand alone in SmolLM's.
        "smollm" => r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        "default" | "gpt-2" => r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        _ => return None,
    })
}

fn sentence_piece(file: &Gguf, texts: &[String], types: &[i64]) -> Result<(Coding, Spelling), Error> {
    let scores = match file.value("tokenizer.ggml.scores") {
        Some(Value::Reals(scores)) if scores.len() == texts.len() => scores,
        _ => return Err(file.wrong("tokenizer.ggml.scores is not a list with one number for each token")),
    };
    let mut vocabulary = HashMap::new();
    let mut byte_tokens = Box::new([None; 256]);
    let mut bytes = Vec::with_capacity(texts.len());
    for (((text, kind), score), id) in texts.iter().zip(types).zip(scores).zip(0u32..) {
        let byte = text
            .strip_prefix("<0x")
            .and_then(|text| text.strip_suffix('>'))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (*kind, byte) {
            (BYTE, Some(byte)) => {
                byte_tokens[usize::from(byte)] = Some(id);
                bytes.push(Box::from([byte]));
            }
            (CONTROL, _) => bytes.push(Box::default()),
            _ => {
                vocabulary.insert(text.clone(), (id, *score as f32));
                bytes.push(text.replace('▁', " ").into_bytes().into_boxed_slice());
            }
        }
    }
    let unknown = match file.value("tokenizer.ggml.unknown_token_id") {
        None => 0,
        Some(_) => file.whole("tokenizer.ggml.unknown_token_id", 0, texts.len() - 1)?,
    };
    let unknown = u32::try_from(unknown).unwrap_or(0);
    let adds_space = !matches!(file.value("tokenizer.ggml.add_space_prefix"), Some(Value::Truth(false)));
    Ok((Coding::SentencePiece(Pieces { vocabulary, byte_tokens, unknown, adds_space }), bytes))
}

/// The bytes that a byte-level token stands for: GPT-2 writes each byte as a printable character.
fn byte_level_bytes(text: &str, kind: i64) -> Box<[u8]> {
    if kind == CONTROL {
        return Box::default();
    }
    let byte = |c: char| {
        let code = u32::from(c);
        match code {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
            0x100..=0x120 => u8::try_from(code - 0x100).ok(),
            0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
            0x143 => Some(0xad),
            _ => None,
        }
    };
    // A token that the user's vocabulary added stands as it is.
    text.chars().map(byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| text.as_bytes().to_vec()).into_boxed_slice()
}
