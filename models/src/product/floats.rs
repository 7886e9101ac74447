//! Products of weights that are floats, with activations as they are.

use super::activations::Sheet;
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

#[inline(always)]
pub(super) fn product<L: Lanes, F: Floats>(
    lanes: L,
    part: usize,
    group: &[u8],
    input: &Sheet,
    out: &mut [[f32; ROWS]],
) {
    let mut first = 0;
    while first < out.len() {
        let rest = &mut out[first..];
        first += match rest.len() {
            8.. => tile::<L, F, 8>(lanes, part, group, input, first, rest),
            4.. => tile::<L, F, 4>(lanes, part, group, input, first, rest),
            _ => tile::<L, F, 1>(lanes, part, group, input, first, rest),
        };
    }
}

#[inline(always)]
fn tile<L: Lanes, F: Floats, const SIZE: usize>(
    lanes: L,
    part: usize,
    group: &[u8],
    input: &Sheet,
    first: usize,
    out: &mut [[f32; ROWS]],
) -> usize {
    let mut sums = [lanes.splat(0.0); SIZE];
    for (at, columns) in group.chunks(ROWS * F::BYTES).enumerate().take(input.columns() / ROWS) {
        let Some(tokens) = input.group(at)[first..].first_chunk::<SIZE>() else { break };
        for (lane, column) in columns.chunks_exact(F::BYTES).enumerate().take(ROWS) {
            let column = F::column(lanes, column, part);
            for (sum, token) in sums.iter_mut().zip(tokens) {
                *sum = lanes.fused(column, lanes.splat(token[lane]), *sum);
            }
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        lanes.store(sum, out, part);
    }
    SIZE
}
