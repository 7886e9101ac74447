//! Lanes of a processor without anything: arrays and loops.

use half::f16;

use super::{Lanes, ROWS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain;

type Bytes = [u8; 64];

#[inline(always)]
fn each(a: Bytes, b: Bytes, f: impl Fn(u8, u8) -> u8) -> Bytes {
    std::array::from_fn(|at| f(a[at], b[at]))
}

/// Adds the products of four weights with four activations in each row.
#[inline(always)]
fn add(sums: &mut [i32; ROWS], weights: &Bytes, activations: i32, weight: impl Fn(u8) -> i32) {
    let activations = activations.to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
    for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
        for (byte, activation) in weights.iter().zip(activations) {
            *sum += weight(*byte) * activation;
        }
    }
}

impl Lanes for Plain {
    const WIDTH: usize = ROWS;
    const BIAS: i32 = 0;
    type Float = [f32; ROWS];
    type Whole = [i32; ROWS];
    type Bytes = Bytes;

    #[inline(always)]
    fn bytes(self, from: &[u8; 64], _part: usize) -> Bytes {
        *from
    }

    #[inline(always)]
    fn ask<T: ?Sized>(self, _place: &T, _after: usize) {}

    #[inline(always)]
    fn low_nibbles(self, bytes: Bytes) -> Bytes {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Bytes) -> Bytes {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn with_fifth<const STEP: usize>(self, values: Bytes, bits: Bytes) -> Bytes {
        each(values, bits, |value, bits| value | ((bits >> STEP) & 1) << 4)
    }

    #[inline(always)]
    fn with_sixth<const STEP: usize>(self, values: Bytes, bits: Bytes) -> Bytes {
        each(values, bits, |value, bits| value | ((bits >> (2 * STEP)) & 3) << 4)
    }

    #[inline(always)]
    fn nth<const AT: usize>(self, bytes: Bytes) -> [f32; ROWS] {
        std::array::from_fn(|row| f32::from(bytes[4 * row + AT]))
    }

    #[inline(always)]
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        mut start: [i32; ROWS],
        weights: &[Bytes; LEN],
        activations: &[i32; LEN],
    ) -> [i32; ROWS] {
        for (weights, activations) in weights.iter().zip(activations) {
            add(&mut start, weights, *activations, i32::from);
        }
        start
    }

    #[inline(always)]
    fn wide(self, bytes: Bytes) -> Bytes {
        bytes
    }

    #[inline(always)]
    fn dot_wide<const LEN: usize>(
        self,
        mut start: [i32; ROWS],
        weights: &[Bytes; LEN],
        activations: &[i32; LEN],
    ) -> [i32; ROWS] {
        for (weights, activations) in weights.iter().zip(activations) {
            add(&mut start, weights, *activations, |byte| i32::from(byte.cast_signed()));
        }
        start
    }

    #[inline(always)]
    fn whole(self, number: i32) -> [i32; ROWS] {
        [number; ROWS]
    }

    #[inline(always)]
    fn to_float(self, whole: [i32; ROWS]) -> [f32; ROWS] {
        whole.map(|number| number as f32)
    }

    #[inline(always)]
    fn splat(self, number: f32) -> [f32; ROWS] {
        [number; ROWS]
    }

    #[inline(always)]
    fn load(self, from: &[f32; ROWS], _part: usize) -> [f32; ROWS] {
        *from
    }

    #[inline(always)]
    fn store(self, float: [f32; ROWS], to: &mut [f32; ROWS], _part: usize) {
        *to = float;
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32], _part: usize) -> [f32; ROWS] {
        std::array::from_fn(|at| f16::from_le_bytes([from[2 * at], from[2 * at + 1]]).to_f32())
    }

    #[inline(always)]
    fn kept(self, from: &[u16; ROWS], _part: usize) -> [f32; ROWS] {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn keep(self, float: [f32; ROWS], to: &mut [u16; ROWS], _part: usize) {
        *to = float.map(|number| f16::from_f32(number).to_bits());
    }

    #[inline(always)]
    fn signed(self, from: &[u8; ROWS], _part: usize) -> [f32; ROWS] {
        from.map(|byte| f32::from(byte.cast_signed()))
    }

    #[inline(always)]
    fn multiply(self, a: [f32; ROWS], b: [f32; ROWS]) -> [f32; ROWS] {
        std::array::from_fn(|at| a[at] * b[at])
    }

    #[inline(always)]
    fn add(self, a: [f32; ROWS], b: [f32; ROWS]) -> [f32; ROWS] {
        std::array::from_fn(|at| a[at] + b[at])
    }

    #[inline(always)]
    fn larger(self, a: [f32; ROWS], b: [f32; ROWS]) -> [f32; ROWS] {
        std::array::from_fn(|at| if b[at] > a[at] { b[at] } else { a[at] })
    }

    #[inline(always)]
    fn fused(self, a: [f32; ROWS], b: [f32; ROWS], c: [f32; ROWS]) -> [f32; ROWS] {
        std::array::from_fn(|at| a[at].mul_add(b[at], c[at]))
    }

    #[inline(always)]
    fn near(self, stored: &[[u8; 64]], asked: &[[u8; 64]], _offset: i32) -> i32 {
        let mut sums = [0i32; ROWS];
        for (stored, asked) in stored.iter().zip(asked) {
            for (stored, asked) in stored.as_chunks::<ROWS>().0.iter().zip(asked.as_chunks::<ROWS>().0) {
                for lane in 0..ROWS {
                    // In 16 bits, which is what processors multiply and add side by side.
                    let (stored, asked) = (i16::from(stored[lane]) - 128, i16::from(asked[lane]) - 128);
                    sums[lane] += i32::from(stored) * i32::from(asked);
                }
            }
        }
        sums.iter().sum()
    }
}
