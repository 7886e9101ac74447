//! What the files beside the weights say of a model: `config.json`, and what sentence-transformers adds.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, de::DeserializeOwned};

use super::panels::PANEL;
use crate::Error;

/// What sentence-transformers cuts texts to for all-MiniLM-L6-v2; where `sentence_bert_config.json` is not there to say it.
const TOKENS_DEFAULT: usize = 256;
/// No model has a number in its configuration that is larger, and products of two do not run over.
const SIZE_MAX: usize = 1 << 20;

/// The sizes of an encoder.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) vocabulary: usize,
    /// Rows of the table of positions, and which of them is the first token's.
    pub(super) positions: usize,
    pub(super) first_position: usize,
    /// Kinds of tokens: those of the first text and those of the second.
    pub(super) types: usize,
    pub(super) epsilon: f32,
    /// What tensors' names begin with where the encoder is a part of a model.
    pub(super) prefix: &'static str,
    /// The labels of a classifier, in the order of its numbers.
    pub(super) labels: Vec<String>,
}

/// What becomes of the tokens' columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    Mean,
    /// The first token's.
    First,
}

#[derive(Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    pad_token_id: Option<usize>,
    id2label: Option<BTreeMap<String, String>>,
}

const fn two() -> usize {
    2
}

fn gelu() -> String {
    "gelu".to_owned()
}

const fn epsilon() -> f32 {
    1e-12
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// Reads `config.json`.
pub(super) fn sizes(folder: &Path) -> Result<Sizes, Error> {
    let path = folder.join("config.json");
    let config: Config = json(&path)?;
    check(config).map_err(|message| Error::file(&path, message))
}

/// What the encoder's code takes for granted.
fn check(config: Config) -> Result<Sizes, String> {
    let family = match config.model_type.as_str() {
        "bert" => Some(("bert.", 0)),
        // Positions are counted from behind the padding token's number.
        "roberta" | "xlm-roberta" => Some(("roberta.", config.pad_token_id.unwrap_or(1).saturating_add(1))),
        _ => None,
    };
    let Some((prefix, first_position)) = family else {
        return Err(format!("model_type {:?}: expected \"bert\", \"roberta\" or \"xlm-roberta\"", config.model_type));
    };
    let (hidden, heads, inner) = (config.hidden_size, config.num_attention_heads, config.intermediate_size);
    let positions = config.max_position_embeddings;
    for (field, number) in [
        ("vocab_size", config.vocab_size),
        ("hidden_size", hidden),
        ("num_hidden_layers", config.num_hidden_layers),
        ("num_attention_heads", heads),
        ("intermediate_size", inner),
        ("max_position_embeddings", positions),
        ("type_vocab_size", config.type_vocab_size),
    ] {
        if number == 0 || number > SIZE_MAX {
            return Err(format!("{field} is {number}: expected 1 to {SIZE_MAX}"));
        }
    }
    if hidden % heads != 0 || hidden / heads % PANEL != 0 {
        return Err(format!(
            "hidden_size {hidden} with num_attention_heads {heads}: expected heads of {PANEL} columns, or a multiple of that"
        ));
    }
    if inner % PANEL != 0 {
        return Err(format!("intermediate_size is {inner}: expected a multiple of {PANEL}"));
    }
    if positions < first_position + 2 {
        return Err(format!("max_position_embeddings is {positions}: expected at least {}", first_position + 2));
    }
    if config.hidden_act != "gelu" {
        return Err(format!("hidden_act is {:?}: expected \"gelu\"", config.hidden_act));
    }
    if config.position_embedding_type != "absolute" {
        return Err(format!("position_embedding_type is {:?}: expected \"absolute\"", config.position_embedding_type));
    }
    if !(0.0..=1.0).contains(&config.layer_norm_eps) {
        return Err(format!("layer_norm_eps is {}: expected 0 to 1", config.layer_norm_eps));
    }
    Ok(Sizes {
        hidden,
        heads,
        inner,
        layers: config.num_hidden_layers,
        vocabulary: config.vocab_size,
        positions,
        first_position,
        types: config.type_vocab_size,
        epsilon: config.layer_norm_eps,
        prefix,
        labels: labels(config.id2label)?,
    })
}

/// `{"0": "NEGATIVE", "1": "POSITIVE"}`, each number once; two without a name where none are given.
fn labels(named: Option<BTreeMap<String, String>>) -> Result<Vec<String>, String> {
    let Some(named) = named else { return Ok(vec!["LABEL_0".to_owned(), "LABEL_1".to_owned()]) };
    let label = |at: usize| {
        let name = named.get(&at.to_string()).cloned();
        name.ok_or_else(|| format!("id2label has {} names and none for {at}: expected 0, 1 and so on", named.len()))
    };
    (0..named.len()).map(label).collect()
}

/// How a sentence embedder makes one vector of many, and how many tokens it reads at most.
pub(super) fn sentences(folder: &Path) -> Result<(Pooling, usize), Error> {
    #[derive(Deserialize)]
    struct Module {
        path: String,
        r#type: String,
    }
    #[derive(Deserialize)]
    struct Length {
        max_seq_length: Option<usize>,
    }
    let path = folder.join("modules.json");
    let modules: Vec<Module> = json_if(&path)?.unwrap_or_default();
    let mut pooling = "1_Pooling".to_owned();
    for Module { path: place, r#type } in modules {
        match r#type.rsplit('.').next().unwrap_or_default() {
            // Vectors always get length 1, which is what an index compares.
            "Transformer" | "Normalize" => {}
            "Pooling" => pooling = place,
            other => {
                return Err(Error::file(&path, format!("module {other}: expected Transformer, Pooling and Normalize")));
            }
        }
    }
    let pooling = self::pooling(&folder.join(pooling).join("config.json"))?;
    let path = folder.join("sentence_bert_config.json");
    let length = json_if::<Length>(&path)?.and_then(|length| length.max_seq_length).unwrap_or(TOKENS_DEFAULT);
    if length < 2 {
        return Err(Error::file(&path, format!("max_seq_length is {length}: expected at least 2")));
    }
    Ok((pooling, length))
}

fn pooling(path: &Path) -> Result<Pooling, Error> {
    let modes: BTreeMap<String, serde_json::Value> = json_if(path)?.unwrap_or_default();
    let is_on = |(name, value): (&String, &serde_json::Value)| {
        (name.starts_with("pooling_mode_") && value == true).then(|| name.clone())
    };
    let on: Vec<String> = modes.iter().filter_map(is_on).collect();
    match on.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::First),
        other => {
            let message = format!("{}: expected pooling_mode_mean_tokens or pooling_mode_cls_token", other.join(", "));
            Err(Error::file(path, message))
        }
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    serde_json::from_slice(&text).map_err(|error| Error::file(path, error.to_string()))
}

fn json_if<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if path.exists() { json(path).map(Some) } else { Ok(None) }
}
