//! The layers: what mixes tokens, attention or a short convolution, then the feed-forward that each token goes through alone.

use super::{
    Cache, Decoder, Engine,
    attention::{Attend, Remember, Run, Turn},
    cache::Head,
    convolution::{Convolve, States},
    family::{Sizes, View},
    norm,
    session::Past,
    steps::{Before, Gate, Keep, add},
};
use crate::{
    lanes::ROWS,
    pool::Pool,
    product::{Input, Matrix, Sheet},
};

/// Sixteen columns of tokens that go through a gate at once: what waits for it stays in a core's first cache.
const GATED: usize = 256;

pub(super) struct Layer {
    pub(super) norm: Vec<[f32; ROWS]>,
    pub(super) mixing: Mixing,
    /// What takes in the tokens to be mixed, one below the other.
    pub(super) input: Vec<Matrix>,
    /// What the mixed columns go through.
    pub(super) output: Matrix,
    pub(super) after_mixing: Option<Vec<[f32; ROWS]>>,
    pub(super) feed_norm: Vec<[f32; ROWS]>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
    pub(super) after_feed: Option<Vec<[f32; ROWS]>>,
}

/// How a layer mixes tokens.
pub(super) enum Mixing {
    /// Of queries, keys and values, in this order.
    Attention(Attention),
    /// Of what gates before, what gates after, and what is mixed; `[column / 16][token]`, that of the token itself last.
    Convolution(Vec<[f32; ROWS]>),
}

pub(super) struct Attention {
    pub(super) view: View,
    pub(super) bias: Option<Vec<[f32; ROWS]>>,
    pub(super) query_norm: Option<Vec<[f32; ROWS]>>,
    pub(super) key_norm: Option<Vec<[f32; ROWS]>>,
}

impl Layer {
    /// What it knows before the first token.
    pub(super) fn past(&self, sizes: &Sizes, cache: Cache) -> Past {
        match &self.mixing {
            Mixing::Attention(_) => Past::Heads((0..sizes.groups).map(|_| Head::new(cache)).collect()),
            Mixing::Convolution(_) => Past::States(States::new(sizes.hidden, sizes.tail)),
        }
    }
}

impl Decoder {
    /// `pasts` are those of the layer, of each run.
    pub(super) fn mix(&self, engine: &mut Engine, layer: &Layer, pasts: Vec<&mut Past>, runs: &[Run]) {
        let Sizes { hidden, epsilon, .. } = self.sizes;
        let tokens = engine.hidden.tokens();
        let Engine { pool, hidden: state, normed, rounded, attention: columns, delta, angles, .. } = engine;
        self.prepare(pool, state, norm(&layer.norm, epsilon), normed, rounded, &layer.input);
        columns.reset(layer.input.iter().map(|matrix| matrix.rows).sum(), tokens);
        self.multiply(pool, &layer.input, Input { sheet: normed, rounded }, columns);
        match &layer.mixing {
            Mixing::Attention(attention) => {
                let mut heads: Vec<&mut [Head]> = pasts.into_iter().filter_map(Past::heads).collect();
                self.attend(pool, columns, attention, angles, &mut heads, runs);
            }
            Mixing::Convolution(taps) => {
                for (past, run) in pasts.into_iter().zip(runs) {
                    if let Past::States(states) = past {
                        let columns = columns.all_mut();
                        self.processor.compute(Convolve { taps, states, run: *run, columns, tokens });
                    }
                }
            }
        }
        // The mixed columns stand first, before what is no longer needed.
        columns.truncate(layer.output.columns);
        let matrix = std::slice::from_ref(&layer.output);
        self.prepare(pool, columns, Before::Nothing, normed, rounded, matrix);
        delta.reset(hidden, tokens);
        self.multiply(pool, matrix, Input { sheet: columns, rounded }, delta);
        self.join(state, delta, layer.after_mixing.as_deref());
    }

    /// Puts mixed values in the place of queries. `heads` are those of the layer, of each run.
    fn attend(
        &self,
        pool: &mut Pool,
        sheet: &mut Sheet,
        layer: &Attention,
        angles: &[Vec<f32>],
        heads: &mut [&mut [Head]],
        runs: &[Run],
    ) {
        let Sizes { heads: queries, groups, head, epsilon, .. } = self.sizes;
        let tokens = sheet.tokens();
        if let Some(bias) = &layer.bias {
            for (columns, bias) in sheet.all_mut().chunks_exact_mut(tokens).zip(bias) {
                columns.iter_mut().for_each(|column| add(std::slice::from_mut(column), std::slice::from_ref(bias)));
            }
        }
        let piece = head / ROWS * tokens;
        let (query, rest) = sheet.all_mut().split_at_mut(queries * piece);
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
        let sharing = sharing(each, queries, pool.threads(), runs);
        pool.pieces(query, sharing * piece, |at, columns| {
            let turn = Turn { norm: layer.query_norm.as_deref().map(|weights| (weights, epsilon)), angles, turning };
            for (heads, run) in heads.iter().zip(runs) {
                let (head, columns, run) = (&heads[at * sharing / each], &mut *columns, *run);
                self.processor.compute(Attend { head, sharing, turn, scale, window, run, columns, tokens });
            }
        });
    }

    pub(super) fn feed(&self, engine: &mut Engine, layer: &Layer) {
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
            let some = (GATED / tokens).clamp(1, each);
            let mut up = vec![[0.0; ROWS]; out.len().min(some * tokens)];
            for (at, gate) in out.chunks_mut(some * tokens).enumerate() {
                let (first, up) = (piece * each + at * some, &mut up[..gate.len()]);
                // First one matrix, then the other: so each is read from front to back.
                for (matrix, out) in [(&layer.gate, &mut *gate), (&layer.up, &mut *up)] {
                    for (at, out) in out.chunks_exact_mut(tokens).enumerate() {
                        self.product(matrix, first + at, input, out);
                    }
                }
                self.processor.compute(Gate { bend: self.bend, gate, up });
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
}

/// How many of the `each` heads that look at the same keys and values are computed together, of so many `heads`. A key that is read for
/// one head costs little more for another, but what is computed together keeps one thread busy. Tokens of one run share a key already.
fn sharing(each: usize, heads: usize, threads: usize, runs: &[Run]) -> usize {
    if runs.iter().any(|run| run.count >= 4) {
        return 1;
    }
    let cost = |sharing: &usize| (heads / sharing).div_ceil(threads) * (sharing + 1);
    (1..=each).filter(|sharing| each.is_multiple_of(*sharing)).min_by_key(cost).unwrap_or(1)
}
