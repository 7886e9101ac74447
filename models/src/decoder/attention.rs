//! What a head sees: the values of the positions before, weighted by how well their keys fit its query. Sixteen positions, or sixteen
//! columns, side by side, and a tile of queries at once, so that a key is unpacked once for several.

use super::{
    cache::{Head, Kept, Pieces},
    steps::{norm_factor, scaled},
};
use crate::lanes::{Compute, Lanes, ROWS, exp, largest};

/// What a head's query and key go through before they meet.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    /// Weights of the head's norm, and its epsilon.
    pub(super) norm: Option<(&'a [[f32; ROWS]], f32)>,
    /// For each token the cosines, then the sines, of its position's angles.
    pub(super) angles: &'a [f32],
    /// How many columns turn, from the first: each of the first half with one of the second.
    pub(super) turning: usize,
}

impl Turn<'_> {
    /// Norms and turns a token's columns of one head.
    #[inline(always)]
    fn apply(&self, token: usize, columns: &mut [[f32; ROWS]]) {
        if let Some((weights, epsilon)) = self.norm {
            let factor = norm_factor(columns.iter(), columns.len() * ROWS, epsilon);
            for (numbers, weights) in columns.iter_mut().zip(weights) {
                *numbers = scaled(numbers, factor, weights);
            }
        }
        let half = self.turning / 2;
        let (cosines, sines) = self.angles[token * self.turning..][..self.turning].split_at(half);
        let (first, second) = columns.as_flattened_mut()[..self.turning].split_at_mut(half);
        for at in 0..half {
            let (a, b) = (first[at], second[at]);
            first[at] = a * cosines[at] - b * sines[at];
            second[at] = a * sines[at] + b * cosines[at];
        }
    }
}

/// Some of the tokens that are computed together: those of one session, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// The first of them, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    /// The position of the first.
    pub(super) start: usize,
}

/// Writes the keys and values of new tokens.
pub(super) struct Remember<'a> {
    pub(super) head: &'a mut Head,
    pub(super) turn: Turn<'a>,
    pub(super) run: Run,
    /// Of all runs.
    pub(super) tokens: usize,
    /// The head's columns of all tokens, `[column / 16][token]`.
    pub(super) keys: &'a [[f32; ROWS]],
    pub(super) values: &'a [[f32; ROWS]],
}

impl Compute for Remember<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(mut self, lanes: L) {
        // The head is out of the way while the rest is borrowed.
        match std::mem::replace(self.head, Head::new(super::cache::Cache::Half)) {
            Head::Half(mut pieces) => {
                self.write(lanes, &mut pieces);
                *self.head = Head::Half(pieces);
            }
            Head::Eight(mut pieces) => {
                self.write(lanes, &mut pieces);
                *self.head = Head::Eight(pieces);
            }
        }
    }
}

impl Remember<'_> {
    #[inline(always)]
    fn write<L: Lanes, K: Kept>(&mut self, lanes: L, pieces: &mut Pieces<K>) {
        let groups = self.keys.len() / self.tokens;
        let (mut key, mut value) = (vec![[0.0; ROWS]; groups], vec![[0.0; ROWS]; groups]);
        for at in 0..self.run.count {
            let token = self.run.first + at;
            for (to, from) in key.iter_mut().zip(self.keys[token..].iter().step_by(self.tokens)) {
                *to = *from;
            }
            for (to, from) in value.iter_mut().zip(self.values[token..].iter().step_by(self.tokens)) {
                *to = *from;
            }
            self.turn.apply(token, &mut key);
            pieces.write(lanes, self.run.start + at, &key, &value);
        }
    }
}

/// The queries of one head for the tokens of a run.
pub(super) struct Attend<'a> {
    pub(super) head: &'a Head,
    pub(super) turn: Turn<'a>,
    /// What the fit of key and query is multiplied with.
    pub(super) scale: f32,
    /// How many positions, its own among them, a token sees.
    pub(super) window: usize,
    pub(super) run: Run,
    /// The head's columns of all tokens, `[column / 16][token]`; the mixed values take their place.
    pub(super) columns: &'a mut [[f32; ROWS]],
    /// Of all runs.
    pub(super) tokens: usize,
}

impl Compute for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(mut self, lanes: L) {
        match self.head {
            Head::Half(pieces) => self.attend(lanes, pieces),
            Head::Eight(pieces) => self.attend(lanes, pieces),
        }
    }
}

impl Attend<'_> {
    #[inline(always)]
    fn attend<L: Lanes, K: Kept>(&mut self, lanes: L, pieces: &Pieces<K>) {
        let mut at = 0;
        while at < self.run.count {
            at += match self.run.count - at {
                8.. => self.tile::<L, K, 8>(lanes, pieces, at),
                4.. => self.tile::<L, K, 4>(lanes, pieces, at),
                _ => self.tile::<L, K, 1>(lanes, pieces, at),
            };
        }
    }

    /// The tokens of the run from this one on, as many as are computed at once.
    #[inline(always)]
    fn tile<L: Lanes, K: Kept, const SIZE: usize>(&mut self, lanes: L, pieces: &Pieces<K>, within: usize) -> usize {
        let first = self.run.first + within;
        let groups = self.columns.len() / self.tokens;
        let mut query = vec![[0.0; ROWS]; groups];
        // `[column][query]`
        let mut queries = vec![[0.0; SIZE]; groups * ROWS];
        for at in 0..SIZE {
            for (to, from) in query.iter_mut().zip(self.columns[first + at..].iter().step_by(self.tokens)) {
                *to = *from;
            }
            self.turn.apply(first + at, &mut query);
            for (to, from) in queries.iter_mut().zip(query.as_flattened()) {
                to[at] = *from;
            }
        }
        let last = self.run.start + within + SIZE - 1;
        let begin = (self.run.start + within + 1).saturating_sub(self.window) / ROWS;
        let blocks = begin..last / ROWS + 1;
        // `[query][block]`
        let mut fits = vec![[0.0; ROWS]; SIZE * blocks.len()];
        fits_of::<L, K, SIZE>(lanes, pieces, &queries, blocks.clone(), &mut fits);
        let mut shares = [0.0; SIZE];
        // `[position][query]`
        let mut weights = vec![[0.0; SIZE]; last + 1 - begin * ROWS];
        for (at, fits) in fits.chunks_exact_mut(blocks.len()).enumerate() {
            let position = self.run.start + within + at;
            let seen = (position + 1).saturating_sub(self.window)..position + 1;
            shares[at] = weigh(fits, self.scale, blocks.start * ROWS, seen).recip();
            for (to, from) in weights.iter_mut().zip(fits.as_flattened()) {
                to[at] = *from;
            }
        }
        // One query has registers for several groups, and needs them: its sums would wait for each other.
        let mut group = 0;
        while group < groups {
            if SIZE == 1 && group + 4 <= groups {
                self.mix::<L, K, SIZE, 4>(lanes, pieces, &weights, blocks.start, &shares, first, group);
                group += 4;
            } else {
                self.mix::<L, K, SIZE, 1>(lanes, pieces, &weights, blocks.start, &shares, first, group);
                group += 1;
            }
        }
        SIZE
    }

    /// The weighted values of some groups of columns, in place of the queries. Positions after those that have a weight count for
    /// nothing: what a session held before it was cut may not be a number.
    #[inline(always)]
    fn mix<L: Lanes, K: Kept, const SIZE: usize, const GROUPS: usize>(
        &mut self,
        lanes: L,
        pieces: &Pieces<K>,
        weights: &[[f32; SIZE]],
        block: usize,
        shares: &[f32; SIZE],
        first: usize,
        group: usize,
    ) {
        let groups = self.columns.len() / self.tokens;
        for part in 0..ROWS / L::WIDTH {
            let mut sums = [[lanes.splat(0.0); SIZE]; GROUPS];
            for (at, weights) in weights.chunks(ROWS).enumerate() {
                let (values, scales) = pieces.values(block + at, groups * ROWS);
                for ((values, weights), scale) in values.chunks_exact(groups).zip(weights).zip(scales) {
                    let Some(values) = values[group..].first_chunk::<GROUPS>() else { break };
                    for at in 0..GROUPS {
                        let values = K::load(lanes, &values[at], part);
                        for query in 0..SIZE {
                            // In half precision the scale is 1, which changes no bit.
                            let weight = lanes.splat(weights[query] * scale);
                            sums[at][query] = lanes.fused(values, weight, sums[at][query]);
                        }
                    }
                }
            }
            for (at, sums) in sums.into_iter().enumerate() {
                let to = &mut self.columns[(group + at) * self.tokens + first..];
                for ((to, sum), share) in to.iter_mut().zip(sums).zip(shares) {
                    lanes.store(lanes.multiply(sum, lanes.splat(*share)), to, part);
                }
            }
        }
    }
}

/// How well each key fits each query.
#[inline(always)]
fn fits_of<L: Lanes, K: Kept, const SIZE: usize>(
    lanes: L,
    pieces: &Pieces<K>,
    queries: &[[f32; SIZE]],
    blocks: std::ops::Range<usize>,
    fits: &mut [[f32; ROWS]],
) {
    let count = blocks.len();
    for (at, block) in blocks.enumerate() {
        let (keys, scales) = pieces.keys(block, queries.len());
        for part in 0..ROWS / L::WIDTH {
            let mut sums = [lanes.splat(0.0); SIZE];
            for (keys, queries) in keys.iter().zip(queries) {
                let keys = K::load(lanes, keys, part);
                for query in 0..SIZE {
                    sums[query] = lanes.fused(keys, lanes.splat(queries[query]), sums[query]);
                }
            }
            for query in 0..SIZE {
                let sum = lanes.multiply(sums[query], lanes.load(scales, part));
                lanes.store(sum, &mut fits[query * count + at], part);
            }
        }
    }
}

/// Makes weights of fits: e to the power of how far each lies below the best, 0 for what is not seen. Gives their sum.
#[inline(always)]
fn weigh(fits: &mut [[f32; ROWS]], scale: f32, start: usize, seen: std::ops::Range<usize>) -> f32 {
    let outside = (start..seen.start).chain(seen.end..start + fits.len() * ROWS);
    for position in outside {
        fits[(position - start) / ROWS][position % ROWS] = f32::NEG_INFINITY;
    }
    let mut best = [f32::NEG_INFINITY; ROWS];
    for fits in fits.iter() {
        for lane in 0..ROWS {
            best[lane] = if fits[lane] > best[lane] { fits[lane] } else { best[lane] };
        }
    }
    let best = largest(best);
    let mut sums = [0.0; ROWS];
    for fits in fits.iter_mut() {
        for lane in 0..ROWS {
            fits[lane] = exp((fits[lane] - best) * scale);
            sums[lane] += fits[lane];
        }
    }
    sums.iter().sum()
}
