//! `[models]`: which models embed, rank and classify, and where model files lie.

use std::path::{Path, PathBuf};

use models::{catalog::Manifest, encoder::Precision};
use serde::Deserialize;
use shared::digest::Digest;

/// Which models embed, rank and classify, and where model files lie.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Where `edge-agent models pull` puts files; `<data_dir>/models` when absent.
    pub dir: Option<PathBuf>,
    pub embedder: Option<Embedder>,
    /// How an embedder of the catalog computes: `float32`, or `int8`, which is faster, takes a quarter of the memory, and gives vectors
    /// that differ a little.
    pub precision: Option<Precision>,
    /// A cross-encoder, for `rerank` and for `retrieve` with `rerank: true`; without one the embedder compares.
    pub reranker: Option<Files>,
    /// A sequence classifier, for `classify` without cases.
    pub classifier: Option<Files>,
}

/// What embeds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "builtin, the name of a model that was pulled, or { folder, digest, precision }")]
pub enum Embedder {
    /// `builtin` (the distilled table) or the name of a catalog model that was pulled, such as `all-minilm-l6-v2`.
    Named(String),
    Files(Files),
}

/// An encoder's files: `config.json`, `tokenizer.json` and `model.safetensors` in one folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    pub folder: PathBuf,
    /// What `model.safetensors` must be; a file that is something else is refused.
    pub digest: Digest,
    #[serde(default)]
    pub precision: Precision,
}

impl Models {
    /// The embedder of the catalog that is asked for, if one is.
    #[must_use]
    pub fn of_catalog(&self) -> Option<&str> {
        match &self.embedder {
            Some(Embedder::Named(name)) if name != "builtin" => Some(name),
            _ => None,
        }
    }

    /// Encoders by the field that names their files.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Files)> {
        let embedder = match &self.embedder {
            Some(Embedder::Files(files)) => Some(files),
            _ => None,
        };
        let named =
            [("embedder", embedder), ("reranker", self.reranker.as_ref()), ("classifier", self.classifier.as_ref())];
        named.into_iter().filter_map(|(field, files)| Some((field, files?)))
    }

    /// Makes relative paths those from a folder.
    pub(super) fn resolve(&mut self, base: &Path) {
        if let Some(dir) = &mut self.dir {
            *dir = base.join(&*dir);
        }
        let embedder = match &mut self.embedder {
            Some(Embedder::Files(files)) => Some(files),
            _ => None,
        };
        for files in embedder.into_iter().chain(&mut self.reranker).chain(&mut self.classifier) {
            files.folder = base.join(&files.folder);
        }
    }

    /// What is wrong although every field by itself may be so: the field, and what was expected.
    pub(super) fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let known = Manifest::built_in();
        if let Some(name) = self.of_catalog()
            && !known.iter().any(|model| model.name == name)
        {
            let names: Vec<_> = known.iter().map(|model| model.name.as_str()).collect();
            let message = format!("no embedder is called {name:?}: expected builtin or {}", names.join(", "));
            found.push(("models.embedder".to_owned(), message));
        }
        if self.precision.is_some() && self.of_catalog().is_none() {
            let message = "only an embedder of the catalog takes it here; files have it in their own table".to_owned();
            found.push(("models.precision".to_owned(), message));
        }
        found
    }
}
