//! What a head sees: the values of the positions before, weighted by how well their keys fit its query. Sixteen positions, or sixteen
//! columns, side by side, and a tile of queries at once, of several tokens or of several heads that look at the same keys, so that a key is read and
//! unpacked once for all of them.

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

/// The queries for the tokens of a run, of heads that look at the same keys and values.
pub(super) struct Attend<'a> {
    pub(super) head: &'a Head,
    /// How many look at it.
    pub(super) sharing: usize,
    pub(super) turn: Turn<'a>,
    /// What the fit of key and query is multiplied with.
    pub(super) scale: f32,
    /// How many positions, its own among them, a token sees.
    pub(super) window: usize,
    pub(super) run: Run,
    /// The columns of all tokens, `[head][column / 16][token]`; the mixed values take their place.
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

/// Queries that are computed at once.
#[derive(Clone, Copy)]
enum Tile {
    /// Of this head, for tokens from this one of the run on.
    Tokens(usize, usize),
    /// Of heads from this one on, for this token of the run.
    Heads(usize, usize),
}

impl Tile {
    /// The head of a query, and its token in the run.
    const fn place(self, query: usize) -> (usize, usize) {
        match self {
            Self::Tokens(head, token) => (head, token + query),
            Self::Heads(head, token) => (head + query, token),
        }
    }
}

impl Attend<'_> {
    #[inline(always)]
    fn attend<L: Lanes, K: Kept>(&mut self, lanes: L, pieces: &Pieces<K>) {
        let mut token = 0;
        while token < self.run.count {
            let tokens = match self.run.count - token {
                8.. => 8,
                4..8 => 4,
                _ => 1,
            };
            let mut head = 0;
            while head < self.sharing {
                let (tile, size, heads) = match (tokens, self.sharing - head) {
                    (1, heads @ 1..4) => (Tile::Heads(head, token), heads, heads),
                    (1, 4..8) => (Tile::Heads(head, token), 4, 4),
                    (1, _) => (Tile::Heads(head, token), 8, 8),
                    _ => (Tile::Tokens(head, token), tokens, 1),
                };
                match size {
                    8 => self.tile::<L, K, 8>(lanes, pieces, tile),
                    4 => self.tile::<L, K, 4>(lanes, pieces, tile),
                    3 => self.tile::<L, K, 3>(lanes, pieces, tile),
                    2 => self.tile::<L, K, 2>(lanes, pieces, tile),
                    _ => self.tile::<L, K, 1>(lanes, pieces, tile),
                }
                head += heads;
            }
            token += tokens;
        }
    }

    #[inline(always)]
    fn tile<L: Lanes, K: Kept, const SIZE: usize>(&mut self, lanes: L, pieces: &Pieces<K>, tile: Tile) {
        let groups = self.columns.len() / self.sharing / self.tokens;
        // Where the columns of each query stand, and which positions it sees.
        let places: [usize; SIZE] = std::array::from_fn(|query| {
            let (head, token) = tile.place(query);
            head * groups * self.tokens + self.run.first + token
        });
        let seen: [std::ops::Range<usize>; SIZE] = std::array::from_fn(|query| {
            let end = self.run.start + tile.place(query).1 + 1;
            end.saturating_sub(self.window)..end
        });
        let mut query = vec![[0.0; ROWS]; groups];
        // `[column][query]`
        let mut queries = vec![[0.0; SIZE]; groups * ROWS];
        for (at, place) in places.into_iter().enumerate() {
            for (to, from) in query.iter_mut().zip(self.columns[place..].iter().step_by(self.tokens)) {
                *to = *from;
            }
            self.turn.apply(self.run.first + tile.place(at).1, &mut query);
            for (to, from) in queries.iter_mut().zip(query.as_flattened()) {
                to[at] = *from;
            }
        }
        let end = seen[SIZE - 1].end;
        let blocks = seen[0].start / ROWS..end.div_ceil(ROWS);
        // `[query][block]`
        let mut fits = vec![[0.0; ROWS]; SIZE * blocks.len()];
        fits_of::<L, K, SIZE>(lanes, pieces, &queries, blocks.clone(), &mut fits);
        let mut shares = [0.0; SIZE];
        // `[position][query]`
        let mut weights = vec![[0.0; SIZE]; end - blocks.start * ROWS];
        for (at, (fits, seen)) in fits.chunks_exact_mut(blocks.len()).zip(seen).enumerate() {
            shares[at] = weigh(fits, self.scale, blocks.start * ROWS, seen).recip();
            for (to, from) in weights.iter_mut().zip(fits.as_flattened()) {
                to[at] = *from;
            }
        }
        if K::SCALED {
            for (block, weights) in blocks.clone().zip(weights.chunks_mut(ROWS)) {
                for (weights, scale) in weights.iter_mut().zip(pieces.values(block, groups * ROWS).1) {
                    *weights = weights.map(|weight| weight * scale);
                }
            }
        }
        let mut group = 0;
        while group < groups {
            group += match at_once(SIZE) {
                4 if group + 4 <= groups => {
                    self.mix::<L, K, SIZE, 4>(lanes, pieces, &weights, blocks.start, &shares, &places, group)
                }
                2 if group + 2 <= groups => {
                    self.mix::<L, K, SIZE, 2>(lanes, pieces, &weights, blocks.start, &shares, &places, group)
                }
                _ => self.mix::<L, K, SIZE, 1>(lanes, pieces, &weights, blocks.start, &shares, &places, group),
            };
        }
    }

    /// The weighted values of some groups of columns, in place of the queries; gives how many groups. Positions after those that have a
    /// weight count for nothing: what a session held before it was cut may not be a number.
    #[inline(always)]
    fn mix<L: Lanes, K: Kept, const SIZE: usize, const GROUPS: usize>(
        &mut self,
        lanes: L,
        pieces: &Pieces<K>,
        weights: &[[f32; SIZE]],
        block: usize,
        shares: &[f32; SIZE],
        places: &[usize; SIZE],
        group: usize,
    ) -> usize {
        let groups = self.columns.len() / self.sharing / self.tokens;
        for part in 0..ROWS / L::WIDTH {
            let mut sums = [[lanes.splat(0.0); SIZE]; GROUPS];
            for (at, weights) in weights.chunks(ROWS).enumerate() {
                let (values, _) = pieces.values(block + at, groups * ROWS);
                for (values, weights) in values.chunks_exact(groups).zip(weights) {
                    let Some(values) = values[group..].first_chunk::<GROUPS>() else { break };
                    for at in 0..GROUPS {
                        let values = K::load(lanes, &values[at], part);
                        for query in 0..SIZE {
                            sums[at][query] = lanes.fused(values, lanes.splat(weights[query]), sums[at][query]);
                        }
                    }
                }
            }
            for (at, sums) in sums.into_iter().enumerate() {
                for ((place, sum), share) in places.iter().zip(sums).zip(shares) {
                    let to = &mut self.columns[place + (group + at) * self.tokens];
                    lanes.store(lanes.multiply(sum, lanes.splat(*share)), to, part);
                }
            }
        }
        GROUPS
    }
}

/// Of how many sixteens the sums are computed at once for so many queries: as many as there are registers for, since one that is added to
/// waits for itself.
const fn at_once(queries: usize) -> usize {
    match queries {
        ..4 => 4,
        4..8 => 2,
        _ => 1,
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
    let mut block = blocks.start;
    while block < blocks.end {
        block += match at_once(SIZE) {
            4 if block + 4 <= blocks.end => some_fits::<L, K, SIZE, 4>(lanes, pieces, queries, block, &blocks, fits),
            2 if block + 2 <= blocks.end => some_fits::<L, K, SIZE, 2>(lanes, pieces, queries, block, &blocks, fits),
            _ => some_fits::<L, K, SIZE, 1>(lanes, pieces, queries, block, &blocks, fits),
        };
    }
}

/// The fits of some blocks, from one on; gives how many blocks.
#[inline(always)]
fn some_fits<L: Lanes, K: Kept, const SIZE: usize, const BLOCKS: usize>(
    lanes: L,
    pieces: &Pieces<K>,
    queries: &[[f32; SIZE]],
    block: usize,
    blocks: &std::ops::Range<usize>,
    fits: &mut [[f32; ROWS]],
) -> usize {
    let keys: [_; BLOCKS] = std::array::from_fn(|at| pieces.keys(block + at, queries.len()));
    for part in 0..ROWS / L::WIDTH {
        let mut sums = [[lanes.splat(0.0); SIZE]; BLOCKS];
        for (column, queries) in queries.iter().enumerate() {
            for (sums, (keys, _)) in sums.iter_mut().zip(&keys) {
                let keys = K::load(lanes, &keys[column], part);
                for query in 0..SIZE {
                    sums[query] = lanes.fused(keys, lanes.splat(queries[query]), sums[query]);
                }
            }
        }
        for (at, (sums, (_, scales))) in sums.into_iter().zip(keys).enumerate() {
            for (query, sum) in sums.into_iter().enumerate() {
                let to = &mut fits[query * blocks.len() + block - blocks.start + at];
                lanes.store(lanes.multiply(sum, lanes.load(scales, part)), to, part);
            }
        }
    }
    BLOCKS
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
