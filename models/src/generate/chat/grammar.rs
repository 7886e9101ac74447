//! Schemas as grammars over a model's vocabulary, made by `llguidance`: which tokens may come next, and which must.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::{
    GrammarBuilder, JsonCompileOptions, Matcher, ParserFactory,
    api::{ParserLimits, TopLevelGrammar},
    panic_utils::catch_unwind,
};
use serde_json::{Map, Value, json};
use toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use super::{
    number::{DIGITS_MAX, DIGITS_OF_MULTIPLE},
    schema,
    tokens::Tokens,
};
use crate::Error;

/// Compiled schemas that are kept: a node's workflows ask with the same few again and again.
const KEPT_MAX: usize = 8;
/// A state takes 1 to 2 kilobytes; the schemas of the tests come by with some hundreds.
const STATES_MAX: usize = 20_000;

/// Tokens that are looked at together where a pattern asks for what is no space.
const WORDS: &str = r#"[^"\\\s\x00-\x1F\x7F]+"#;

/// The grammars of one model, made when they are first asked for.
#[derive(Default)]
pub(super) struct Grammars {
    shared: OnceLock<Result<Shared, String>>,
    /// The last asked for at the end.
    kept: Mutex<Vec<Held>>,
}

/// A compiled schema.
struct Held {
    schema: Value,
    matcher: Matcher,
    hints: Arc<Hints>,
}

/// What an answer is brought to an end with.
pub(super) struct Hints {
    /// The token of each single byte, where there is one.
    pub(super) letters: [Option<u32>; 256],
    /// Tokens with a quote and, after it, what may be of a number.
    pub(super) leaving: Arc<[u32]>,
    /// Texts that the schema's patterns ask for.
    pub(super) texts: Vec<Vec<u32>>,
    /// Digits that a number should have at most.
    pub(super) digits_max: u8,
}

struct Shared {
    factory: ParserFactory,
    letters: [Option<u32>; 256],
    leaving: Arc<[u32]>,
}

impl Grammars {
    /// What follows the progress of an answer to this schema, at its beginning.
    ///
    /// # Errors
    /// When the schema holds what cannot be held, or no value fits it; names the keyword and its place.
    pub(super) fn matcher(&self, tokens: &Arc<Tokens>, schema: &Value) -> Result<(Matcher, Arc<Hints>), Error> {
        let shared = self.shared.get_or_init(|| Shared::new(tokens));
        let shared = shared
            .as_ref()
            .map_err(|reason| Error::request(format!("the model's vocabulary cannot be held to a schema: {reason}")))?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match kept.iter().position(|held| held.schema == *schema) {
            Some(at) => kept.remove(at),
            None => shared.compile(schema)?,
        };
        // States that one answer needs are not left to the next: they would only grow.
        let found = (held.matcher.deep_clone(), Arc::clone(&held.hints));
        if kept.len() == KEPT_MAX {
            kept.remove(0);
        }
        kept.push(held);
        Ok(found)
    }
}

impl Shared {
    fn new(tokens: &Arc<Tokens>) -> Result<Self, String> {
        let vocabulary = Vocabulary::new(tokens)?;
        let letters = std::array::from_fn(|byte| vocabulary.trie.token_id(&[byte as u8]));
        let leaves = |token: &u32| {
            let mut bytes = tokens.bytes(*token).iter();
            bytes.any(|byte| *byte == b'"') && bytes.any(|byte| matches!(byte, b'0'..=b'9' | b'e' | b'E'))
        };
        let leaving = (0..vocabulary.trie.vocab_size() as u32).filter(leaves).collect();
        let environment: TokEnv = Arc::new(vocabulary);
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let mut slices = llguidance::earley::SlicedBiasComputer::json_slices();
        slices.push(WORDS.to_owned());
        let mut factory = ParserFactory::new(&environment, capabilities, &slices).map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self { factory, letters, leaving })
    }

    fn compile(&self, schema: &Value) -> Result<Held, Error> {
        let narrowed = schema::narrow(schema)?;
        let mut written = if narrowed.is_object() { narrowed.clone() } else { json!({}) };
        options().apply_to(&mut written);
        let parser = self.factory.create_parser(TopLevelGrammar::from_json_schema(written));
        let parser = parser.map_err(|error| blame(&narrowed, &error.to_string()))?;
        let spell = |text: String| as_json(&text).bytes().map(|byte| self.letters[usize::from(byte)]).collect();
        let texts = schema::examples(&narrowed).into_iter().filter_map(spell).collect();
        let digits_max = if schema::has_multiples(&narrowed) { DIGITS_OF_MULTIPLE } else { DIGITS_MAX };
        let hints = Hints { letters: self.letters, leaving: Arc::clone(&self.leaving), texts, digits_max };
        let hints = Arc::new(hints);
        Ok(Held { schema: schema.clone(), matcher: Matcher::new(Ok(parser)), hints })
    }
}

/// A text as it stands between the quotes of JSON.
fn as_json(text: &str) -> String {
    let quoted = json!(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn limits() -> ParserLimits {
    ParserLimits { max_lexer_states: STATES_MAX, verbose_errors: false, ..ParserLimits::default() }
}

/// One spelling for each value, with the space that models put after a comma and a colon: what is forced need not be computed token by token.
fn options() -> JsonCompileOptions {
    JsonCompileOptions {
        item_separator: ", ".to_owned(),
        key_separator: ": ".to_owned(),
        whitespace_flexible: false,
        json_allowed_escapes: Some("nrbtf\\\"".to_owned()),
        ..JsonCompileOptions::default()
    }
}

/// Finds the innermost part of a schema that no grammar can be made of, and the keyword without which there is one.
fn blame(schema: &Value, reason: &str) -> Error {
    let definitions = schema.get("$defs").cloned();
    let fails = |part: &Value| {
        let mut part = part.clone();
        if let (Some(map), Some(definitions)) = (part.as_object_mut(), &definitions) {
            map.insert("$defs".to_owned(), definitions.clone());
        }
        let made = catch_unwind(std::panic::AssertUnwindSafe(|| {
            options().json_to_llg(GrammarBuilder::new(None, limits()), part).map(drop)
        }));
        made.err().map(|error| error.to_string())
    };
    let (mut part, mut at, mut reason) = (schema, String::new(), reason.to_owned());
    while let Some((key, inner, why)) =
        children(part).into_iter().find_map(|(key, inner)| fails(inner).map(|why| (key, inner, why)))
    {
        at.push('/');
        at.push_str(&key);
        (part, reason) = (inner, why);
    }
    let none = Map::new();
    let keys = part.as_object().unwrap_or(&none).keys().filter(|key| *key != "$defs");
    let keyword = keys.clone().find(|key| {
        let mut without = part.clone();
        without.as_object_mut().map(|map| map.shift_remove(*key));
        fails(&without).is_none()
    });
    let keyword = keyword.or_else(|| keys.clone().next()).cloned().unwrap_or_default();
    let place = if at.is_empty() { at } else { format!(" at {at}") };
    let reason = match keyword.as_str() {
        "oneOf" => "must have options that no value fits two of: expected different types, or a required property \
                    with a different const in each"
            .to_owned(),
        _ => format!("cannot be held: {}", reason.lines().next().unwrap_or_default()),
    };
    Error::request(format!("schema{place}: {keyword} {reason}"))
}

/// The parts of a schema with the keys that lead to them.
fn children(schema: &Value) -> Vec<(String, &Value)> {
    let mut children = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(parts)) => {
                children.extend(parts.iter().map(|(name, part)| (format!("{key}/{name}"), part)));
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(parts)) => {
                children.extend(parts.iter().enumerate().map(|(at, part)| (format!("{key}/{at}"), part)));
            }
            // Closed, or not there: no part that could be at fault.
            ("items" | "additionalProperties", Value::Object(_)) => children.push((key.clone(), value)),
            _ => {}
        }
    }
    children.retain(|(_, part)| part.is_object());
    children
}

/// The vocabulary as the grammar sees it.
struct Vocabulary {
    tokens: Arc<Tokens>,
    trie: TokTrie,
}

impl Vocabulary {
    fn new(tokens: &Arc<Tokens>) -> Result<Self, String> {
        let count = u32::try_from(tokens.len()).map_err(|error| error.to_string())?;
        let ends: Vec<u32> = (0..count).filter(|token| tokens.is_end(*token)).collect();
        let word = |token: u32| match tokens.is_end(token) {
            // Not what an answer may hold, whatever its text.
            true => [&[0xff][..], format!("<end {token}>").as_bytes()].concat(),
            false => tokens.bytes(token).to_vec(),
        };
        let mut words: Vec<Vec<u8>> = (0..count).map(word).collect();
        // A vocabulary without an end has one here that is never chosen.
        let ends = if ends.is_empty() {
            words.push(b"\xff<end>".to_vec());
            vec![count]
        } else {
            ends
        };
        let info = TokRxInfo::new(u32::try_from(words.len()).map_err(|error| error.to_string())?, ends[0]);
        let made =
            catch_unwind(std::panic::AssertUnwindSafe(|| Ok(TokTrie::from(&info, &words).with_eos_tokens(&ends))));
        let trie = made.map_err(|error| error.to_string())?;
        Ok(Self { tokens: Arc::clone(tokens), trie })
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let mut tokens = Vec::new();
        let is_split = std::str::from_utf8(bytes).is_ok_and(|text| {
            let split = self.tokens.encode_continued(text, &mut tokens);
            split.is_ok() && tokens.iter().flat_map(|token| self.tokens.bytes(*token)).eq(bytes)
        });
        // Half a character, or one that the vocabulary has not.
        if is_split { tokens } else { self.trie.greedy_tokenize(bytes) }
    }
}
