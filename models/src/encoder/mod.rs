//! Encoders of the BERT and RoBERTa families: sentence embedders, cross-encoders, sequence classifiers. From `config.json`,
//! `tokenizer.json` and `model.safetensors` in one folder; that they are the right ones is the catalog's to say.
//!
//! The tokens of several texts stand one behind the other in one sheet, so that a batch of texts of any lengths costs its tokens and no
//! padding; only attention looks at texts one by one.

mod attention;
mod config;
mod embedder;
mod heads;
mod load;
mod measure;
mod panels;
mod product;
mod rounded;
mod steps;
mod tensors;
#[cfg(test)]
mod tests;
mod texts;

use std::{
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
};

use attention::{Attend, Run};
use config::{Pooling, Sizes};
pub use embedder::{check_embedder, load_embedder, load_embedder_with};
pub use heads::{Classifier, CrossEncoder, LabelShare};
pub use load::needs;
pub use measure::peak_flops;
pub use panels::Precision;
use panels::{Matrix, Weights};
use product::{Input, Out, Product, Then, View};
use rounded::{Round, Rounded};
use tensors::Rows;
use texts::Tokens;

use crate::{
    Error,
    lanes::{Processor, ROWS},
    pool::Pool,
    product::Sheet,
};

/// Tokens computed at once, where one text does not have more: enough that a weight is brought once for many, few enough that what
/// they need stays in the caches.
const BATCH_TOKENS: usize = 512;
/// Pieces of a product for each thread, at most: when another program takes a core for a while, the other threads take over its pieces.
const PIECES: usize = 8;

/// Tokens that a thread embeds or norms before it takes the next ones.
const NORM_TOKENS: usize = 16;

/// How an encoder is to be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compute {
    /// How many threads compute, the caller's among them; without a number, as many as the machine has cores.
    pub threads: Option<NonZero<usize>>,
    pub precision: Precision,
}

impl Compute {
    fn threads(self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get)
    }
}

/// A model's weights. They are never changed; calls take turns, because each uses all threads.
struct Encoder {
    sizes: Sizes,
    pooling: Pooling,
    /// The embedding table stays in the file.
    words: Rows,
    positions: Vec<[f32; ROWS]>,
    types: Vec<[f32; ROWS]>,
    norm: Norm,
    layers: Vec<Layer>,
    weights: Weights,
    processor: Processor,
    engine: Mutex<Engine>,
}

struct Layer {
    /// Queries, keys and values.
    attention: Matrix,
    output: Matrix,
    attention_norm: Norm,
    up: Matrix,
    down: Matrix,
    norm: Norm,
}

struct Norm {
    weights: Vec<[f32; ROWS]>,
    bias: Vec<[f32; ROWS]>,
}

/// What turns a text's first token into a number for each label. Weights are row by row, each matrix with its bias.
struct Head {
    dense: (Vec<f32>, Vec<f32>),
    out: (Vec<f32>, Vec<f32>),
    hidden: usize,
}

/// The threads, and the memory for what is between the layers.
struct Engine {
    pool: Pool,
    hidden: Sheet,
    attention: Sheet,
    inner: Sheet,
    rounded: Rounded,
}

impl Engine {
    fn new(pool: Pool) -> Self {
        let sheet = Sheet::default;
        Self { pool, hidden: sheet(), attention: sheet(), inner: sheet(), rounded: Rounded::default() }
    }
}

impl Encoder {
    /// One row of columns for each text, as the pooling makes it; zeros for a text without tokens.
    fn vectors(&self, texts: &[Tokens]) -> Result<Vec<Vec<f32>>, Error> {
        let mut vectors = vec![vec![0.0; self.sizes.hidden]; texts.len()];
        let mut engine = self.engine();
        // Of like length together, so that long texts do not spread the memory that short ones need.
        let mut order: Vec<usize> = (0..texts.len()).filter(|&at| !texts[at].ids.is_empty()).collect();
        order.sort_by_key(|&at| texts[at].ids.len());
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |at: &&usize| {
                tokens += texts[**at].ids.len();
                tokens <= BATCH_TOKENS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (batch, after) = rest.split_at(count);
            rest = after;
            let chosen: Vec<&Tokens> = batch.iter().map(|&at| &texts[at]).collect();
            for (at, vector) in batch.iter().zip(self.batch(&mut engine, &chosen)?) {
                vectors[*at] = vector;
            }
        }
        Ok(vectors)
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        // A panic left nothing behind that the next call does not write first.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self, engine: &mut Engine, texts: &[&Tokens]) -> Result<Vec<Vec<f32>>, Error> {
        let mut runs: Vec<Run> = Vec::with_capacity(texts.len());
        for text in texts {
            let first = runs.last().map_or(0, |run| run.first + run.count);
            runs.push(Run { first, count: text.ids.len() });
        }
        self.embed(engine, texts)?;
        for (at, layer) in self.layers.iter().enumerate() {
            self.attend(engine, layer, &runs);
            if at + 1 == self.layers.len() && self.pooling == Pooling::First {
                // The rest of the last layer is for the tokens that are asked for.
                for sheet in [&mut engine.hidden, &mut engine.attention] {
                    *sheet = firsts(sheet, &runs);
                }
                runs = (0..runs.len()).map(|first| Run { first, count: 1 }).collect();
            }
            self.feed(engine, layer);
        }
        Ok(runs.iter().map(|run| mean(&engine.hidden, *run)).collect())
    }

    /// The sum of what a token, its place and its kind are, normed.
    fn embed(&self, engine: &mut Engine, texts: &[&Tokens]) -> Result<(), Error> {
        let Engine { pool, hidden: sheet, .. } = engine;
        let tokens: Vec<_> = texts.iter().flat_map(|text| text.ids.iter().zip(&text.types).zip(0..)).collect();
        sheet.reset(self.sizes.hidden, tokens.len());
        let failed = Mutex::new(None);
        pool.pieces(&mut sheet.tiles_mut(NORM_TOKENS), 1, |at, tiles| {
            for groups in tiles {
                for (token, ((id, kind), place)) in tokens[at * NORM_TOKENS..].iter().take(NORM_TOKENS).enumerate() {
                    if let Err(error) = self.look_up(groups, token, **id as usize, **kind as usize, *place) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                }
                self.norm_tile(groups, &self.norm);
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Puts a token's sum where it stands in a tile.
    fn look_up(
        &self,
        groups: &mut [&mut [[f32; ROWS]]],
        token: usize,
        id: usize,
        kind: usize,
        place: usize,
    ) -> Result<(), Error> {
        let (mut row, count) = (vec![0.0; self.sizes.hidden], groups.len());
        self.words.read(id, &mut row)?;
        let position = &self.positions[(self.sizes.first_position + place) * count..][..count];
        let kind = &self.types[kind * count..][..count];
        let parts = row.as_chunks::<ROWS>().0.iter().zip(position).zip(kind);
        for (group, ((word, position), kind)) in groups.iter_mut().zip(parts) {
            group[token] = std::array::from_fn(|lane| word[lane] + kind[lane] + position[lane]);
        }
        Ok(())
    }

    /// What the heads saw, where the queries stood: the first columns of the sheet, the rest is cut off.
    fn attend(&self, engine: &mut Engine, layer: &Layer, runs: &[Run]) {
        let Sizes { hidden, heads, .. } = self.sizes;
        let Engine { pool, hidden: state, attention, rounded, .. } = engine;
        let tokens = state.tokens();
        attention.reset(3 * hidden, tokens);
        self.multiply(pool, &layer.attention, state, rounded, Then::Keep, attention);
        let piece = hidden / heads / ROWS * tokens;
        let (queries, rest) = attention.all_mut().split_at_mut(heads * piece);
        let (keys, values) = rest.split_at(heads * piece);
        pool.pieces(queries, piece, |head, queries| {
            let (keys, values) = (&keys[head * piece..][..piece], &values[head * piece..][..piece]);
            self.processor.compute(Attend { runs, tokens, queries, keys, values });
        });
        attention.truncate(hidden);
    }

    fn feed(&self, engine: &mut Engine, layer: &Layer) {
        let Engine { pool, hidden: state, attention, inner, rounded } = engine;
        self.multiply(pool, &layer.output, attention, rounded, Then::Add, state);
        self.normed(pool, state, &layer.attention_norm);
        inner.reset(self.sizes.inner, state.tokens());
        self.multiply(pool, &layer.up, state, rounded, Then::Gelu, inner);
        self.multiply(pool, &layer.down, inner, rounded, Then::Add, state);
        self.normed(pool, state, &layer.norm);
    }

    fn normed(&self, pool: &mut Pool, sheet: &mut Sheet, norm: &Norm) {
        pool.pieces(&mut sheet.tiles_mut(NORM_TOKENS), 1, |_, tiles| {
            for groups in tiles {
                self.norm_tile(groups, norm);
            }
        });
    }

    fn norm_tile(&self, groups: &mut [&mut [[f32; ROWS]]], Norm { weights, bias }: &Norm) {
        self.processor.compute(steps::Norm { groups, weights, bias, epsilon: self.sizes.epsilon });
    }

    fn multiply(
        &self,
        pool: &mut Pool,
        matrix: &Matrix,
        from: &Sheet,
        rounded: &mut Rounded,
        then: Then,
        out: &mut Sheet,
    ) {
        let tokens = from.tokens();
        if matrix.is_rounded() {
            pool.pieces(&mut rounded.reset(from), 1, |_, tiles| {
                for tile in tiles {
                    self.processor.compute(Round { sheet: from, tile });
                }
            });
        }
        let input = match matrix.is_rounded() {
            true => Input::Rounded(rounded),
            false => Input::Full(View { numbers: from.all(), tokens, first: 0 }),
        };
        let each = match pool.threads() {
            1 => matrix.panels(),
            threads => matrix.panels().div_ceil(threads * PIECES),
        };
        pool.pieces(out.all_mut(), each * 2 * tokens, |piece, out| {
            for (at, out) in out.chunks_exact_mut(2 * tokens).enumerate() {
                let panel = piece * each + at;
                let (low, high) = out.split_at_mut(tokens);
                let (bias, out) = (&matrix.bias[panel], Out(low, high));
                self.processor.compute(Product { panel: self.weights.panel(matrix, panel), bias, input, then, out });
            }
        });
    }
}

/// A sheet of each run's first token alone.
fn firsts(sheet: &Sheet, runs: &[Run]) -> Sheet {
    let mut chosen = Sheet::default();
    chosen.reset(sheet.columns(), runs.len());
    for (at, run) in runs.iter().enumerate() {
        chosen.token_mut(at).zip(sheet.token(run.first)).for_each(|(to, from)| *to = *from);
    }
    chosen
}

/// The mean of a run's tokens; of one, itself.
fn mean(sheet: &Sheet, run: Run) -> Vec<f32> {
    let tokens = sheet.tokens();
    let mean = |numbers: &[[f32; ROWS]]| {
        let mut sums = [0.0f32; ROWS];
        for numbers in &numbers[run.first..][..run.count] {
            for lane in 0..ROWS {
                sums[lane] += numbers[lane];
            }
        }
        sums.map(|sum| sum / run.count as f32)
    };
    sheet.all().chunks_exact(tokens).flat_map(mean).collect()
}
