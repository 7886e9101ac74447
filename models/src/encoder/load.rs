//! Loads an encoder: which tensors it has, and where they go.

use std::{
    panic::resume_unwind,
    path::Path,
    sync::Mutex,
    thread::{ScopedJoinHandle, scope},
};

use shared::digest::Digest;

use super::{
    BATCH_TOKENS, Compute, Encoder, Engine, Layer, Norm,
    config::{Pooling, Sizes, sizes},
    panels::{Matrix, Part, Plan, Precision},
    tensors::Tensors,
    texts::Texts,
};
use crate::{
    Error,
    catalog::digest_of_file,
    lanes::{Processor, ROWS},
    pool::Pool,
};

/// What a folder holds beside its configuration.
pub(super) struct Folder {
    pub(super) texts: Texts,
    pub(super) encoder: Encoder,
    /// Of the weights.
    pub(super) digest: Digest,
}

/// Loads a folder's tokenizer and weights, whose digest takes as long as each of both: all three at the same time.
pub(super) fn folder(
    folder: &Path,
    tensors: &Tensors,
    sizes: Sizes,
    tokens_max: usize,
    pooling: Pooling,
    compute: Compute,
    processor: Processor,
) -> Result<Folder, Error> {
    let of_texts = sizes.clone();
    scope(|scope| {
        let texts = scope.spawn(|| Texts::load(folder, &of_texts, tokens_max));
        let digest = scope.spawn(|| digest_of_file(tensors.path()));
        let encoder = load(tensors, sizes, pooling, compute, processor);
        Ok(Folder { texts: ended(texts)?, encoder: encoder?, digest: ended(digest)? })
    })
}

fn ended<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Bytes that the tokenizer takes for each entry of its vocabulary, as measured with those of BERT.
const ENTRY_BYTES: usize = 512;

/// What an encoder takes of the machine once it has computed, in bytes, told from its folder's headers before anything is loaded: matrices
/// as they are packed, tables, the vocabulary, and what is between the layers.
///
/// # Errors
/// When a file is missing, cut off, or of no model that this code computes.
pub fn needs(folder: &Path, precision: Precision) -> Result<u64, Error> {
    let sizes = sizes(folder)?;
    let tensors = Tensors::open(&folder.join("model.safetensors"))?;
    let mut plan = Plan::new(precision);
    layers(&tensors, &sizes, &mut plan)?;
    let Sizes { hidden, inner, positions, types, vocabulary, .. } = sizes;
    // Floats, and once more rounded.
    let between = BATCH_TOKENS.max(positions) * (4 * hidden + inner) * 5;
    let tables = (positions + types) * hidden * size_of::<f32>();
    Ok((plan.len() + tables + between + vocabulary * ENTRY_BYTES) as u64)
}

/// What stands before the names of an encoder's tensors: a model that is nothing but an encoder has no name for it.
fn prefix(tensors: &Tensors, sizes: &Sizes) -> &'static str {
    if tensors.has("embeddings.word_embeddings.weight") { "" } else { sizes.prefix }
}

fn layers(tensors: &Tensors, sizes: &Sizes, plan: &mut Plan) -> Result<Vec<Layer>, Error> {
    let prefix = prefix(tensors, sizes);
    (0..sizes.layers).map(|at| layer(tensors, sizes, &format!("{prefix}encoder.layer.{at}"), plan)).collect()
}

/// Loads the encoder of a file of weights.
fn load(
    tensors: &Tensors,
    sizes: Sizes,
    pooling: Pooling,
    compute: Compute,
    processor: Processor,
) -> Result<Encoder, Error> {
    let prefix = prefix(tensors, &sizes);
    let name = |part: &str| format!("{prefix}{part}");
    let table = |part: &str, rows: usize| {
        let name = name(&format!("embeddings.{part}_embeddings.weight"));
        let mut numbers = vec![0.0; rows * sizes.hidden];
        tensors.rows(&name, rows, sizes.hidden)?.read(0, &mut numbers)?;
        Ok::<_, Error>(numbers.as_chunks().0.to_vec())
    };
    let words = tensors.rows(&name("embeddings.word_embeddings.weight"), sizes.vocabulary, sizes.hidden)?;
    let (positions, types) = (table("position", sizes.positions)?, table("token_type", sizes.types)?);
    let norm = norm(tensors, &name("embeddings.LayerNorm"), sizes.hidden)?;
    let mut plan = Plan::new(compute.precision);
    let layers = layers(tensors, &sizes, &mut plan)?;
    let mut pool = Pool::new(compute.threads());
    tracing::debug!(
        megabytes = plan.len() >> 20,
        threads = pool.threads(),
        processor = processor.name(),
        "packing the weights"
    );
    let weights = plan.load(&mut pool)?;
    let engine = Mutex::new(Engine::new(pool));
    Ok(Encoder { sizes, pooling, words, positions, types, norm, layers, weights, processor, engine })
}

fn layer(tensors: &Tensors, sizes: &Sizes, name: &str, plan: &mut Plan) -> Result<Layer, Error> {
    let Sizes { hidden, heads, inner, .. } = *sizes;
    let part = |part: &str, rows: usize, columns: usize, factor: f32| {
        let bias = tensors.vector(&format!("{name}.{part}.bias"), rows)?;
        let rows = tensors.rows(&format!("{name}.{part}.weight"), rows, columns)?;
        Ok::<_, Error>(Part { rows, bias, factor })
    };
    let mut alone = |name: &str, rows: usize, columns: usize| -> Result<Matrix, Error> {
        Ok(plan.add(vec![part(name, rows, columns, 1.0)?]))
    };
    let output = alone("attention.output.dense", hidden, hidden)?;
    let up = alone("intermediate.dense", inner, hidden)?;
    let down = alone("output.dense", hidden, inner)?;
    // What the fit of key and query is divided by is taken off the queries.
    let scale = ((hidden / heads) as f32).sqrt().recip();
    let attention = plan.add(vec![
        part("attention.self.query", hidden, hidden, scale)?,
        part("attention.self.key", hidden, hidden, 1.0)?,
        part("attention.self.value", hidden, hidden, 1.0)?,
    ]);
    Ok(Layer {
        attention,
        output,
        attention_norm: norm(tensors, &format!("{name}.attention.output.LayerNorm"), hidden)?,
        up,
        down,
        norm: norm(tensors, &format!("{name}.output.LayerNorm"), hidden)?,
    })
}

fn norm(tensors: &Tensors, name: &str, len: usize) -> Result<Norm, Error> {
    let sixteens = |part: &str| -> Result<Vec<[f32; ROWS]>, Error> {
        // Models that were converted from the first releases have the old names.
        let (new, old) =
            (format!("{name}.{}", part), format!("{name}.{}", if part == "weight" { "gamma" } else { "beta" }));
        let name = if tensors.has(&old) { old } else { new };
        Ok(tensors.vector(&name, len)?.as_chunks().0.to_vec())
    };
    Ok(Norm { weights: sixteens("weight")?, bias: sixteens("bias")? })
}

/// The head of a classifier: a layer of tanh, then a number for each label. Names are BERT's or RoBERTa's.
pub(super) fn head(folder: &Path, tensors: &Tensors, sizes: &Sizes) -> Result<super::Head, Error> {
    let (hidden, labels) = (sizes.hidden, sizes.labels.len());
    let (dense, out) = match sizes.prefix {
        "bert." => ("bert.pooler.dense", "classifier"),
        _ => ("classifier.dense", "classifier.out_proj"),
    };
    if !tensors.has(&format!("{out}.weight")) {
        let message = format!(
            "no tensor {out}.weight in {}: expected a sequence classifier or a cross-encoder",
            folder.display()
        );
        return Err(tensors.wrong(message));
    }
    let matrix = |name: &str, rows: usize| {
        let mut weights = vec![0.0; rows * hidden];
        tensors.rows(&format!("{name}.weight"), rows, hidden)?.read(0, &mut weights)?;
        Ok::<_, Error>((weights, tensors.vector(&format!("{name}.bias"), rows)?))
    };
    Ok(super::Head { dense: matrix(dense, hidden)?, out: matrix(out, labels)?, hidden })
}
