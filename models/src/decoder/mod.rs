//! The decoder that the families of chat models share: grouped-query attention with turning positions, gated feed-forward, norms by
//! the root mean square. Weights stay quantised; of the embedding table only the rows of the prompt are unpacked.
//!
//! The weights are never changed, so one `Decoder` serves many answers, each with its own [`Session`]; they take turns, token by
//! token, because each uses all threads.

mod attention;
mod batch;
mod cache;
mod family;
mod load;
mod output;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Mutex;

use attention::{Attend, Remember, Run, Turn};
use batch::Queue;
pub(crate) use batch::Writer;
pub use cache::Cache;
use cache::{Head, PIECE};
use family::{Sizes, Turns, View};
pub(crate) use load::{Layout, lay_out};
use steps::{Before, Bend, Gate, Keep, Round, add};

use crate::{
    Error,
    gguf::Rows,
    lanes::{Processor, ROWS},
    pool::Pool,
    product::{Activations, Input, Matrix, Product, Sheet, Weights},
};

/// Tokens of a prompt computed at once: what they need beside the weights stays in a core's second cache.
pub(crate) const CHUNK_LEN: usize = 256;
/// Pieces of a product for each thread, at most: when another program takes a core for a while, the other threads take over its pieces.
const PIECES: usize = 8;
/// What a piece has of the weights, at least: at its start and end the memory is not asked for ahead of time.
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

struct Layer {
    view: View,
    attention_norm: Vec<[f32; ROWS]>,
    /// Queries, keys and values, in this order.
    attention: Vec<Matrix>,
    bias: Option<Vec<[f32; ROWS]>>,
    query_norm: Option<Vec<[f32; ROWS]>>,
    key_norm: Option<Vec<[f32; ROWS]>>,
    output: Matrix,
    after_attention: Option<Vec<[f32; ROWS]>>,
    feed_norm: Vec<[f32; ROWS]>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
    after_feed: Option<Vec<[f32; ROWS]>>,
}

/// The keys and values of the tokens so far.
#[derive(Default)]
pub(crate) struct Session {
    /// Of each layer, of each of its heads.
    layers: Vec<Vec<Head>>,
    len: usize,
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
        }
    }
}

impl Session {
    /// How many tokens it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the tokens after the first so many; their memory is used for what comes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// A session of its own that holds the first so many tokens.
    pub(crate) fn copy(&self, len: usize) -> Self {
        let len = self.len.min(len);
        let copy = |heads: &Vec<Head>| heads.iter().map(|head| head.copy(len.div_ceil(PIECE))).collect();
        Self { layers: self.layers.iter().map(copy).collect(), len }
    }

    /// Gives back the memory of forgotten tokens.
    pub(crate) fn shrink(&mut self) {
        let pieces = self.len.div_ceil(PIECE);
        self.layers.iter_mut().flatten().for_each(|head| head.truncate(pieces));
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(Head::bytes).sum()
    }

    /// Tokens whose memory is taken at once when the first of them comes.
    pub(crate) const STEP: usize = PIECE;
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

    #[cfg(test)]
    pub(crate) fn set_context(&mut self, tokens: usize) {
        self.sizes.context = tokens;
    }

    /// What computes it.
    pub(crate) fn processor(&self) -> Processor {
        self.processor
    }

    pub(crate) fn session(&self) -> Session {
        let heads = || (0..self.sizes.groups).map(|_| Head::new(self.cache)).collect();
        Session { layers: self.layers.iter().map(|_| heads()).collect(), len: 0 }
    }

    /// Bytes that the keys and values of a token take.
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
        if session.len + tokens.len() > self.sizes.context || tokens.is_empty() {
            let (held, new, most) = (session.len, tokens.len(), self.sizes.context);
            return Err(Error::request(format!(
                "{held} and {new} tokens: expected at least 1 new and at most {most} together"
            )));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= self.output.rows) {
            return Err(Error::request(format!("token {token}: expected one below {}", self.output.rows)));
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
            runs.push(Run { first, count: tokens.len(), start: session.len });
        }
        let tokens: Vec<u32> = asked.iter().flat_map(|asked| &asked.tokens).copied().collect();
        self.embed(engine, &tokens)?;
        self.turns(engine, &runs);
        for (at, layer) in self.layers.iter().enumerate() {
            let mut heads: Vec<&mut [Head]> =
                asked.iter_mut().map(|asked| asked.session.layers[at].as_mut_slice()).collect();
            self.attend(engine, layer, &mut heads, &runs);
            self.feed(engine, layer);
        }
        for batch::Asked { session, tokens, .. } in asked.iter_mut() {
            session.len += tokens.len();
        }
        let groups = self.wanted_groups(asked.iter().map(|asked| asked.wanted.as_deref()));
        Ok(self.logits(engine, &runs, groups.as_deref()))
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

    /// `heads` are those of the layer, of each run.
    fn attend(&self, engine: &mut Engine, layer: &Layer, heads: &mut [&mut [Head]], runs: &[Run]) {
        let Sizes { hidden, heads: queries, groups, head, epsilon, .. } = self.sizes;
        let tokens = engine.hidden.tokens();
        let Engine { pool, hidden: state, normed, rounded, attention, delta, angles, .. } = engine;
        self.prepare(pool, state, norm(&layer.attention_norm, epsilon), normed, rounded, &layer.attention);
        attention.reset((queries + 2 * groups) * head, tokens);
        let input = Input { sheet: normed, rounded };
        self.multiply(pool, &layer.attention, input, attention);
        if let Some(bias) = &layer.bias {
            for (columns, bias) in attention.all_mut().chunks_exact_mut(tokens).zip(bias) {
                columns.iter_mut().for_each(|column| add(std::slice::from_mut(column), std::slice::from_ref(bias)));
            }
        }

        let piece = head / ROWS * tokens;
        let (query, rest) = attention.all_mut().split_at_mut(queries * piece);
        let (key, value) = rest.split_at(groups * piece);
        let View { window, turn } = layer.view;
        let (angles, turning) = (angles[turn].as_slice(), 2 * self.turns[turn].frequencies.len());
        let mut all: Vec<(usize, Run, &mut Head)> = Vec::with_capacity(heads.len() * groups);
        for (heads, run) in heads.iter_mut().zip(runs) {
            all.extend(heads.iter_mut().enumerate().map(|(at, head)| (at, *run, head)));
        }
        pool.pieces(&mut all, 1, |_, heads| {
            let turn = Turn { norm: layer.key_norm.as_deref().map(|weights| (weights, epsilon)), angles, turning };
            for (at, run, head) in heads {
                let (keys, values) = (&key[*at * piece..][..piece], &value[*at * piece..][..piece]);
                self.processor.compute(Remember { head, turn, run: *run, tokens, keys, values });
            }
        });
        let each = queries / groups;
        let scale = (head as f32).sqrt().recip();
        pool.pieces(query, piece, |at, columns| {
            let turn = Turn { norm: layer.query_norm.as_deref().map(|weights| (weights, epsilon)), angles, turning };
            for (heads, run) in heads.iter().zip(runs) {
                let (head, columns, run) = (&heads[at / each], &mut *columns, *run);
                self.processor.compute(Attend { head, turn, scale, window, run, columns, tokens });
            }
        });

        // The mixed values stand where the queries stood, before what is no longer needed.
        attention.truncate(queries * head);
        let matrix = std::slice::from_ref(&layer.output);
        self.prepare(pool, attention, Before::Nothing, normed, rounded, matrix);
        delta.reset(hidden, tokens);
        self.multiply(pool, matrix, Input { sheet: attention, rounded }, delta);
        self.join(state, delta, layer.after_attention.as_deref());
    }

    fn feed(&self, engine: &mut Engine, layer: &Layer) {
        let Sizes { hidden, inner: width, epsilon, .. } = self.sizes;
        let tokens = engine.hidden.tokens();
        let Engine { pool, hidden: state, normed, rounded, inner, delta, .. } = engine;
        let matrices = [layer.gate.clone(), layer.up.clone()];
        self.prepare(pool, state, norm(&layer.feed_norm, epsilon), normed, rounded, &matrices);
        inner.reset(width, tokens);
        let input = Input { sheet: normed, rounded };
        let bytes = matrices.iter().map(|matrix| matrix.groups() * matrix.group_bytes()).sum();
        let each = self.groups_each(pool, width / ROWS, bytes);
        pool.pieces(inner.all_mut(), each * tokens, |piece, out| {
            let mut up = vec![[0.0; ROWS]; tokens];
            for (at, gate) in out.chunks_exact_mut(tokens).enumerate() {
                let group = piece * each + at;
                self.product(&layer.gate, group, input, gate);
                self.product(&layer.up, group, input, &mut up);
                self.processor.compute(Gate { bend: self.bend, gate, up: &up });
            }
        });
        let matrix = std::slice::from_ref(&layer.down);
        self.prepare(pool, inner, Before::Nothing, normed, rounded, matrix);
        delta.reset(hidden, tokens);
        self.multiply(pool, matrix, Input { sheet: inner, rounded }, delta);
        self.join(state, delta, layer.after_feed.as_deref());
    }

    /// Adds what a part of a layer gave to what goes on.
    fn join(&self, state: &mut Sheet, delta: &mut Sheet, after: Option<&[[f32; ROWS]]>) {
        if let Some(weights) = after {
            let mut normed = Sheet::default();
            self.processor.compute(Keep { sheet: delta, before: norm(weights, self.sizes.epsilon), to: &mut normed });
            std::mem::swap(delta, &mut normed);
        }
        add(state.all_mut(), delta.all());
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
