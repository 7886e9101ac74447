//! Lanes of 128 bits: 64-bit ARM. All of it has the same registers; how it multiplies bytes differs (`dots`).

mod dots;

use std::arch::{aarch64::*, asm};

pub(crate) use dots::{Dotprod, Dots, I8mm, Words};

use super::{Compute, Lanes, ROWS};

/// Exists only where [`Dots::detect`] found the features that every `SAFETY` below rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neon<D>(D);

const WIDTH: usize = 4;

impl<D: Dots> Neon<D> {
    pub(super) fn detect() -> Option<Self> {
        D::detect().map(Self)
    }

    #[inline]
    pub(super) fn compute<C: Compute>(self, computation: C) -> C::Output {
        // What the compiler may use by itself all 64-bit ARM has; the rest is written out where it is used.
        computation.on(self)
    }

    #[inline(always)]
    fn widen(self, halves: uint16x4_t) -> float32x4_t {
        let floats: float32x4_t;
        // SAFETY: the features were detected; the instruction reads and writes registers alone.
        unsafe {
            asm!(
                "fcvtl {floats:v}.4s, {halves:v}.4h",
                floats = out(vreg) floats,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        floats
    }
}

impl<D: Dots> Lanes for Neon<D> {
    const WIDTH: usize = WIDTH;
    const BIAS: i32 = 0;
    const IN_TWOS: bool = D::IN_TWOS;
    type Float = float32x4_t;
    type Whole = int32x4_t;
    type Bytes = uint8x16_t;

    #[inline(always)]
    fn bytes(self, from: &[u8; 64], part: usize) -> uint8x16_t {
        let from = &from[part * 16..][..16];
        // SAFETY: the features were detected; the slice has the 16 bytes that are read.
        unsafe { vld1q_u8(from.as_ptr()) }
    }

    #[inline(always)]
    fn ask<T: ?Sized>(self, place: &T, after: usize) {
        // SAFETY: a prefetch is a hint that never faults, whatever the address.
        unsafe {
            asm!("prfm pldl2keep, [{place}]", place = in(reg) std::ptr::from_ref(place).cast::<u8>().wrapping_add(after), options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: uint8x16_t) -> uint8x16_t {
        // SAFETY: the features were detected.
        unsafe { vandq_u8(bytes, vdupq_n_u8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: uint8x16_t) -> uint8x16_t {
        // SAFETY: the features were detected.
        unsafe { vshrq_n_u8::<4>(bytes) }
    }

    #[inline(always)]
    fn with_fifth<const STEP: usize>(self, values: uint8x16_t, bits: uint8x16_t) -> uint8x16_t {
        // SAFETY: the features were detected.
        unsafe {
            let bits = match STEP {
                0 => vshlq_n_u8::<4>(bits),
                1 => vshlq_n_u8::<3>(bits),
                2 => vshlq_n_u8::<2>(bits),
                3 => vshlq_n_u8::<1>(bits),
                4 => bits,
                5 => vshrq_n_u8::<1>(bits),
                6 => vshrq_n_u8::<2>(bits),
                _ => vshrq_n_u8::<3>(bits),
            };
            vorrq_u8(values, vandq_u8(bits, vdupq_n_u8(16)))
        }
    }

    #[inline(always)]
    fn with_sixth<const STEP: usize>(self, values: uint8x16_t, bits: uint8x16_t) -> uint8x16_t {
        // SAFETY: the features were detected.
        unsafe {
            let bits = match STEP {
                0 => vshlq_n_u8::<4>(bits),
                1 => vshlq_n_u8::<2>(bits),
                2 => bits,
                _ => vshrq_n_u8::<2>(bits),
            };
            vorrq_u8(values, vandq_u8(bits, vdupq_n_u8(48)))
        }
    }

    #[inline(always)]
    fn nth<const AT: usize>(self, bytes: uint8x16_t) -> float32x4_t {
        // SAFETY: the features were detected.
        unsafe {
            let words = vreinterpretq_u32_u8(bytes);
            let words = match AT {
                0 => words,
                1 => vshrq_n_u32::<8>(words),
                2 => vshrq_n_u32::<16>(words),
                _ => vshrq_n_u32::<24>(words),
            };
            vcvtq_f32_u32(vandq_u32(words, vdupq_n_u32(255)))
        }
    }

    #[inline(always)]
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        start: int32x4_t,
        weights: &[uint8x16_t; LEN],
        activations: &[i32; LEN],
    ) -> int32x4_t {
        self.0.dot::<LEN, BITS>(start, weights, activations)
    }

    #[inline(always)]
    fn wide(self, bytes: uint8x16_t) -> uint8x16_t {
        bytes
    }

    #[inline(always)]
    fn dot_wide<const LEN: usize>(
        self,
        start: int32x4_t,
        weights: &[uint8x16_t; LEN],
        activations: &[i32; LEN],
    ) -> int32x4_t {
        self.0.dot::<LEN, 8>(start, weights, activations)
    }

    #[inline(always)]
    fn two(self, starts: [i32; 2]) -> [int32x4_t; 2] {
        self.0.two(starts)
    }

    #[inline(always)]
    fn dot_two<const LEN: usize, const BITS: u32>(
        self,
        sums: [int32x4_t; 2],
        weights: &[uint8x16_t; LEN],
        activations: [&[i32; LEN]; 2],
    ) -> [int32x4_t; 2] {
        self.0.dot_two::<LEN, BITS>(sums, weights, activations)
    }

    #[inline(always)]
    fn apart(self, sums: [int32x4_t; 2]) -> [int32x4_t; 2] {
        self.0.apart(sums)
    }

    #[inline(always)]
    fn whole(self, number: i32) -> int32x4_t {
        // SAFETY: the features were detected.
        unsafe { vdupq_n_s32(number) }
    }

    #[inline(always)]
    fn to_float(self, whole: int32x4_t) -> float32x4_t {
        // SAFETY: the features were detected.
        unsafe { vcvtq_f32_s32(whole) }
    }

    #[inline(always)]
    fn splat(self, number: f32) -> float32x4_t {
        // SAFETY: the features were detected.
        unsafe { vdupq_n_f32(number) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; ROWS], part: usize) -> float32x4_t {
        let from = &from[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has the 4 numbers that are read.
        unsafe { vld1q_f32(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, float: float32x4_t, to: &mut [f32; ROWS], part: usize) {
        let to = &mut to[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has room for the 4 numbers.
        unsafe { vst1q_f32(to.as_mut_ptr(), float) }
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32], part: usize) -> float32x4_t {
        let from = &from[part * 8..][..8];
        // SAFETY: the features were detected; the slice has the 8 bytes that are read.
        self.widen(unsafe { vreinterpret_u16_u8(vld1_u8(from.as_ptr())) })
    }

    #[inline(always)]
    fn kept(self, from: &[u16; ROWS], part: usize) -> float32x4_t {
        let from = &from[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has the 4 numbers that are read.
        self.widen(unsafe { vld1_u16(from.as_ptr()) })
    }

    #[inline(always)]
    fn keep(self, float: float32x4_t, to: &mut [u16; ROWS], part: usize) {
        let to = &mut to[part * WIDTH..][..WIDTH];
        let halves: uint16x4_t;
        // SAFETY: the features were detected; the instruction reads and writes registers alone, and the slice has room for
        // the 4 numbers.
        unsafe {
            asm!(
                "fcvtn {halves:v}.4h, {float:v}.4s",
                halves = out(vreg) halves,
                float = in(vreg) float,
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1_u16(to.as_mut_ptr(), halves);
        }
    }

    #[inline(always)]
    fn signed(self, from: &[u8; ROWS], part: usize) -> float32x4_t {
        let numbers: [f32; WIDTH] = std::array::from_fn(|lane| f32::from(from[part * WIDTH + lane].cast_signed()));
        // SAFETY: the features were detected; the array has the 4 numbers that are read.
        unsafe { vld1q_f32(numbers.as_ptr()) }
    }

    #[inline(always)]
    fn multiply(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the features were detected.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the features were detected.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn larger(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the features were detected.
        unsafe { vbslq_f32(vcgtq_f32(b, a), b, a) }
    }

    #[inline(always)]
    fn fused(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the features were detected.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn near(self, stored: &[[u8; 64]], asked: &[[u8; 64]], _offset: i32) -> i32 {
        // SAFETY: the features were detected; each quarter of an array has the 16 bytes that are read.
        unsafe {
            let sign = vdupq_n_u8(128);
            let mut sums = [vdupq_n_s32(0); 4];
            for (stored, asked) in stored.iter().zip(asked) {
                for (quarter, sum) in sums.iter_mut().enumerate() {
                    let stored = veorq_u8(vld1q_u8(stored[quarter * 16..].as_ptr()), sign);
                    let asked = veorq_u8(vld1q_u8(asked[quarter * 16..].as_ptr()), sign);
                    *sum = self.0.near(*sum, vreinterpretq_s8_u8(stored), vreinterpretq_s8_u8(asked));
                }
            }
            vaddvq_s32(vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3])))
        }
    }
}
