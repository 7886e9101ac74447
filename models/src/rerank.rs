//! Reorders found passages by how well they answer a question: what embedding a whole passage blurs, its best sentence and its
//! telling words show.

use std::collections::{BTreeSet, HashMap};

use crate::{
    Error,
    embed::{Embedder, similarity},
    text::{sentences, stems},
};

/// How much the whole passage, its best sentence and the shared words count.
const WHOLE: f32 = 0.5;
const SENTENCE: f32 = 0.25;
const WORDS: f32 = 0.25;

/// The texts' places in the list with their scores (0 to 1), best first; ties in the list's order.
///
/// # Errors
/// When the embedder fails.
pub fn rerank(embedder: &dyn Embedder, question: &str, texts: &[&str]) -> Result<Vec<(usize, f32)>, Error> {
    let asked = embedder.embed(&[question])?.remove(0);
    let near = |texts: &[&str]| -> Result<Vec<f32>, Error> {
        Ok(embedder.embed(texts)?.iter().map(|vector| similarity(vector, &asked).max(0.0)).collect())
    };
    let whole = near(texts)?;
    let words: BTreeSet<String> = stems(question).into_iter().collect();
    let found: Vec<BTreeSet<String>> = texts.iter().map(|text| stems(text).into_iter().collect()).collect();
    let mut counts: HashMap<&str, f32> = HashMap::new();
    for stem in found.iter().flatten() {
        *counts.entry(stem).or_default() += 1.0;
    }
    // A word that few of the texts have tells more; one that none has tells nothing.
    let weigh = |stem: &String| counts.get(stem.as_str()).map_or(0.0, |count| (1.0 + texts.len() as f32 / count).ln());
    let all: f32 = words.iter().map(weigh).sum();
    let mut scores = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let sentences = sentences(text);
        let best = near(&sentences.iter().map(String::as_str).collect::<Vec<_>>())?.into_iter().fold(0.0, f32::max);
        let shared: f32 = words.intersection(&found[at]).map(weigh).sum();
        let share = if all > 0.0 { shared / all } else { 0.0 };
        scores.push(WHOLE * whole[at] + SENTENCE * best + WORDS * share);
    }
    Ok(best_first(scores))
}

/// The places of scores with these, best first; ties in their order.
#[must_use]
pub fn best_first(scores: Vec<f32>) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::default_embedder;

    #[test]
    fn the_passage_that_names_what_was_asked_for_comes_first() {
        let texts = [
            "Compressors need clean air. The filter is changed every 500 hours.",
            "Pumps need no priming. Seal kit SK-40 fits the main cylinder of the press.",
            "",
        ];
        let ranked = rerank(&*default_embedder(), "Which seal kit fits the press cylinder?", &texts).unwrap();
        assert_eq!(ranked.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 0, 2]);
        assert!(ranked.iter().all(|(_, score)| (0.0..=1.0).contains(score)));
        assert_eq!(rerank(&*default_embedder(), "?", &[]).unwrap(), []);
    }
}
