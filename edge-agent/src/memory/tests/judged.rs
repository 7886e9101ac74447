//! What a cross-encoder and a classifier do where the node has them: tiny models with random weights, of models/reference.

use std::{path::PathBuf, time::Duration};

use models::encoder::{Classifier, Compute, CrossEncoder};
use serde_json::{Value, json};

use super::{Site, site};
use crate::memory::{Asleep, Judges, Model};

fn tiny(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/reference/encoders").join(name)
}

fn expected(name: &str) -> Value {
    let text = std::fs::read(tiny(name).join("expected.json")).expect("a fixture");
    serde_json::from_slice(&text).expect("JSON")
}

async fn judged(files: &[(&str, &str)]) -> Site {
    let Site { dir, memory } = site(files).await;
    let hour = Duration::from_secs(3_600);
    let ranks = || CrossEncoder::load(&tiny("cross"), Compute::default());
    let classifies = || Classifier::load(&tiny("roberta"), Compute::default());
    let judges = Judges {
        reranker: Some(Asleep::new("cross".to_owned(), hour, ranks)),
        classifier: Some(Asleep::new("roberta".to_owned(), hour, classifies)),
    };
    Site { dir, memory: memory.judged_by(judges) }
}

fn near(found: &Value, expected: &Value) -> bool {
    found.as_f64().zip(expected.as_f64()).is_some_and(|(a, b)| (a - b).abs() < 1e-4)
}

#[tokio::test]
async fn a_cross_encoder_reranks_passages() {
    let site = judged(&[]).await;
    let expected = expected("cross");
    // Without the empty text, which no passage has.
    let kept = [0, 1, 2, 4, 5, 6];
    let passages: Vec<Value> =
        kept.iter().map(|&at| json!({"text": expected["texts"][at], "place": at.to_string()})).collect();
    let input = json!({"query": expected["question"], "passages": passages});
    let output = site.call("rerank", input).await.expect("ranked").output;
    let ranked = output["passages"].as_array().expect("a list");
    assert_eq!(ranked.len(), kept.len());
    for passage in ranked {
        let at: usize = passage["place"].as_str().and_then(|place| place.parse().ok()).expect("its place");
        assert!(near(&passage["score"], &expected["scores"][at]), "{passage}");
    }
    assert!(ranked.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()), "{output}");
}

#[tokio::test]
async fn what_is_retrieved_can_be_reranked() {
    let pages =
        [("documents/manuals/a.md", "the seal of the press"), ("documents/manuals/b.md", "the filter of the press")];
    let site = judged(&pages).await;
    let scores = |output: Value| -> Vec<(Value, f64)> {
        let passages = output["passages"].as_array().cloned().unwrap_or_default();
        passages.into_iter().map(|p| (p["text"].clone(), p["score"].as_f64().unwrap_or_default())).collect()
    };
    let input = json!({"index": "manuals", "query": "which seal fits the press", "rerank": true, "topK": 2});
    let found = scores(site.call("retrieve", input).await.expect("found").output);
    let texts: Vec<Value> = found.iter().map(|(text, _)| json!({"text": text})).collect();
    let ranked = json!({"query": "which seal fits the press", "passages": texts});
    let ranked = scores(site.call("rerank", ranked).await.expect("ranked").output);
    assert_eq!((found.len(), &found), (2, &ranked));
}

#[tokio::test]
async fn a_classifier_needs_no_cases() {
    let site = judged(&[]).await;
    let expected = expected("roberta");
    let done = site.call("classify", json!({"text": expected["texts"][0]})).await.expect("classified").output;
    assert_eq!(done["label"], "leaking");
    assert!(near(&done["score"], &expected["shares"][0][2]), "{done}");
    assert_eq!(
        (done["labels"].as_array().map(Vec::len), done["labels"][0]["label"].clone()),
        (Some(3), json!("leaking"))
    );
    let own = json!({"text": "no", "cases": [{"text": "no", "label": "refused"}]});
    assert_eq!(site.call("classify", own).await.expect("by its cases").output["label"], "refused");
    let failure = site.call("classify", json!({"text": "a", "k": 3})).await.expect_err("k without cases");
    assert!(failure.error.detail.is_some_and(|detail| detail.contains("k: given without cases")));
}

#[tokio::test]
async fn what_was_seen_of_each_model_is_told_and_how_long_it_takes_to_load() {
    let site = judged(&[]).await;
    let figures = site.memory.as_figures();
    let told = || -> Vec<_> {
        figures().into_iter().map(|own| (own.model, own.is_loaded, own.texts, own.speed.load.is_some())).collect()
    };
    let asleep = [(Model::Reranker, false, 0, false), (Model::Classifier, false, 0, false)];
    assert_eq!(told()[1..], asleep);
    let passages: Vec<Value> = (0..40).map(|at| json!({"text": format!("the seal of press {at}")})).collect();
    site.call("rerank", json!({"query": "which seal", "passages": passages})).await.expect("ranked");
    site.call("classify", json!({"text": "the seal leaks"})).await.expect("classified");
    let awake = [(Model::Reranker, true, 40, true), (Model::Classifier, true, 1, true)];
    assert_eq!(told()[1..], awake);
    let ranks = &figures()[1];
    assert!(ranks.speed.prompt.is_some_and(|speed| speed > 0.0) && ranks.name == "cross", "{ranks:?}");
}

#[tokio::test]
async fn a_node_without_a_classifier_asks_for_cases() {
    let failure = site(&[]).await.call("classify", json!({"text": "a"})).await.expect_err("no cases");
    assert!(failure.error.detail.is_some_and(|detail| detail.contains("cases: missing; a node without")));
}
