//! Products of rounded weights with rounded activations: whole numbers within a block, floats across blocks. A sum of a
//! block is exact, so only the order of the blocks matters, and it is the same for all lanes and for any number of tokens.

use super::{
    activations::{Activations, Block},
    form::Form,
};
use crate::lanes::{Lanes, ROWS};

/// A form's way to be multiplied.
pub(super) trait Quants {
    const FORM: Form;

    /// The sums of a part of sixteen rows with a tile of tokens.
    fn tile<L: Lanes, const SIZE: usize>(
        lanes: L,
        part: usize,
        body: &[u8],
        scales: &[u8],
        tile: &[[Block; SIZE]],
    ) -> [L::Float; SIZE];
}

#[inline(always)]
pub(super) fn product<L: Lanes, Q: Quants>(
    lanes: L,
    part: usize,
    group: &[u8],
    input: &Activations,
    out: &mut [[f32; ROWS]],
) {
    let (body, scales) = Q::FORM.split(group);
    for &(first, size) in input.tiles() {
        let out = &mut out[first..][..size];
        match size {
            16 => one::<L, Q, 16>(lanes, part, body, scales, input.tile(first), out),
            8 => one::<L, Q, 8>(lanes, part, body, scales, input.tile(first), out),
            4 => one::<L, Q, 4>(lanes, part, body, scales, input.tile(first), out),
            2 => one::<L, Q, 2>(lanes, part, body, scales, input.tile(first), out),
            _ => one::<L, Q, 1>(lanes, part, body, scales, input.tile(first), out),
        }
    }
}

#[inline(always)]
fn one<L: Lanes, Q: Quants, const SIZE: usize>(
    lanes: L,
    part: usize,
    body: &[u8],
    scales: &[u8],
    tile: &[[Block; SIZE]],
    out: &mut [[f32; ROWS]],
) {
    let sums = Q::tile::<L, SIZE>(lanes, part, body, scales, tile);
    for (out, sum) in out.iter_mut().zip(sums) {
        lanes.store(sum, out, part);
    }
}

/// How far ahead the memory is asked for when one token is multiplied, which takes less time than bringing the weights. What a processor
/// brings by itself, and what its first cache waits for, is too little: on a Zen 4 core this makes 20 GB/s of 11.
const AHEAD: usize = 24 << 10;

/// Asks for what comes after a part of the weights when one token alone is multiplied with it.
#[inline(always)]
fn ask<L: Lanes, const SIZE: usize>(lanes: L, part: &[u8]) {
    if SIZE == 1 {
        for line in part.chunks(64) {
            lanes.ask(line, AHEAD);
        }
    }
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

/// Adds what a block gives to a token's sum.
#[inline(always)]
fn add<L: Lanes>(lanes: L, sum: &mut L::Float, dot: L::Whole, weight_scale: L::Float, scale: f32) {
    *sum = lanes.fused(lanes.to_float(dot), lanes.multiply(weight_scale, lanes.splat(scale)), *sum);
}

pub(super) struct Four;

impl Quants for Four {
    const FORM: Form = Form::Four;

    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize>(
        lanes: L,
        part: usize,
        body: &[u8],
        scales: &[u8],
        tile: &[[Block; SIZE]],
    ) -> [L::Float; SIZE] {
        let mut sums = [lanes.splat(0.0); SIZE];
        let blocks = body.as_chunks::<256>().0.iter().zip(scales.as_chunks::<32>().0).zip(tile);
        for ((body, scale), tokens) in blocks {
            ask::<L, SIZE>(lanes, scale);
            let scale = lanes.halves(scale, part);
            ask::<L, SIZE>(lanes, body);
            let weights = nibbles(lanes, body.as_chunks().0, part);
            for (sum, block) in sums.iter_mut().zip(tokens) {
                let start = lanes.whole(-8 * (block.sums[0] + block.sums[1]));
                let dot = lanes.dot::<8, 4>(start, &weights, &block.words);
                add(lanes, sum, dot, scale, block.scale);
            }
        }
        sums
    }
}

pub(super) struct Five;

impl Quants for Five {
    const FORM: Form = Form::Five;

    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize>(
        lanes: L,
        part: usize,
        body: &[u8],
        scales: &[u8],
        tile: &[[Block; SIZE]],
    ) -> [L::Float; SIZE] {
        let mut sums = [lanes.splat(0.0); SIZE];
        let blocks = body.as_chunks::<320>().0.iter().zip(scales.as_chunks::<32>().0).zip(tile);
        for ((body, scale), tokens) in blocks {
            ask::<L, SIZE>(lanes, scale);
            let scale = lanes.halves(scale, part);
            ask::<L, SIZE>(lanes, body);
            let weights = fives(lanes, body.as_chunks().0, part);
            for (sum, block) in sums.iter_mut().zip(tokens) {
                let start = lanes.whole(-16 * (block.sums[0] + block.sums[1]));
                let dot = lanes.dot::<8, 5>(start, &weights, &block.words);
                add(lanes, sum, dot, scale, block.scale);
            }
        }
        sums
    }
}

pub(super) struct Eight;

impl Quants for Eight {
    const FORM: Form = Form::Eight;

    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize>(
        lanes: L,
        part: usize,
        body: &[u8],
        scales: &[u8],
        tile: &[[Block; SIZE]],
    ) -> [L::Float; SIZE] {
        let mut sums = [lanes.splat(0.0); SIZE];
        let blocks = body.as_chunks::<512>().0.iter().zip(scales.as_chunks::<32>().0).zip(tile);
        for ((body, scale), tokens) in blocks {
            ask::<L, SIZE>(lanes, scale);
            let scale = lanes.halves(scale, part);
            let runs = body.as_chunks::<64>().0;
            ask::<L, SIZE>(lanes, body);
            let mut weights = [lanes.bytes(&runs[0], part); 8];
            for at in 0..8 {
                weights[at] = lanes.wide(lanes.bytes(&runs[at], part));
            }
            for (sum, block) in sums.iter_mut().zip(tokens) {
                let start = lanes.whole(-L::BIAS * (block.sums[0] + block.sums[1]));
                let dot = lanes.dot_wide(start, &weights, &block.words);
                add(lanes, sum, dot, scale, block.scale);
            }
        }
        sums
    }
}

/// The scales of FourK and FiveK: of the weights, then of the minimum, then six bits of both for each block.
#[inline(always)]
fn scales_with_minimum<L: Lanes>(lanes: L, scales: &[u8; 320], part: usize, at: usize) -> [L::Float; 2] {
    let halves = scales.as_chunks::<32>().0;
    let small = scales.as_chunks::<ROWS>().0;
    [
        lanes.multiply(lanes.halves(&halves[0], part), lanes.unsigned(&small[4 + at], part)),
        lanes.multiply(lanes.halves(&halves[1], part), lanes.unsigned(&small[12 + at], part)),
    ]
}

pub(super) struct FourK;

impl Quants for FourK {
    const FORM: Form = Form::FourK;

    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize>(
        lanes: L,
        part: usize,
        body: &[u8],
        scales: &[u8],
        tile: &[[Block; SIZE]],
    ) -> [L::Float; SIZE] {
        let mut sums = [lanes.splat(0.0); SIZE];
        let eights = body.as_chunks::<2048>().0.iter().zip(scales.as_chunks::<320>().0).zip(tile.as_chunks::<8>().0);
        for ((body, scales), tile) in eights {
            ask::<L, SIZE>(lanes, scales);
            for (at, (body, tokens)) in body.as_chunks::<256>().0.iter().zip(tile).enumerate() {
                let [scale, minimum] = scales_with_minimum(lanes, scales, part, at);
                ask::<L, SIZE>(lanes, body);
                let weights = nibbles(lanes, body.as_chunks().0, part);
                for (sum, block) in sums.iter_mut().zip(tokens) {
                    let dot = lanes.dot::<8, 4>(lanes.whole(0), &weights, &block.words);
                    add(lanes, sum, dot, scale, block.scale);
                    *sum = lanes.fused(minimum, lanes.splat(block.shift), *sum);
                }
            }
        }
        sums
    }
}

pub(super) struct FiveK;

impl Quants for FiveK {
    const FORM: Form = Form::FiveK;

    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize>(
        lanes: L,
        part: usize,
        body: &[u8],
        scales: &[u8],
        tile: &[[Block; SIZE]],
    ) -> [L::Float; SIZE] {
        let mut sums = [lanes.splat(0.0); SIZE];
        let eights = body.as_chunks::<2560>().0.iter().zip(scales.as_chunks::<320>().0).zip(tile.as_chunks::<8>().0);
        for ((body, scales), tile) in eights {
            ask::<L, SIZE>(lanes, scales);
            for (at, (body, tokens)) in body.as_chunks::<320>().0.iter().zip(tile).enumerate() {
                let [scale, minimum] = scales_with_minimum(lanes, scales, part, at);
                ask::<L, SIZE>(lanes, body);
                let weights = fives(lanes, body.as_chunks().0, part);
                for (sum, block) in sums.iter_mut().zip(tokens) {
                    let dot = lanes.dot::<8, 5>(lanes.whole(0), &weights, &block.words);
                    add(lanes, sum, dot, scale, block.scale);
                    *sum = lanes.fused(minimum, lanes.splat(block.shift), *sum);
                }
            }
        }
        sums
    }
}

pub(super) struct SixK;

impl Quants for SixK {
    const FORM: Form = Form::SixK;

    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize>(
        lanes: L,
        part: usize,
        body: &[u8],
        scales: &[u8],
        tile: &[[Block; SIZE]],
    ) -> [L::Float; SIZE] {
        let mut sums = [lanes.splat(0.0); SIZE];
        let eights = body.as_chunks::<3072>().0.iter().zip(scales.as_chunks::<288>().0).zip(tile.as_chunks::<8>().0);
        for ((body, scales), tile) in eights {
            ask::<L, SIZE>(lanes, scales);
            let scale = lanes.halves(&scales.as_chunks::<32>().0[0], part);
            let small = scales.as_chunks::<ROWS>().0;
            for (at, (body, tokens)) in body.as_chunks::<384>().0.iter().zip(tile).enumerate() {
                ask::<L, SIZE>(lanes, body);
                let halves = sixes(lanes, body.as_chunks().0, part);
                let scales = [
                    lanes.multiply(scale, lanes.signed(&small[2 + 2 * at], part)),
                    lanes.multiply(scale, lanes.signed(&small[3 + 2 * at], part)),
                ];
                for (sum, block) in sums.iter_mut().zip(tokens) {
                    let words = block.words.as_chunks::<4>().0;
                    for half in 0..2 {
                        let start = lanes.whole(-32 * block.sums[half]);
                        let dot = lanes.dot::<4, 6>(start, &halves[half], &words[half]);
                        add(lanes, sum, dot, scales[half], block.scale);
                    }
                }
            }
        }
        sums
    }
}
