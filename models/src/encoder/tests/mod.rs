//! Encoders held to transformers and sentence-transformers (reference/tiny_encoders.py, reference/minilm.py), on everything that this
//! processor has.

mod files;
mod products;
mod steps;

use std::{num::NonZero, path::PathBuf};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Classifier, Compute, CrossEncoder, Precision,
    embedder::{check_embedder, load_embedder, load_embedder_with, open},
    needs,
};
use crate::{
    embed::{Embedder, similarity},
    lanes::Processor,
};

#[derive(Deserialize)]
struct Vectors {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Scores {
    question: String,
    texts: Vec<String>,
    scores: Vec<f32>,
}

#[derive(Deserialize)]
struct Shares {
    texts: Vec<String>,
    labels: Vec<String>,
    shares: Vec<Vec<f32>>,
}

const FULL: Compute = Compute { threads: NonZero::new(1), precision: Precision::Float32 };
const EIGHT: Compute = Compute { threads: NonZero::new(2), precision: Precision::Int8 };

fn tiny(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reference/encoders").join(name)
}

fn expected<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(tiny(name).join("expected.json")).unwrap()).unwrap()
}

fn texts(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn what_an_encoder_takes_is_told_before_it_is_loaded() {
    for name in ["mean", "first"] {
        let [full, rounded] = [FULL, EIGHT].map(|compute| {
            let model = open(&tiny(name), compute, Processor::detect()).unwrap();
            let needs = needs(&tiny(name), compute.precision).unwrap();
            assert!(needs > model.encoder.weights.len() as u64, "{name}: {needs} with its matrices");
            (needs, model.encoder.weights.len() as u64)
        });
        assert_eq!(full.0 - rounded.0, full.1 - rounded.1, "the rest is the same in both precisions");
        assert!(full.1 > 3 * rounded.1, "{full:?}, {rounded:?}");
    }
    let error = needs(&tiny("none"), Precision::Int8).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}

#[test]
fn vectors_of_tiny_models_are_those_of_sentence_transformers() {
    for name in ["mean", "first"] {
        let Vectors { texts: asked, vectors } = expected(name);
        let model = load_embedder_with(&tiny(name), FULL).unwrap();
        assert_eq!((model.name(), model.dimensions()), (name, 64));
        for ((text, expected), found) in asked.iter().zip(&vectors).zip(model.embed(&texts(&asked)).unwrap()) {
            let off = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 5e-6, "{name}: off by {off} for {text:?}");
        }
        let rounded = load_embedder_with(&tiny(name), EIGHT).unwrap();
        for ((text, expected), found) in asked.iter().zip(&vectors).zip(rounded.embed(&texts(&asked)).unwrap()) {
            let cosine = similarity(expected, &found);
            assert!(cosine > 0.999, "{name} in 8 bits: {cosine} for {text:?}");
        }
        assert_ne!(rounded.digest(), model.digest(), "vectors of both cannot be compared");
    }
}

/// Whatever computes, however many threads and whatever stands beside a text, its vector has the same bits.
#[test]
fn vectors_are_the_same_on_all_processors() {
    for name in ["mean", "first"] {
        let asked = expected::<Vectors>(name).texts;
        for precision in [Precision::Float32, Precision::Int8] {
            let compute = |threads| Compute { threads: NonZero::new(threads), precision };
            let first = open(&tiny(name), compute(1), Processor::Plain).unwrap().embed(&texts(&asked)).unwrap();
            for processor in Processor::all() {
                let model = open(&tiny(name), compute(3), processor).unwrap();
                assert_eq!(first, model.embed(&texts(&asked)).unwrap(), "{name} {precision:?} {}", processor.name());
                let alone: Vec<_> = asked.iter().flat_map(|text| model.embed(&[text]).unwrap()).collect();
                assert_eq!(first, alone, "{name} {precision:?} {} one by one", processor.name());
            }
        }
    }
}

#[test]
fn a_cross_encoder_scores_as_sentence_transformers_does() {
    let Scores { question, texts: asked, scores } = expected("cross");
    for (compute, most) in [(FULL, 5e-6), (EIGHT, 0.03)] {
        let model = CrossEncoder::load(&tiny("cross"), compute).unwrap();
        for (found, expected) in model.scores(&question, &texts(&asked)).unwrap().into_iter().zip(&scores) {
            assert!((found - expected).abs() < most, "{found} {expected}");
        }
        assert!(model.scores(&question, &[]).unwrap().is_empty());
    }
}

#[test]
fn a_classifier_gives_the_shares_that_transformers_gives() {
    let Shares { texts: asked, labels, shares } = expected("roberta");
    for (compute, most) in [(FULL, 5e-6), (EIGHT, 0.02)] {
        let model = Classifier::load(&tiny("roberta"), compute).unwrap();
        assert_eq!(model.labels(), labels);
        for (found, expected) in model.classify(&texts(&asked)).unwrap().into_iter().zip(&shares) {
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            for share in found {
                let at = labels.iter().position(|label| *label == share.label).unwrap();
                assert!((share.score - expected[at]).abs() < most, "{share:?} {expected:?}");
            }
        }
    }
}

#[test]
fn texts_beyond_one_batch_come_back_in_their_order() {
    let model = load_embedder_with(&tiny("mean"), FULL).unwrap();
    let asked: Vec<String> = (0..90).map(|at| "pump oil ".repeat(1 + at * 7 % 23)).collect();
    let all = model.embed(&texts(&asked)).unwrap();
    for (text, vector) in asked.iter().zip(all) {
        assert_eq!(model.embed(&[text]).unwrap()[0], vector);
        assert!((similarity(&vector, &vector) - 1.0).abs() < 1e-5);
    }
    assert_eq!(model.embed(&[]).unwrap(), Vec::<Vec<f32>>::new());
}

/// The folder with the model's files, which are too large to commit: `SKERRY_MINILM_DIR`.
fn minilm() -> Option<PathBuf> {
    let folder = std::env::var_os("SKERRY_MINILM_DIR").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: SKERRY_MINILM_DIR does not name a folder with all-MiniLM-L6-v2");
    }
    folder
}

#[test]
fn vectors_of_minilm_are_those_of_sentence_transformers() {
    #[derive(Deserialize)]
    struct Reference {
        text: String,
        vector: Vec<f32>,
    }
    let Some(folder) = minilm() else { return };
    let references: Vec<Reference> = serde_json::from_str(include_str!("../../../reference/minilm.json")).unwrap();
    let asked: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
    for (compute, least) in [(Compute::default(), 0.999_99), (EIGHT, 0.99)] {
        let model = load_embedder_with(&folder, compute).unwrap();
        assert_eq!(model.dimensions(), 384);
        for (reference, vector) in references.iter().zip(model.embed(&asked).unwrap()) {
            let cosine = similarity(&reference.vector, &vector);
            println!("{:?}: {cosine} for {:.40?}", compute.precision, reference.text);
            assert!(cosine > least, "{:?}: {cosine} for {:?}", compute.precision, reference.text);
        }
    }
}

#[test]
fn the_files_of_minilm_are_those_of_the_catalog() {
    let Some(folder) = minilm() else { return };
    let manifest = crate::catalog::Manifest::built_in().remove(0);
    assert_eq!((manifest.name.as_str(), manifest.verify(&folder).unwrap()), ("all-minilm-l6-v2", Vec::new()));
    let model = load_embedder(&folder).unwrap();
    let tokens = |text: &str| model.tokens(text);
    // With one before and one behind, and no more than it reads.
    assert_eq!((tokens("Grease the bearing."), tokens(""), tokens(&"oil ".repeat(999))), (6, 2, 256));
    let in_eight_bits = load_embedder_with(&folder, EIGHT).unwrap();
    assert_eq!((model.unrelated_below(), in_eight_bits.unrelated_below()), (Some(0.3), Some(0.3)));
}
