//! Models that judge texts, where a node has them: in place of what is built in.

use std::sync::Arc;

use models::{
    embed::Embedder,
    encoder::{Classifier, CrossEncoder},
};

use super::asleep::Asleep;

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
        embedder: &Arc<dyn Embedder>,
        question: &str,
        texts: &[&str],
    ) -> Result<Vec<(usize, f32)>, models::Error> {
        match &self.reranker {
            Some(reranker) => reranker.awake()?.rank(question, texts),
            None => models::rerank::rerank(embedder.as_ref(), question, texts),
        }
    }
}
