//! Texts as vectors: the contract, and its front.

mod table;
mod wordpiece;

use shared::digest::Digest;
pub use table::default_embedder;

use crate::Error;

/// A model that turns texts into unit vectors whose dot product says how near the texts are in meaning.
pub trait Embedder: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// The digest of its weights. Vectors of different digests cannot be compared; an index is stamped with it.
    fn digest(&self) -> Digest;

    /// The length of each vector.
    fn dimensions(&self) -> usize;

    /// How many tokens of a text it reads: by its own tokenizer, else words. None of a text that `embed` refuses.
    fn tokens(&self, text: &str) -> usize {
        text.split_whitespace().count()
    }

    /// The cosine below which no text without a word of an English question was ever one that answers it, where somebody measured that.
    fn unrelated_below(&self) -> Option<f32> {
        None
    }

    /// How much there is to read of a text, in tokens, about: less than its length where the model reads no further than its limit.
    fn size(&self, text: &str) -> usize {
        size(text)
    }

    /// One unit vector for each text, in order. A text without a known word gives the zero vector.
    ///
    /// # Errors
    /// When the model cannot compute; never for the content of a text.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error>;
}

/// Bytes of a token, about: errs on the long side for English and German.
const TOKEN_BYTES: usize = 3;

/// Tokens of a text, about, without splitting it; at least one.
#[must_use]
pub fn size(text: &str) -> usize {
    text.len().div_ceil(TOKEN_BYTES).max(1)
}

/// The dot product; of unit vectors, the cosine of their angle.
#[must_use]
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b)
}

/// As `similarity`, within a computation that may use wider registers; the order of the sums is the same, so is the result.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight running sums: one would tie the additions into a chain that the compiler may not reorder.
    let mut sums = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Scales a vector to length 1; leaves the zero vector as it is.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = similarity(vector, vector).sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
}
