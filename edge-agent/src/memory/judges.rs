//! Models that judge texts, where a node has them: in place of what is built in.

use std::sync::Arc;

use models::{
    embed::Embedder,
    encoder::{Classifier, CrossEncoder, LabelShare},
    rerank::{best_first, rerank},
};

use super::{
    asleep::Asleep,
    desk::{Asker, Error, Model, Work, pieces, tokens},
};

/// Tokens that a model of this kind reads of a text, as a rule.
const READ_MAX: usize = 512;

/// What a node has for it.
#[derive(Clone, Default)]
pub struct Judges {
    /// For `rerank`, and `retrieve` with `rerank: true`.
    pub reranker: Option<Arc<Asleep<CrossEncoder>>>,
    /// For `classify` without cases.
    pub classifier: Option<Arc<Asleep<Classifier>>>,
}

impl Judges {
    /// The name of what ranks.
    pub(super) fn ranks_by<'a>(&'a self, embedder: &'a Arc<dyn Embedder>) -> &'a str {
        self.reranker.as_ref().map_or(embedder.name(), |reranker| reranker.name())
    }

    /// Texts by how well they answer: their places with scores from 0 to 1, best first.
    pub(super) fn rank(
        &self,
        asker: &Asker<'_>,
        embedder: &dyn Embedder,
        question: &str,
        texts: &[&str],
    ) -> Result<Vec<(usize, f32)>, Error> {
        let Some(reranker) = &self.reranker else {
            // Each text is read whole and sentence by sentence.
            let tokens = tokens(embedder, &[question]) + 2 * tokens(embedder, texts);
            let seat = asker.begin(&Work { model: Model::Embedder, tokens, is_loaded: true })?;
            return seat.with(embedder, |embedder| rerank(embedder, question, texts));
        };
        let tokens = texts.iter().map(|text| (size(question) + size(text)) as u64).sum();
        let work = Work { model: Model::Reranker, tokens, is_loaded: reranker.is_awake() };
        let seat = asker.begin(&work)?;
        let reranker = seat.load(&work, || reranker.awake())?;
        let mut scores = Vec::with_capacity(texts.len());
        for piece in pieces(texts, |text| reranker.size(question, text)) {
            scores.extend(seat.piece(&piece, |texts| reranker.scores(question, texts))?);
        }
        Ok(best_first(scores))
    }

    /// The labels of a text with how sure a classifier is of each, the likeliest first.
    pub(super) fn classify(
        asker: &Asker<'_>,
        classifier: &Arc<Asleep<Classifier>>,
        text: &str,
    ) -> Result<Vec<LabelShare>, Error> {
        let work = Work { model: Model::Classifier, tokens: size(text) as u64, is_loaded: classifier.is_awake() };
        let seat = asker.begin(&work)?;
        let classifier = seat.load(&work, || classifier.awake())?;
        let mut shares = Vec::new();
        for piece in pieces(&[text], |text| classifier.size(text)) {
            shares.extend(seat.piece(&piece, |texts| classifier.classify(texts))?);
        }
        Ok(shares.into_iter().next().unwrap_or_default())
    }
}

/// Tokens of a text, about, before the model is there that knows how far it reads.
fn size(text: &str) -> usize {
    models::embed::size(text).min(READ_MAX)
}
