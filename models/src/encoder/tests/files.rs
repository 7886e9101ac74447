//! Files that are missing, cut off or lie: each is an error that names the file and the field, and nothing else happens.

use std::path::Path;

use serde_json::{Value, json};

use super::{Classifier, CrossEncoder, FULL, check_embedder, load_embedder_with, tiny};

/// A copy of a tiny model.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors", "modules.json", "sentence_bert_config.json"] {
        drop(std::fs::copy(tiny(name).join(file), folder.path().join(file)));
    }
    std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    drop(std::fs::copy(tiny(name).join("1_Pooling/config.json"), folder.path().join("1_Pooling/config.json")));
    folder
}

fn refused(folder: &Path, expected: &str) {
    let error = load_embedder_with(folder, FULL).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(expected), "{error:?} lacks {expected:?}");
}

/// What is refused when it is loaded is refused when it is only looked at, in the same words.
#[test]
fn a_folder_is_checked_for_its_use_before_it_is_loaded() {
    let words = |outcome: Result<(), crate::Error>| outcome.err().map(|error| error.to_string());
    for name in ["mean", "first", "cross", "roberta"] {
        let folder = tiny(name);
        let ranks = CrossEncoder::load(&folder, FULL).map(drop);
        assert_eq!(words(CrossEncoder::check(&folder)), words(ranks), "{name} as a reranker");
        let classifies = Classifier::load(&folder, FULL).map(drop);
        assert_eq!(words(Classifier::check(&folder)), words(classifies), "{name} as a classifier");
        let embeds = load_embedder_with(&folder, FULL).map(drop);
        assert_eq!(words(check_embedder(&folder)), words(embeds), "{name} as an embedder");
    }
    assert!(Classifier::check(&tiny("mean")).unwrap_err().to_string().contains("expected a sequence classifier"));
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_missing_or_cut_off_file_is_named() {
    for (name, expected) in [
        ("config.json", "config.json: EOF while parsing"),
        ("tokenizer.json", "tokenizer.json: EOF while parsing"),
        ("model.safetensors", "model.safetensors: the header is said to have"),
    ] {
        let folder = copy("mean");
        let path = folder.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..100]).unwrap();
        refused(folder.path(), expected);
        std::fs::write(&path, []).unwrap();
        refused(folder.path(), name);
        std::fs::remove_file(&path).unwrap();
        refused(folder.path(), "cannot read");
    }
    let folder = copy("mean");
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for len in (0..whole.len()).step_by(997) {
        std::fs::write(&path, &whole[..len]).unwrap();
        refused(folder.path(), "model.safetensors: ");
    }
}

#[test]
fn a_configuration_that_is_not_computed_is_refused_by_field() {
    for (field, value, expected) in [
        ("num_attention_heads", json!(0), "config.json: num_attention_heads is 0"),
        ("num_attention_heads", json!(4), "hidden_size 64 with num_attention_heads 4: expected heads of 32"),
        ("hidden_size", json!(1_u64 << 40), "hidden_size is 1099511627776"),
        ("hidden_size", json!("64"), "config.json: invalid type: string"),
        ("hidden_size", json!(128), "shape [113, 64]: config.json asks for [113, 128]"),
        ("intermediate_size", json!(100), "intermediate_size is 100: expected a multiple of 32"),
        ("num_hidden_layers", json!(3), "no tensor encoder.layer.2.attention.output.dense.bias"),
        ("hidden_act", json!("relu"), "hidden_act is \"relu\""),
        ("model_type", json!("gpt2"), "model_type \"gpt2\": expected \"bert\""),
        ("position_embedding_type", json!("relative_key"), "position_embedding_type is \"relative_key\""),
        ("max_position_embeddings", json!(1), "max_position_embeddings is 1: expected at least 2"),
        ("layer_norm_eps", json!(-1), "layer_norm_eps is -1"),
        ("vocab_size", json!(50), "tokenizer.json: a token has number"),
        ("type_vocab_size", json!(1), "tokenizer.json: a token of kind 1"),
    ] {
        let folder = copy("mean");
        edit(&folder.path().join("config.json"), |config| config[field] = value);
        refused(folder.path(), expected);
    }
}

#[test]
fn what_sentence_transformers_says_is_obeyed_or_refused() {
    let folder = copy("mean");
    let pooling = folder.path().join("1_Pooling/config.json");
    edit(&pooling, |pooling| pooling["pooling_mode_max_tokens"] = json!(true));
    refused(folder.path(), "1_Pooling/config.json: pooling_mode_max_tokens, pooling_mode_mean_tokens: expected");
    let modules = folder.path().join("modules.json");
    edit(&modules, |modules| modules[1]["type"] = json!("sentence_transformers.models.Dense"));
    refused(folder.path(), "modules.json: module Dense");
    std::fs::remove_file(&modules).unwrap();
    std::fs::remove_file(&pooling).unwrap();
    load_embedder_with(folder.path(), FULL).unwrap();
    edit(&folder.path().join("sentence_bert_config.json"), |length| length["max_seq_length"] = json!(1));
    refused(folder.path(), "sentence_bert_config.json: max_seq_length is 1");
}

/// A header may say anything of where tensors lie and what they are.
#[test]
fn a_lying_header_is_refused() {
    let folder = copy("mean");
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let len = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&whole[8..8 + len]).unwrap();
    let name = "encoder.layer.1.intermediate.dense.weight";
    for (field, value, expected) in [
        ("data_offsets", json!([0, 12]), "is said to lie from byte 0 to 12"),
        ("data_offsets", json!([12, 0]), "is said to lie from byte 12 to 0"),
        ("data_offsets", json!([u64::MAX - 12288, u64::MAX]), "expected 12288 bytes within the file"),
        ("data_offsets", json!([1]), "no tensor"),
        ("shape", json!([64, 96]), "shape [64, 96]: config.json asks for [96, 64]"),
        ("shape", json!([]), "shape []"),
        ("dtype", json!("I8"), "is of I8: expected F32, F16 or BF16"),
    ] {
        let mut header = header.clone();
        header[name][field] = value;
        let text = header.to_string();
        let file = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &whole[8 + len..]].concat();
        std::fs::write(&path, file).unwrap();
        refused(folder.path(), expected);
    }
}

#[test]
fn a_tokenizer_of_another_family_is_refused() {
    let folder = copy("mean");
    edit(&folder.path().join("tokenizer.json"), |tokenizer| tokenizer["post_processor"] = Value::Null);
    refused(folder.path(), "tokenizer.json: an empty text has no tokens");
    std::fs::copy(tiny("roberta").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    refused(folder.path(), "tokenizer.json: a token has number");
}

#[test]
fn a_model_for_something_else_is_refused() {
    let check = |error: Option<crate::Error>, expected: &str| {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    };
    check(CrossEncoder::load(&tiny("roberta"), FULL).err(), "config.json: id2label has 3 labels: expected one");
    check(Classifier::load(&tiny("cross"), FULL).err(), "config.json: id2label has 1 labels: expected at least two");
    check(Classifier::load(&tiny("mean"), FULL).err(), "no tensor classifier.weight");
}
