//! How well each sentence of the context serves a query: nearness in meaning, shared words, and the kind of statement asked for.

use std::collections::{BTreeSet, HashMap, HashSet};

use unicode_segmentation::UnicodeSegmentation;

use super::{
    context::Context,
    intent::{Intent, asked, offered},
};
use crate::{
    Error,
    embed::{Embedder, normalise, similarity},
    text::{count, stems},
};

/// A label that announces what was asked for outweighs everything but a wrong section.
const LABEL_FITS: f32 = 0.35;
const WORDING_FITS: f32 = 0.15;
const LABEL_DIFFERS: f32 = -0.15;
/// Retrieval put the better passage first; enough to decide ties.
const LATER_PASSAGE: f32 = -0.01;
const QUESTION_OR_SCRAP: f32 = -0.2;
/// The section that an earlier part of the answer came from.
const SAME_SECTION: f32 = 0.15;

/// The context made comparable.
pub(super) struct Evidence {
    pub(super) context: Context,
    sentences: Vec<Meaning>,
    sections: Vec<Meaning>,
    kinds: Vec<Vec<Intent>>,
    /// How telling each word is: rarer in the context, more telling.
    weights: HashMap<String, f32>,
}

struct Meaning {
    vector: Vec<f32>,
    stems: HashSet<String>,
}

/// What is looked for.
#[derive(Clone)]
pub(super) struct Query {
    vector: Vec<f32>,
    /// In order: sums of floats depend on it, and answers must not differ from run to run.
    stems: BTreeSet<String>,
    pub(super) intents: Vec<Intent>,
    /// Prefer this section.
    pub(super) section: Option<usize>,
}

/// A sentence with how well it serves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    pub(super) sentence: usize,
    pub(super) score: f32,
    /// The part of the score that says how near the sentence and its section are to the query, 0 to 1.
    pub(super) nearness: f32,
}

impl Evidence {
    pub(super) fn new(embedder: &dyn Embedder, context: Context) -> Result<Self, Error> {
        let texts: Vec<&str> = context.sentences.iter().map(|sentence| sentence.text.as_str()).collect();
        let sentences = meanings(embedder, &texts)?;
        let sections = meanings(embedder, &context.sections.iter().map(String::as_str).collect::<Vec<_>>())?;
        let kinds = context.sentences.iter().map(|sentence| offered(&sentence.text)).collect();
        let mut weights: HashMap<String, f32> = HashMap::new();
        for section in &sections {
            for stem in &section.stems {
                *weights.entry(stem.clone()).or_default() += 1.0;
            }
        }
        for weight in weights.values_mut() {
            *weight = (1.0 + sections.len() as f32 / *weight).ln();
        }
        Ok(Self { context, sentences, sections, kinds, weights })
    }

    /// Sentences that serve best first; ties in reading order.
    pub(super) fn rank(&self, query: &Query) -> Vec<Ranked> {
        let of_sections: Vec<(f32, f32)> = self.sections.iter().map(|section| self.compare(query, section)).collect();
        let score = |at: usize| {
            let sentence = &self.context.sentences[at];
            let (near, shared) = self.compare(query, &self.sentences[at]);
            let (section_near, section_shared) = of_sections[sentence.section];
            // A kind of statement is found through its section, which names the symptom; a plain question by the sentence alone.
            let section_share = if query.intents.is_empty() { 0.2 } else { 0.5 };
            let of_sentence = 0.6 * near + 0.4 * shared;
            let of_section = 0.6 * section_near + 0.4 * section_shared;
            let nearness = (1.0 - section_share) * of_sentence + section_share * of_section;
            let mut score = nearness + LATER_PASSAGE * sentence.passage.unwrap_or(1) as f32;
            if !query.intents.is_empty() {
                score += match sentence.kind() {
                    Some(_) if self.serves(at, &query.intents) => LABEL_FITS,
                    Some(_) => LABEL_DIFFERS,
                    None if self.serves(at, &query.intents) => WORDING_FITS,
                    None => 0.0,
                };
            }
            let is_scrap = sentence.label.is_none() && count(&sentence.text) < 3;
            if sentence.text.ends_with('?') || is_scrap {
                score += QUESTION_OR_SCRAP;
            }
            if query.section == Some(sentence.section) {
                score += SAME_SECTION;
            }
            Ranked { sentence: at, score, nearness: nearness.clamp(0.0, 1.0) }
        };
        let mut ranked: Vec<Ranked> = (0..self.sentences.len()).map(score).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.sentence.cmp(&b.sentence)));
        ranked
    }

    /// Cosine (not below zero), and the share of the query's telling words that are there too.
    fn compare(&self, query: &Query, meaning: &Meaning) -> (f32, f32) {
        let near = similarity(&query.vector, &meaning.vector).max(0.0);
        let weigh = |stem: &String| self.weights.get(stem).copied().unwrap_or(0.0);
        let all: f32 = query.stems.iter().map(weigh).sum();
        let shared: f32 = query.stems.iter().filter(|stem| meaning.stems.contains(*stem)).map(weigh).sum();
        (near, if all > 0.0 { shared / all } else { 0.0 })
    }

    /// Whether a sentence is of a kind that was asked for, by its label or, without one, by its wording.
    pub(super) fn serves(&self, sentence: usize, intents: &[Intent]) -> bool {
        match self.context.sentences[sentence].kind() {
            Some(kind) => intents.contains(&kind),
            None => self.kinds[sentence].iter().any(|kind| intents.contains(kind)),
        }
    }

    /// How much one sentence says the same as the query: the greater of meaning and shared words, 0 to 1.
    pub(super) fn support(&self, query: &Query, sentence: usize) -> f32 {
        let (near, shared) = self.compare(query, &self.sentences[sentence]);
        near.max(0.5 * (near + shared))
    }

    pub(super) fn vector(&self, sentence: usize) -> &[f32] {
        &self.sentences[sentence].vector
    }
}

impl Query {
    /// Several texts as one query, each counting the same.
    pub(super) fn new(embedder: &dyn Embedder, texts: &[&str], intents: Vec<Intent>) -> Result<Self, Error> {
        let topics: Vec<String> = texts.iter().map(|text| topic(text)).filter(|topic| !topic.is_empty()).collect();
        let topics: Vec<&str> =
            if topics.is_empty() { texts.to_vec() } else { topics.iter().map(String::as_str).collect() };
        let mut vector = vec![0.0; embedder.dimensions()];
        for part in embedder.embed(&topics)? {
            for (sum, value) in vector.iter_mut().zip(part) {
                *sum += value;
            }
        }
        normalise(&mut vector);
        let stems = topics.iter().flat_map(|text| stems(text)).collect();
        Ok(Self { vector, stems, intents, section: None })
    }
}

/// What a text is about: its words without those that only ask (`What is the likely cause of`).
fn topic(text: &str) -> String {
    let is_telling = |word: &&str| !stems(word).is_empty() && asked(word).is_empty();
    text.unicode_words().filter(is_telling).collect::<Vec<_>>().join(" ")
}

fn meanings(embedder: &dyn Embedder, texts: &[&str]) -> Result<Vec<Meaning>, Error> {
    let vectors = embedder.embed(texts)?;
    Ok(vectors
        .into_iter()
        .zip(texts)
        .map(|(vector, text)| Meaning { vector, stems: stems(text).into_iter().collect() })
        .collect())
}
