//! Comparing every vector that may be found. Exact: each score is known from bytes with a bound on its error, and what the
//! bounds cannot decide is left to the true vectors.

use super::{
    Flat,
    beam::{Beam, Near},
    layout::error_of,
};
use crate::{
    embed::similarity,
    index::{codes::Code, exact::Best},
    lanes::{Compute, Lanes},
};

/// How many vectors ahead memory is asked for.
const AHEAD: usize = 8;

/// A vector that may be among the best: its score is at most this.
#[derive(Clone, Copy)]
pub(in crate::index) struct Within {
    pub(in crate::index) slot: u32,
    pub(in crate::index) most: f32,
}

/// A scan of some slots for one vector: what may be among the best is left in `within`, and perhaps more.
pub(super) struct Scan<'s> {
    pub(super) flat: &'s Flat,
    pub(super) slots: &'s [u32],
    /// The vector in bytes, and what that leaves of it, in bytes too: together they are all but exact.
    pub(super) parts: [&'s Code; 2],
    /// The vector's length.
    pub(super) length: f32,
    /// What was found elsewhere: what is surely worse than its last is left out.
    pub(super) best: &'s Best,
    /// The best of what the scores are at least.
    pub(super) sure: &'s mut Beam,
    pub(super) within: &'s mut Vec<Within>,
}

/// Turns a vector into bytes, and what they leave of it into bytes again; returns its length.
pub(super) fn split(vector: &[f32], [code, rest]: [&mut Code; 2], left: &mut Vec<f32>) -> f32 {
    code.take(vector);
    left.clear();
    let wholes = code.blocks.as_flattened().iter().map(|byte| f32::from(*byte) - 128.0);
    left.extend(vector.iter().zip(wholes).map(|(value, whole)| value - code.scale * whole));
    rest.take(left);
    similarity(vector, vector).sqrt()
}

impl Compute for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) {
        let Self { flat, slots, parts: [code, rest], length, best, sure, within } = self;
        let (net, errors) = (flat.net(), flat.errors());
        let elsewhere = best.least();
        // No stored vector is longer than if each value were its greatest.
        let longest = 127.0 * (flat.dimensions() as f32).sqrt();
        sure.begin(best.room());
        within.clear();
        for (at, slot) in slots.iter().enumerate() {
            if let Some(ahead) = slots.get(at + AHEAD) {
                net.fetch(*ahead);
            }
            let (blocks, scale) = (net.code(*slot), net.scale(*slot));
            let (own, from_rounding) = (length * error_of(errors, *slot), longest * scale);
            let first = code.near(lanes, blocks, scale);
            // Most are out of the question already without what rounding left of the vector.
            if first + 1.001 * (own + from_rounding * code.error) < sure.least().max(elsewhere) {
                continue;
            }
            let score = first + rest.near(lanes, blocks, scale);
            let bound = 1.001 * (own + from_rounding * rest.error);
            if score + bound >= sure.least().max(elsewhere) {
                sure.offer(Near { score: score - bound, slot: *slot });
                within.push(Within { slot: *slot, most: score + bound });
            }
        }
        let least = sure.least().max(elsewhere);
        within.retain(|within| within.most >= least);
    }
}
