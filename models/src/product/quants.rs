//! Products of rounded weights with rounded activations: whole numbers within a block, floats across blocks. A sum of a
//! block is exact, so only the order of the blocks matters, and it is the same for all lanes and for any number of tokens.

use super::{
    activations::{Activations, Block},
    ask::Ask,
};
use crate::lanes::{Lanes, ROWS};

/// A form's way to be multiplied.
pub(super) trait Quants {
    /// The sums of `PARTS` parts of sixteen rows, from the `first` on, with a tile of tokens. Of memory little is asked for at a time, as
    /// much as is computed with: who asks for a whole unit at once waits until the processor can keep that many in mind.
    fn tile<L: Lanes, const SIZE: usize, const PARTS: usize>(
        lanes: L,
        first: usize,
        group: &[u8],
        tile: &[[Block; SIZE]],
        ask: Ask,
    ) -> [[L::Float; SIZE]; PARTS];
}

/// The product of sixteen rows with all tokens.
#[inline(always)]
pub(super) fn product<L: Lanes, Q: Quants>(lanes: L, group: &[u8], input: &Activations, out: &mut [[f32; ROWS]]) {
    // For few tokens all parts of a block at once, so that memory is read in one stream; part after part, it would rest while what the
    // first part brought is read again.
    match (input.tiles(), L::WIDTH) {
        ([(0, 1)], 8) => return one::<L, Q, 1, 2>(lanes, 0, group, input.tile(0), out, input.ask),
        ([(0, 2)], 8) => return one::<L, Q, 2, 2>(lanes, 0, group, input.tile(0), out, input.ask),
        ([(0, 4)], 8) => return one::<L, Q, 4, 2>(lanes, 0, group, input.tile(0), out, input.ask),
        ([(0, 1)], 4) => return one::<L, Q, 1, 4>(lanes, 0, group, input.tile(0), out, input.ask),
        ([(0, 2)], 4) => return one::<L, Q, 2, 4>(lanes, 0, group, input.tile(0), out, input.ask),
        ([(0, 4)], 4) => return one::<L, Q, 4, 4>(lanes, 0, group, input.tile(0), out, input.ask),
        _ => {}
    }
    for part in 0..ROWS / L::WIDTH {
        for &(first, size) in input.tiles() {
            let out = &mut out[first..][..size];
            // The first tile brings what the others then find in the caches.
            let ask = if (part, first) == (0, 0) { input.ask } else { Ask::Nothing };
            match size {
                16 => one::<L, Q, 16, 1>(lanes, part, group, input.tile(first), out, ask),
                8 => one::<L, Q, 8, 1>(lanes, part, group, input.tile(first), out, ask),
                4 => one::<L, Q, 4, 1>(lanes, part, group, input.tile(first), out, ask),
                2 => one::<L, Q, 2, 1>(lanes, part, group, input.tile(first), out, ask),
                _ => one::<L, Q, 1, 1>(lanes, part, group, input.tile(first), out, ask),
            }
        }
    }
}

#[inline(always)]
fn one<L: Lanes, Q: Quants, const SIZE: usize, const PARTS: usize>(
    lanes: L,
    first: usize,
    group: &[u8],
    tile: &[[Block; SIZE]],
    out: &mut [[f32; ROWS]],
    ask: Ask,
) {
    let sums = Q::tile::<L, SIZE, PARTS>(lanes, first, group, tile, ask);
    for (at, sums) in sums.into_iter().enumerate() {
        for (out, sum) in out.iter_mut().zip(sums) {
            lanes.store(sum, out, first + at);
        }
    }
}

/// The scales of a unit, and what they scale.
#[inline(always)]
fn apart<const SCALES: usize>(unit: &[u8]) -> (&[u8; SCALES], &[u8]) {
    unit.split_first_chunk().expect("a unit begins with its scales")
}

/// Nibbles of 32 columns: four runs of 64 bytes.
#[inline(always)]
fn nibbles<L: Lanes>(lanes: L, runs: &[[u8; 64]], part: usize) -> [L::Bytes; 8] {
    // No closures here and below: one that is not inlined has no part in what the processor has, and costs a call.
    let mut weights = [lanes.bytes(&runs[0], part); 8];
    for at in 0..4 {
        let bytes = lanes.bytes(&runs[at], part);
        weights[at] = lanes.low_nibbles(bytes);
        weights[at + 4] = lanes.high_nibbles(bytes);
    }
    weights
}

/// Five bits of 32 columns: nibbles and a run of fifth bits.
#[inline(always)]
fn fives<L: Lanes>(lanes: L, runs: &[[u8; 64]], part: usize) -> [L::Bytes; 8] {
    let [a, b, c, d, e, f, g, h] = nibbles(lanes, runs, part);
    let bits = lanes.bytes(&runs[4], part);
    [
        lanes.with_fifth::<0>(a, bits),
        lanes.with_fifth::<1>(b, bits),
        lanes.with_fifth::<2>(c, bits),
        lanes.with_fifth::<3>(d, bits),
        lanes.with_fifth::<4>(e, bits),
        lanes.with_fifth::<5>(f, bits),
        lanes.with_fifth::<6>(g, bits),
        lanes.with_fifth::<7>(h, bits),
    ]
}

/// Six bits of 32 columns, in two halves: nibbles and two runs of the bits above.
#[inline(always)]
fn sixes<L: Lanes>(lanes: L, runs: &[[u8; 64]], part: usize) -> [[L::Bytes; 4]; 2] {
    let [a, b, c, d, e, f, g, h] = nibbles(lanes, runs, part);
    let first = lanes.bytes(&runs[4], part);
    let second = lanes.bytes(&runs[5], part);
    [
        [
            lanes.with_sixth::<0>(a, first),
            lanes.with_sixth::<1>(b, first),
            lanes.with_sixth::<2>(c, first),
            lanes.with_sixth::<3>(d, first),
        ],
        [
            lanes.with_sixth::<0>(e, second),
            lanes.with_sixth::<1>(f, second),
            lanes.with_sixth::<2>(g, second),
            lanes.with_sixth::<3>(h, second),
        ],
    ]
}

/// The weights of `LEN` words of a block.
struct Part<L: Lanes, const LEN: usize> {
    bytes: [L::Bytes; LEN],
    /// What each byte is more than what it stands for.
    offset: i32,
    scale: L::Float,
    /// What is taken off each weight, where the block has that.
    minimum: Option<L::Float>,
}

impl<L: Lanes, const LEN: usize> Part<L, LEN> {
    /// Adds the products with the words from `FROM` on to the sums of a tile of tokens. With 8 `BITS` bytes are such as `wide` gives.
    #[inline(always)]
    fn add<const FROM: usize, const BITS: u32, const SIZE: usize>(
        &self,
        lanes: L,
        sums: &mut [L::Float; SIZE],
        tokens: &[Block; SIZE],
    ) {
        if L::IN_TWOS && SIZE.is_multiple_of(2) {
            for (sums, tokens) in sums.as_chunks_mut::<2>().0.iter_mut().zip(tokens.as_chunks::<2>().0) {
                let [first, second] = tokens;
                let start = lanes.two([self.start::<FROM>(first), self.start::<FROM>(second)]);
                let words = [words::<FROM, LEN>(first), words::<FROM, LEN>(second)];
                let [one, other] = lanes.apart(lanes.dot_two::<LEN, BITS>(start, &self.bytes, words));
                self.end(lanes, &mut sums[0], one, first);
                self.end(lanes, &mut sums[1], other, second);
            }
        } else {
            for (sum, block) in sums.iter_mut().zip(tokens) {
                let (start, words) = (lanes.whole(self.start::<FROM>(block)), words::<FROM, LEN>(block));
                let dot = match BITS {
                    8 => lanes.dot_wide(start, &self.bytes, words),
                    _ => lanes.dot::<LEN, BITS>(start, &self.bytes, words),
                };
                self.end(lanes, sum, dot, block);
            }
        }
    }

    #[inline(always)]
    fn start<const FROM: usize>(&self, block: &Block) -> i32 {
        let sum = if LEN == block.words.len() { block.sums[0] + block.sums[1] } else { block.sums[FROM / LEN] };
        -self.offset * sum
    }

    /// Adds what a block gives to a token's sum.
    #[inline(always)]
    fn end(&self, lanes: L, sum: &mut L::Float, dot: L::Whole, block: &Block) {
        *sum = lanes.fused(lanes.to_float(dot), lanes.multiply(self.scale, lanes.splat(block.scale)), *sum);
        if let Some(minimum) = self.minimum {
            *sum = lanes.fused(minimum, lanes.splat(block.shift), *sum);
        }
    }
}

/// Some words of a block's eight.
#[inline(always)]
fn words<const FROM: usize, const LEN: usize>(block: &Block) -> &[i32; LEN] {
    &block.words.as_chunks().0[FROM / LEN]
}

pub(super) struct Four;

impl Quants for Four {
    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize, const PARTS: usize>(
        lanes: L,
        first: usize,
        group: &[u8],
        tile: &[[Block; SIZE]],
        ask: Ask,
    ) -> [[L::Float; SIZE]; PARTS] {
        let mut sums = [[lanes.splat(0.0); SIZE]; PARTS];
        for (unit, tokens) in group.as_chunks::<288>().0.iter().zip(tile) {
            let (scale, body) = apart(unit);
            ask.after(lanes, unit);
            for (part, sums) in (first..).zip(&mut sums) {
                let scale = lanes.halves(scale, part);
                let bytes = nibbles(lanes, body.as_chunks().0, part);
                Part { bytes, offset: 8, scale, minimum: None }.add::<0, 4, SIZE>(lanes, sums, tokens);
            }
        }
        sums
    }
}

pub(super) struct Five;

impl Quants for Five {
    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize, const PARTS: usize>(
        lanes: L,
        first: usize,
        group: &[u8],
        tile: &[[Block; SIZE]],
        ask: Ask,
    ) -> [[L::Float; SIZE]; PARTS] {
        let mut sums = [[lanes.splat(0.0); SIZE]; PARTS];
        for (unit, tokens) in group.as_chunks::<352>().0.iter().zip(tile) {
            let (scale, body) = apart(unit);
            ask.after(lanes, unit);
            for (part, sums) in (first..).zip(&mut sums) {
                let scale = lanes.halves(scale, part);
                let bytes = fives(lanes, body.as_chunks().0, part);
                Part { bytes, offset: 16, scale, minimum: None }.add::<0, 5, SIZE>(lanes, sums, tokens);
            }
        }
        sums
    }
}

pub(super) struct Eight;

impl Quants for Eight {
    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize, const PARTS: usize>(
        lanes: L,
        first: usize,
        group: &[u8],
        tile: &[[Block; SIZE]],
        ask: Ask,
    ) -> [[L::Float; SIZE]; PARTS] {
        let mut sums = [[lanes.splat(0.0); SIZE]; PARTS];
        for (unit, tokens) in group.as_chunks::<544>().0.iter().zip(tile) {
            let (scale, body) = apart(unit);
            ask.after(lanes, unit);
            for (part, sums) in (first..).zip(&mut sums) {
                let scale = lanes.halves(scale, part);
                let runs = body.as_chunks::<64>().0;
                let mut bytes = [lanes.bytes(&runs[0], part); 8];
                for at in 0..8 {
                    bytes[at] = lanes.wide(lanes.bytes(&runs[at], part));
                }
                Part { bytes, offset: L::BIAS, scale, minimum: None }.add::<0, 8, SIZE>(lanes, sums, tokens);
            }
        }
        sums
    }
}

/// The scales and minima of eight blocks in FourK and FiveK, of four blocks each: of the weights, and of the minimum.
#[inline(always)]
fn scales_with_minima<L: Lanes>(lanes: L, scales: &[u8; 256], part: usize) -> [[[L::Float; 2]; 4]; 2] {
    let (halves, runs) = (scales.as_chunks::<32>().0, scales.as_chunks::<64>().0);
    let halves = [lanes.halves(&halves[0], part), lanes.halves(&halves[1], part)];
    let [first, second, above] =
        [lanes.bytes(&runs[1], part), lanes.bytes(&runs[2], part), lanes.bytes(&runs[3], part)];
    [
        four_scales(
            lanes,
            halves,
            lanes.with_sixth::<0>(lanes.low_nibbles(first), above),
            lanes.with_sixth::<2>(lanes.high_nibbles(first), above),
        ),
        four_scales(
            lanes,
            halves,
            lanes.with_sixth::<1>(lanes.low_nibbles(second), above),
            lanes.with_sixth::<3>(lanes.high_nibbles(second), above),
        ),
    ]
}

#[inline(always)]
fn four_scales<L: Lanes>(
    lanes: L,
    [scale, minimum]: [L::Float; 2],
    scales: L::Bytes,
    minima: L::Bytes,
) -> [[L::Float; 2]; 4] {
    [
        [lanes.multiply(scale, lanes.nth::<0>(scales)), lanes.multiply(minimum, lanes.nth::<0>(minima))],
        [lanes.multiply(scale, lanes.nth::<1>(scales)), lanes.multiply(minimum, lanes.nth::<1>(minima))],
        [lanes.multiply(scale, lanes.nth::<2>(scales)), lanes.multiply(minimum, lanes.nth::<2>(minima))],
        [lanes.multiply(scale, lanes.nth::<3>(scales)), lanes.multiply(minimum, lanes.nth::<3>(minima))],
    ]
}

pub(super) struct FourK;

impl Quants for FourK {
    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize, const PARTS: usize>(
        lanes: L,
        first: usize,
        group: &[u8],
        tile: &[[Block; SIZE]],
        ask: Ask,
    ) -> [[L::Float; SIZE]; PARTS] {
        let mut sums = [[lanes.splat(0.0); SIZE]; PARTS];
        for (unit, tile) in group.as_chunks::<2304>().0.iter().zip(tile.as_chunks::<8>().0) {
            let (head, body) = apart(unit);
            ask.after(lanes, head);
            let mut scales = [[[[lanes.splat(0.0); 2]; 4]; 2]; PARTS];
            for (part, scales) in (first..).zip(&mut scales) {
                *scales = scales_with_minima(lanes, head, part);
            }
            for (at, (body, tokens)) in body.as_chunks::<256>().0.iter().zip(tile).enumerate() {
                ask.after(lanes, body);
                for (part, (sums, scales)) in (first..).zip(sums.iter_mut().zip(&scales)) {
                    let [scale, minimum] = scales.as_flattened()[at];
                    let (bytes, minimum) = (nibbles(lanes, body.as_chunks().0, part), Some(minimum));
                    Part { bytes, offset: 0, scale, minimum }.add::<0, 4, SIZE>(lanes, sums, tokens);
                }
            }
        }
        sums
    }
}

pub(super) struct FiveK;

impl Quants for FiveK {
    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize, const PARTS: usize>(
        lanes: L,
        first: usize,
        group: &[u8],
        tile: &[[Block; SIZE]],
        ask: Ask,
    ) -> [[L::Float; SIZE]; PARTS] {
        let mut sums = [[lanes.splat(0.0); SIZE]; PARTS];
        for (unit, tile) in group.as_chunks::<2816>().0.iter().zip(tile.as_chunks::<8>().0) {
            let (head, body) = apart(unit);
            ask.after(lanes, head);
            let mut scales = [[[[lanes.splat(0.0); 2]; 4]; 2]; PARTS];
            for (part, scales) in (first..).zip(&mut scales) {
                *scales = scales_with_minima(lanes, head, part);
            }
            for (at, (body, tokens)) in body.as_chunks::<320>().0.iter().zip(tile).enumerate() {
                ask.after(lanes, body);
                for (part, (sums, scales)) in (first..).zip(sums.iter_mut().zip(&scales)) {
                    let [scale, minimum] = scales.as_flattened()[at];
                    let (bytes, minimum) = (fives(lanes, body.as_chunks().0, part), Some(minimum));
                    Part { bytes, offset: 0, scale, minimum }.add::<0, 5, SIZE>(lanes, sums, tokens);
                }
            }
        }
        sums
    }
}

pub(super) struct SixK;

impl Quants for SixK {
    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize, const PARTS: usize>(
        lanes: L,
        first: usize,
        group: &[u8],
        tile: &[[Block; SIZE]],
        ask: Ask,
    ) -> [[L::Float; SIZE]; PARTS] {
        let mut sums = [[lanes.splat(0.0); SIZE]; PARTS];
        for (unit, tile) in group.as_chunks::<3360>().0.iter().zip(tile.as_chunks::<8>().0) {
            let (head, body) = apart::<288>(unit);
            ask.after(lanes, head);
            let small = head.as_chunks::<ROWS>().0;
            for (at, (body, tokens)) in body.as_chunks::<384>().0.iter().zip(tile).enumerate() {
                ask.after(lanes, body);
                for (part, sums) in (first..).zip(&mut sums) {
                    let scale = lanes.halves(&head.as_chunks::<32>().0[0], part);
                    let [first, last] = sixes(lanes, body.as_chunks().0, part);
                    let one = lanes.multiply(scale, lanes.signed(&small[2 + 2 * at], part));
                    let other = lanes.multiply(scale, lanes.signed(&small[3 + 2 * at], part));
                    let first = Part { bytes: first, offset: 32, scale: one, minimum: None };
                    first.add::<0, 6, SIZE>(lanes, sums, tokens);
                    let last = Part { bytes: last, offset: 32, scale: other, minimum: None };
                    last.add::<4, 6, SIZE>(lanes, sums, tokens);
                }
            }
        }
        sums
    }
}
