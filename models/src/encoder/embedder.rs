//! A sentence embedder: MiniLM, bge and their like.

use std::{path::Path, sync::Arc};

use shared::digest::Digest;

use super::{
    Compute, Encoder, Precision,
    config::{sentences, sizes},
    load,
    tensors::Tensors,
    texts::Texts,
};
use crate::{
    Error,
    embed::{Embedder, normalise},
    lanes::Processor,
};

/// `Embedder::unrelated_below` of the models of which it was measured, on `reference/retrieval.json`, by the digest of their weights:
/// all-MiniLM-L6-v2, in float32 and in 8 bits.
const UNRELATED_BELOW: &[(&str, f32)] =
    &[("sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 0.30)];

pub(super) struct Sentences {
    name: String,
    digest: Digest,
    texts: Texts,
    pub(super) encoder: Encoder,
    unrelated_below: Option<f32>,
}

/// Loads a sentence embedder from its folder; the folder's name becomes the model's. Pooling (the mean of all tokens, or the first)
/// and the longest text are those of sentence-transformers' files where they are there, else the mean and 256 tokens.
///
/// # Errors
/// When a file is missing, cut off, or of no model that this code computes.
pub fn load_embedder(folder: &Path) -> Result<Arc<dyn Embedder>, Error> {
    load_embedder_with(folder, Compute::default())
}

/// As [`load_embedder`], computed as is said.
///
/// # Errors
/// As [`load_embedder`].
pub fn load_embedder_with(folder: &Path, compute: Compute) -> Result<Arc<dyn Embedder>, Error> {
    Ok(Arc::new(open(folder, compute, Processor::detect())?))
}

/// Whether a folder holds a sentence embedder, by all but its weights.
///
/// # Errors
/// As [`load_embedder`].
pub fn check_embedder(folder: &Path) -> Result<(), Error> {
    let (sizes, (_, tokens_max)) = (sizes(folder)?, sentences(folder)?);
    load::needs(folder, Precision::default())?;
    Texts::load(folder, &sizes, tokens_max).map(drop)
}

pub(super) fn open(folder: &Path, compute: Compute, processor: Processor) -> Result<Sentences, Error> {
    let sizes = sizes(folder)?;
    let (pooling, tokens_max) = sentences(folder)?;
    let tensors = Tensors::open(&folder.join("model.safetensors"))?;
    let load::Folder { texts, encoder, digest } =
        load::folder(folder, &tensors, sizes, tokens_max, pooling, compute, processor)?;
    let own = digest.to_string();
    let unrelated_below = UNRELATED_BELOW.iter().find(|(digest, _)| *digest == own).map(|(_, cosine)| *cosine);
    let (name, digest) = match compute.precision {
        Precision::Float32 => (super::heads::name(folder), digest),
        // Vectors of rounded weights are those of another model.
        Precision::Int8 => (super::heads::name(folder) + "-int8", Digest::of(format!("{digest} int8").as_bytes())),
    };
    Ok(Sentences { name, digest, texts, encoder, unrelated_below })
}

impl Embedder for Sentences {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn dimensions(&self) -> usize {
        self.encoder.sizes.hidden
    }

    fn tokens(&self, text: &str) -> usize {
        let tokens = self.texts.each(&[text]).unwrap_or_default();
        tokens.iter().map(|tokens| tokens.ids.len()).sum()
    }

    fn unrelated_below(&self) -> Option<f32> {
        self.unrelated_below
    }

    fn size(&self, text: &str) -> usize {
        self.texts.size(&[text])
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let mut vectors = self.encoder.vectors(&self.texts.each(texts)?)?;
        vectors.iter_mut().for_each(|vector| normalise(vector));
        Ok(vectors)
    }
}
