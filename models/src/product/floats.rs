//! Products of weights that are floats, with activations as they are.

use super::{Input, activations::Sheet, ask::Ask};
use crate::lanes::{Lanes, ROWS};

/// A form's way to be read: sixteen rows of a column side by side.
pub(super) trait Floats {
    /// Bytes of a column.
    const BYTES: usize;

    fn column<L: Lanes>(lanes: L, from: &[u8], part: usize) -> L::Float;
}

pub(super) struct Half;

impl Floats for Half {
    const BYTES: usize = 2 * ROWS;

    #[inline(always)]
    fn column<L: Lanes>(lanes: L, from: &[u8], part: usize) -> L::Float {
        lanes.halves(&from.as_chunks().0[0], part)
    }
}

pub(super) struct Full;

impl Floats for Full {
    const BYTES: usize = 4 * ROWS;

    #[inline(always)]
    fn column<L: Lanes>(lanes: L, from: &[u8], part: usize) -> L::Float {
        let mut numbers = [0.0; ROWS];
        for (number, bytes) in numbers.iter_mut().zip(from.as_chunks::<4>().0) {
            *number = f32::from_le_bytes(*bytes);
        }
        lanes.load(&numbers, part)
    }
}

/// The product of sixteen rows with all tokens.
#[inline(always)]
pub(super) fn product<L: Lanes, F: Floats>(lanes: L, group: &[u8], input: Input<'_>, out: &mut [[f32; ROWS]]) {
    let ask = input.rounded.ask;
    match (out.len(), L::WIDTH) {
        // All parts of a column at once, as with quants.
        (1, 8) => {
            tile::<L, F, 1, 2>(lanes, 0, group, input.sheet, 0, out, ask);
        }
        (1, 4) => {
            tile::<L, F, 1, 4>(lanes, 0, group, input.sheet, 0, out, ask);
        }
        _ => parts::<L, F>(lanes, group, input, out),
    }
}

#[inline(always)]
fn parts<L: Lanes, F: Floats>(lanes: L, group: &[u8], input: Input<'_>, out: &mut [[f32; ROWS]]) {
    let Input { sheet, rounded } = input;
    for part in 0..ROWS / L::WIDTH {
        let mut first = 0;
        while first < out.len() {
            let rest = &mut out[first..];
            let ask = if (part, first) == (0, 0) { rounded.ask } else { Ask::Nothing };
            first += match rest.len() {
                8.. => tile::<L, F, 8, 1>(lanes, part, group, sheet, first, rest, ask),
                4.. => tile::<L, F, 4, 1>(lanes, part, group, sheet, first, rest, ask),
                _ => tile::<L, F, 1, 1>(lanes, part, group, sheet, first, rest, ask),
            };
        }
    }
}

/// Tokens from the `first` on, with `PARTS` parts of the sixteen rows.
#[inline(always)]
fn tile<L: Lanes, F: Floats, const SIZE: usize, const PARTS: usize>(
    lanes: L,
    part: usize,
    group: &[u8],
    input: &Sheet,
    first: usize,
    out: &mut [[f32; ROWS]],
    ask: Ask,
) -> usize {
    let mut sums = [[lanes.splat(0.0); SIZE]; PARTS];
    for (at, columns) in group.chunks(ROWS * F::BYTES).enumerate().take(input.columns() / ROWS) {
        let Some(tokens) = input.group(at)[first..].first_chunk::<SIZE>() else { break };
        ask.after(lanes, columns);
        for (lane, column) in columns.chunks_exact(F::BYTES).enumerate().take(ROWS) {
            for (part, sums) in (part..).zip(&mut sums) {
                let column = F::column(lanes, column, part);
                for (sum, token) in sums.iter_mut().zip(tokens) {
                    *sum = lanes.fused(column, lanes.splat(token[lane]), *sum);
                }
            }
        }
    }
    for (part, sums) in (part..).zip(sums) {
        for (out, sum) in out.iter_mut().zip(sums) {
            lanes.store(sum, out, part);
        }
    }
    SIZE
}
