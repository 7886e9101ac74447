//! What a head sees of a text: the values of all its tokens, weighted by how well their keys fit each query. Keys are turned so that
//! thirty-two places stand side by side; then both products are those of matrices.

use super::{
    panels::{Floats, PANEL},
    product::{Ends, Out, Then, View, multiply},
    steps::{divide, weigh},
};
use crate::lanes::{Compute, Lanes, ROWS};

/// Queries at once: what they need stays in a core's first cache.
const QUERIES: usize = 12;

/// A product as it is.
const PLAIN: Ends<'_> = Ends { bias: None, then: Then::Keep };

/// Tokens that belong to one text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) first: usize,
    pub(super) count: usize,
}

/// One head of all texts.
pub(super) struct Attend<'a> {
    pub(super) runs: &'a [Run],
    /// Of all runs.
    pub(super) tokens: usize,
    /// The head's columns of all tokens, `[column / 16][token]`; the mixed values take their place. Keys and queries are scaled to fit.
    pub(super) queries: &'a mut [[f32; ROWS]],
    pub(super) keys: &'a [[f32; ROWS]],
    pub(super) values: &'a [[f32; ROWS]],
}

/// Memory for a text.
#[derive(Default)]
struct Room {
    /// `[place / 32][column][place % 32]`
    keys: Vec<Floats>,
    /// `[column / 32][place][column % 32]`
    values: Vec<Floats>,
    /// `[place / 16][query]`
    fits: Vec<[f32; ROWS]>,
}

impl Compute for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(mut self, lanes: L) {
        let mut room = Room::default();
        for run in self.runs {
            self.turn(*run, &mut room);
            for first in (0..run.count).step_by(QUERIES) {
                let count = QUERIES.min(run.count - first);
                self.tile(lanes, *run, run.first + first, count, &mut room);
            }
        }
    }
}

impl Attend<'_> {
    /// Puts a text's keys and values where the products want them.
    #[inline(always)]
    fn turn(&self, run: Run, room: &mut Room) {
        let groups = self.keys.len() / self.tokens;
        let places = run.count.div_ceil(PANEL);
        room.keys.clear();
        room.keys.resize(places * groups * ROWS, [[0.0; ROWS]; 2]);
        for (at, panel) in room.keys.chunks_exact_mut(groups * ROWS).enumerate() {
            for half in 0..2 {
                let start = at * PANEL + half * ROWS;
                for (group, columns) in panel.chunks_exact_mut(ROWS).enumerate() {
                    let keys = &self.keys[group * self.tokens + run.first..][..run.count];
                    let keys = keys.get(start..).unwrap_or_default();
                    for (place, key) in keys.iter().enumerate().take(ROWS) {
                        for lane in 0..ROWS {
                            columns[lane][half][place] = key[lane];
                        }
                    }
                }
            }
        }
        room.values.clear();
        room.values.resize(groups / 2 * run.count, [[0.0; ROWS]; 2]);
        for (group, panel) in room.values.chunks_exact_mut(run.count).enumerate() {
            for half in 0..2 {
                let values = &self.values[(2 * group + half) * self.tokens + run.first..][..run.count];
                for (to, from) in panel.iter_mut().zip(values) {
                    to[half] = *from;
                }
            }
        }
    }

    /// The mixed values of some queries.
    #[inline(always)]
    fn tile<L: Lanes>(&mut self, lanes: L, run: Run, first: usize, count: usize, room: &mut Room) {
        let groups = self.keys.len() / self.tokens;
        let Room { keys, values, fits } = room;
        fits.resize(run.count.div_ceil(PANEL) * 2 * count, [0.0; ROWS]);
        let queries = View { numbers: self.queries, tokens: self.tokens, first };
        for (panel, fits) in keys.chunks_exact(groups * ROWS).zip(fits.chunks_exact_mut(2 * count)) {
            let (low, high) = fits.split_at_mut(count);
            multiply(lanes, panel, queries, PLAIN, &mut Out(low, high));
        }
        let sums: [f32; QUERIES] = weigh(lanes, fits, count, run.count);
        let shares = View { numbers: fits, tokens: count, first: 0 };
        let columns = self.queries.chunks_exact_mut(2 * self.tokens);
        for (panel, columns) in values.chunks_exact(run.count).zip(columns) {
            let (low, high) = columns.split_at_mut(self.tokens);
            let mut out = Out(&mut low[first..][..count], &mut high[first..][..count]);
            multiply(lanes, panel, shares, PLAIN, &mut out);
            divide(lanes, &mut out, &sums);
        }
    }
}
