//! The decoder that the families of chat models share: grouped-query attention with turning positions or short convolutions, gated
//! feed-forward, norms by the root mean square. Weights stay quantised; of the embedding table only the rows of the prompt are unpacked.
//!
//! The weights are never changed, so one `Decoder` serves many answers, each with its own [`Session`]; they take turns, token by
//! token, because each uses all threads.

mod attention;
mod batch;
mod cache;
mod convolution;
mod family;
mod layers;
mod load;
mod output;
mod session;
mod steps;
#[cfg(test)]
mod tests;

use std::{sync::Mutex, time::Instant};

use attention::Run;
use batch::Queue;
pub(crate) use batch::Writer;
pub use cache::Cache;
use family::{Sizes, Turns};
use layers::Layer;
pub(crate) use load::{Layout, lay_out};
pub(crate) use session::Session;
use steps::{Before, Bend, Keep, Round};

use crate::{
    Error,
    gguf::Rows,
    lanes::{Processor, ROWS},
    pool::Pool,
    product::{Activations, Input, Matrix, Pace, Product, Sheet, Weights},
};

/// Tokens of a prompt computed at once: what they need beside the weights stays in a core's second cache.
pub(crate) const CHUNK_LEN: usize = 256;
/// Pieces of a product for each thread, at most: when another program takes a core for a while, the other threads take over its pieces.
const PIECES: usize = 8;
/// What a piece has of the weights, at least: at its start the processor does not know yet what comes next.
const PIECE_BYTES: usize = 192 << 10;

/// A model's weights.
pub(crate) struct Decoder {
    sizes: Sizes,
    /// What an embedding is multiplied with.
    growth: f32,
    bend: Bend,
    turns: Vec<Turns>,
    embedding: Table,
    layers: Vec<Layer>,
    norm: Vec<[f32; ROWS]>,
    output: Matrix,
    weights: Weights,
    processor: Processor,
    cache: Cache,
    engine: Mutex<Engine>,
    queue: Queue,
}

/// The embedding table.
enum Table {
    /// It is the output matrix too.
    Packed(Matrix),
    /// It stays in the file.
    Stored(Rows),
}

/// The threads, and the memory for what is between the layers.
struct Engine {
    pool: Pool,
    hidden: Sheet,
    normed: Sheet,
    rounded: Activations,
    attention: Sheet,
    inner: Sheet,
    delta: Sheet,
    /// Of each of the turns.
    angles: Vec<Vec<f32>>,
    pace: Pace,
}

impl Engine {
    fn new(pool: Pool) -> Self {
        let sheet = Sheet::default;
        Self {
            pool,
            hidden: sheet(),
            normed: sheet(),
            rounded: Activations::default(),
            attention: sheet(),
            inner: sheet(),
            delta: sheet(),
            angles: Vec::new(),
            pace: Pace::default(),
        }
    }
}

impl Decoder {
    /// How many tokens a session can hold.
    pub(crate) fn context(&self) -> usize {
        self.sizes.context
    }

    #[cfg(test)]
    pub(crate) fn weights_bytes(&self) -> usize {
        self.weights.len()
    }

    /// Bytes of weights that are mapped from a file.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.weights.mapped_bytes()
    }

    #[cfg(test)]
    pub(crate) fn set_context(&mut self, tokens: usize) {
        self.sizes.context = tokens;
    }

    /// Leaves what candle knows of a family alone: one that turns by a base and nothing else, and whose gate bends as most do.
    #[cfg(test)]
    pub(crate) fn simplify(&mut self, base: f64) {
        let Turns { frequencies, size } = &mut self.turns[0];
        let turning = 2.0 * frequencies.len() as f64;
        for (pair, frequency) in frequencies.iter_mut().enumerate() {
            *frequency = base.powf(-2.0 * pair as f64 / turning) as f32;
        }
        (*size, self.bend) = (1.0, Bend::Silu);
    }

    /// What computes it.
    pub(crate) fn processor(&self) -> Processor {
        self.processor
    }

    pub(crate) fn session(&self) -> Session {
        Session::new(self.layers.iter().map(|layer| layer.past(&self.sizes, self.cache)).collect())
    }

    /// Bytes that a token takes in a session: its keys and values, and its share of what convolutions go on from.
    pub(crate) fn token_bytes(&self) -> usize {
        self.sizes.token_bytes(self.cache)
    }

    /// Takes tokens in and gives the logits of the token that follows the last. What several threads ask for at the same time is computed
    /// together, each weight read once; the bits are those of each alone.
    pub(crate) fn forward(&self, session: &mut Session, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        self.forward_to(session, tokens, None)
    }

    /// As [`Self::forward`]; with `wanted` only the logits of the tokens whose bit is set are sure to be computed, those of others may be
    /// least.
    pub(crate) fn forward_to(
        &self,
        session: &mut Session,
        tokens: &[u32],
        wanted: Option<&[u32]>,
    ) -> Result<Vec<f32>, Error> {
        if session.len() + tokens.len() > self.sizes.context || tokens.is_empty() {
            let (held, new, most) = (session.len(), tokens.len(), self.sizes.context);
            return Err(Error::request(format!(
                "{held} and {new} tokens: expected at least 1 new and at most {most} together"
            )));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= self.output.rows) {
            return Err(Error::broken(format!("token {token}: expected one below {}", self.output.rows)));
        }
        let (whole, rest) = tokens.split_at(tokens.len() - 1 - (tokens.len() - 1) % CHUNK_LEN);
        for tokens in whole.chunks(CHUNK_LEN) {
            self.take_in(session, tokens, Some(&[]))?;
        }
        self.take_in(session, rest, wanted)
    }

    /// The tokens of several sessions, in one pass over the weights; the logits of each one's last token.
    fn compute(&self, engine: &mut Engine, asked: &mut [batch::Asked]) -> Result<Vec<Vec<f32>>, Error> {
        let mut runs: Vec<Run> = Vec::with_capacity(asked.len());
        for batch::Asked { session, tokens, .. } in asked.iter() {
            let first = runs.last().map_or(0, |run| run.first + run.count);
            runs.push(Run { first, count: tokens.len(), start: session.len() });
        }
        let tokens: Vec<u32> = asked.iter().flat_map(|asked| &asked.tokens).copied().collect();
        let began = Instant::now();
        let groups = self.wanted_groups(asked.iter().map(|asked| asked.wanted.as_deref()));
        let is_timed = tokens.len() == 1 && groups.is_none();
        engine.rounded.ask = if is_timed { engine.pace.way() } else { engine.pace.best() };
        self.embed(engine, &tokens)?;
        self.turns(engine, &runs);
        for (at, layer) in self.layers.iter().enumerate() {
            let pasts = asked.iter_mut().map(|asked| asked.session.layer_mut(at)).collect();
            self.mix(engine, layer, pasts, &runs);
            self.feed(engine, layer);
        }
        for batch::Asked { session, tokens, .. } in asked.iter_mut() {
            session.add(tokens.len());
        }
        let logits = self.logits(engine, &runs, groups.as_deref());
        if is_timed {
            engine.pace.took(began.elapsed());
        }
        Ok(logits)
    }

    fn embed(&self, engine: &mut Engine, tokens: &[u32]) -> Result<(), Error> {
        let mut row = vec![0.0; self.sizes.hidden];
        engine.hidden.reset(self.sizes.hidden, tokens.len());
        for (at, token) in tokens.iter().enumerate() {
            let token = *token as usize;
            match &self.embedding {
                Table::Packed(matrix) => self.weights.unpack(matrix, token, &mut row),
                Table::Stored(rows) => rows.unpack(token, &mut row)?,
            }
            for (to, from) in engine.hidden.token_mut(at).zip(row.as_chunks().0) {
                *to = from.map(|number| number * self.growth);
            }
        }
        Ok(())
    }

    /// Cosines and sines of the angles of each position, for each of the turns.
    fn turns(&self, engine: &mut Engine, runs: &[Run]) {
        engine.angles.resize_with(self.turns.len(), Vec::new);
        for (Turns { frequencies, size }, to) in self.turns.iter().zip(&mut engine.angles) {
            to.clear();
            for position in runs.iter().flat_map(|run| run.start..run.start + run.count) {
                // In double precision, so that every system's library rounds to the same float.
                let angles = frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
                to.extend(angles.clone().map(|angle| angle.cos() as f32 * size));
                to.extend(angles.map(|angle| angle.sin() as f32 * size));
            }
        }
    }

    /// Makes a sheet ready for some matrices: rounded, or normed floats, or both.
    fn prepare(
        &self,
        pool: &mut Pool,
        sheet: &Sheet,
        before: Before<'_>,
        normed: &mut Sheet,
        rounded: &mut Activations,
        matrices: &[Matrix],
    ) {
        if matrices.iter().any(|matrix| matrix.form.is_rounded()) {
            rounded.reset(sheet.columns(), sheet.tokens(), self.processor.tile());
            let mut tiles: Vec<_> = rounded.tiles_mut().collect();
            pool.pieces(&mut tiles, 1, |_, tiles| {
                for tile in tiles {
                    self.processor.compute(Round { sheet, before, tile });
                }
            });
        }
        if matches!(before, Before::Norm { .. }) && matrices.iter().any(|matrix| !matrix.form.is_rounded()) {
            self.processor.compute(Keep { sheet, before, to: normed });
        }
    }

    /// How many times sixteen rows make a piece.
    fn groups_each(&self, pool: &Pool, groups: usize, bytes: usize) -> usize {
        let pieces = (bytes / PIECE_BYTES).clamp(pool.threads(), pool.threads() * PIECES);
        if pool.threads() == 1 { groups } else { groups.div_ceil(pieces) }
    }

    /// Multiplies matrices that stand one below the other.
    fn multiply(&self, pool: &mut Pool, matrices: &[Matrix], input: Input<'_>, out: &mut Sheet) {
        let tokens = out.tokens();
        let groups = matrices.iter().map(Matrix::groups).sum();
        let bytes = matrices.iter().map(|matrix| matrix.groups() * matrix.group_bytes()).sum();
        let each = self.groups_each(pool, groups, bytes);
        pool.pieces(out.all_mut(), each * tokens, |piece, out| {
            for (at, out) in out.chunks_exact_mut(tokens).enumerate() {
                let mut group = piece * each + at;
                for matrix in matrices {
                    if group < matrix.groups() {
                        self.product(matrix, group, input, out);
                        break;
                    }
                    group -= matrix.groups();
                }
            }
        });
    }

    fn product(&self, matrix: &Matrix, group: usize, input: Input<'_>, out: &mut [[f32; ROWS]]) {
        let (form, group) = (matrix.form, self.weights.group(matrix, group));
        self.processor.compute(Product { form, group, input, out });
    }
}

fn norm(weights: &[[f32; ROWS]], epsilon: f32) -> Before<'_> {
    Before::Norm { weights, epsilon }
}
