//! Compares the built-in embedder with all-MiniLM-L6-v2 on a small retrieval set: prints a table for models/README.md.
//!
//!     SKERRY_MINILM_DIR=... cargo run -p models --example retrieval

use std::{path::Path, sync::Arc, time::Instant};

use models::{
    Error,
    embed::{Embedder, default_embedder, similarity},
    rerank::rerank,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Set {
    machines: Machines,
    general: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Machines {
    passages: Vec<String>,
    questions: Vec<(String, usize)>,
}

/// The place of the right text for each question, from 0.
struct Places(Vec<usize>);

impl Places {
    fn within(&self, k: usize) -> f64 {
        self.0.iter().filter(|place| **place < k).count() as f64 / self.0.len() as f64
    }

    fn mean_reciprocal(&self) -> f64 {
        self.0.iter().map(|place| 1.0 / (place + 1) as f64).sum::<f64>() / self.0.len() as f64
    }
}

fn main() -> Result<(), Error> {
    let set: Set =
        serde_json::from_str(include_str!("../reference/retrieval.json")).expect("the set is JSON of this form");
    let (left, right): (Vec<String>, Vec<String>) = set.general.into_iter().unzip();
    let pairs = left.into_iter().enumerate().map(|(at, text)| (text, at)).collect();
    let sets = [("machines", set.machines.questions, set.machines.passages), ("general", pairs, right)];
    let mut embedders: Vec<Arc<dyn Embedder>> = vec![default_embedder()];
    if let Some(folder) = std::env::var_os("SKERRY_MINILM_DIR") {
        embedders.push(models::encoder::load_embedder(Path::new(&folder))?);
    }
    println!("| set | embedder | dimensions | recall@1 | recall@5 | MRR | ms a text |");
    println!("|---|---|---|---|---|---|---|");
    for (name, questions, texts) in &sets {
        for embedder in &embedders {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (places, ms) = compare(&**embedder, questions, &texts)?;
            row(name, embedder.name(), embedder.dimensions(), &places, ms);
            // Reranking embeds every sentence for every question: minutes with a transformer on a CPU.
            if embedder.digest() == embedders[0].digest() {
                let reranked = compare_reranked(&**embedder, questions, &texts)?;
                row(name, &format!("{} + rerank", embedder.name()), embedder.dimensions(), &reranked, ms);
            }
        }
    }
    Ok(())
}

fn row(set: &str, embedder: &str, dimensions: usize, places: &Places, ms: f64) {
    let (first, fifth, mean) = (places.within(1), places.within(5), places.mean_reciprocal());
    println!("| {set} | {embedder} | {dimensions} | {first:.3} | {fifth:.3} | {mean:.3} | {ms:.3} |");
}

fn compare(embedder: &dyn Embedder, questions: &[(String, usize)], texts: &[&str]) -> Result<(Places, f64), Error> {
    let start = Instant::now();
    let vectors = embedder.embed(texts)?;
    let ms = start.elapsed().as_secs_f64() * 1e3 / texts.len() as f64;
    let mut places = Vec::new();
    for (question, right) in questions {
        let vector = embedder.embed(&[question])?.remove(0);
        let scores: Vec<f32> = vectors.iter().map(|text| similarity(text, &vector)).collect();
        places.push(scores.iter().filter(|score| **score > scores[*right]).count());
    }
    Ok((Places(places), ms))
}

fn compare_reranked(embedder: &dyn Embedder, questions: &[(String, usize)], texts: &[&str]) -> Result<Places, Error> {
    let place = |(question, right): &(String, usize)| {
        let ranked = rerank(embedder, question, texts)?;
        Ok(ranked.iter().position(|(at, _)| at == right).unwrap_or(texts.len()))
    };
    Ok(Places(questions.iter().map(place).collect::<Result<_, Error>>()?))
}
