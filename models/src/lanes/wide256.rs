//! Lanes of 256 bits: x86 with AVX2, FMA and F16C, in nearly everything since 2013.

use std::arch::x86_64::*;

use super::{Compute, Lanes, ROWS};

/// Exists only where [`Wide256::detect`] found the features that every `SAFETY` below rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wide256(());

const WIDTH: usize = 8;

impl Wide256 {
    pub(super) fn detect() -> Option<Self> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    #[inline]
    pub(super) fn compute<C: Compute>(self, computation: C) -> C::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn with_features<C: Compute>(lanes: Wide256, computation: C) -> C::Output {
            computation.on(lanes)
        }
        // SAFETY: `self` exists, so the features were detected.
        unsafe { with_features(self, computation) }
    }
}

impl Lanes for Wide256 {
    const WIDTH: usize = WIDTH;
    const BIAS: i32 = 0;
    type Float = __m256;
    type Whole = __m256i;
    type Bytes = __m256i;

    #[inline(always)]
    fn bytes(self, from: &[u8; 64], part: usize) -> __m256i {
        let from = &from[part * 32..][..32];
        // SAFETY: the features were detected; the slice has the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn ask<T: ?Sized>(self, place: &T, after: usize) {
        // SAFETY: a prefetch is a hint that never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(place).cast::<i8>().wrapping_add(after)) }
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: __m256i) -> __m256i {
        // SAFETY: the features were detected.
        unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: __m256i) -> __m256i {
        // SAFETY: the features were detected.
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    fn with_fifth<const STEP: usize>(self, values: __m256i, bits: __m256i) -> __m256i {
        // SAFETY: the features were detected.
        unsafe {
            let bits = match STEP {
                0 => _mm256_slli_epi16::<4>(bits),
                1 => _mm256_slli_epi16::<3>(bits),
                2 => _mm256_slli_epi16::<2>(bits),
                3 => _mm256_slli_epi16::<1>(bits),
                4 => bits,
                5 => _mm256_srli_epi16::<1>(bits),
                6 => _mm256_srli_epi16::<2>(bits),
                _ => _mm256_srli_epi16::<3>(bits),
            };
            _mm256_or_si256(values, _mm256_and_si256(bits, _mm256_set1_epi8(16)))
        }
    }

    #[inline(always)]
    fn with_sixth<const STEP: usize>(self, values: __m256i, bits: __m256i) -> __m256i {
        // SAFETY: the features were detected.
        unsafe {
            let bits = match STEP {
                0 => _mm256_slli_epi16::<4>(bits),
                1 => _mm256_slli_epi16::<2>(bits),
                2 => bits,
                _ => _mm256_srli_epi16::<2>(bits),
            };
            _mm256_or_si256(values, _mm256_and_si256(bits, _mm256_set1_epi8(48)))
        }
    }

    #[inline(always)]
    fn nth<const AT: usize>(self, bytes: __m256i) -> __m256 {
        // SAFETY: the features were detected.
        unsafe {
            let bytes = match AT {
                0 => bytes,
                1 => _mm256_srli_epi32::<8>(bytes),
                2 => _mm256_srli_epi32::<16>(bytes),
                _ => _mm256_srli_epi32::<24>(bytes),
            };
            _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(255)))
        }
    }

    #[inline(always)]
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        mut start: __m256i,
        weights: &[__m256i; LEN],
        activations: &[i32; LEN],
    ) -> __m256i {
        // How many sums of two products fit into 16 bits: two of 4 bits and 7 bits are at most 2 * 15 * 127 = 3,810.
        let together = match BITS {
            ..=4 => 8,
            5 => 4,
            _ => 2,
        };
        let mut at = 0;
        while at < LEN {
            let end = if at + together < LEN { at + together } else { LEN };
            // SAFETY: the features were detected.
            unsafe {
                let mut pairs = _mm256_maddubs_epi16(weights[at], _mm256_set1_epi32(activations[at]));
                for next in at + 1..end {
                    let more = _mm256_maddubs_epi16(weights[next], _mm256_set1_epi32(activations[next]));
                    pairs = _mm256_add_epi16(pairs, more);
                }
                start = _mm256_add_epi32(start, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
            at = end;
        }
        start
    }

    #[inline(always)]
    fn wide(self, bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    fn dot_wide<const LEN: usize>(
        self,
        mut start: __m256i,
        weights: &[__m256i; LEN],
        activations: &[i32; LEN],
    ) -> __m256i {
        for at in 0..LEN {
            // SAFETY: the features were detected. The weight's sign is moved to the activation, which is never -128; two
            // products of 128 and 127 fit into 16 bits.
            unsafe {
                let size = _mm256_abs_epi8(weights[at]);
                let signed = _mm256_sign_epi8(_mm256_set1_epi32(activations[at]), weights[at]);
                let pairs = _mm256_maddubs_epi16(size, signed);
                start = _mm256_add_epi32(start, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
        start
    }

    #[inline(always)]
    fn whole(self, number: i32) -> __m256i {
        // SAFETY: the features were detected.
        unsafe { _mm256_set1_epi32(number) }
    }

    #[inline(always)]
    fn to_float(self, whole: __m256i) -> __m256 {
        // SAFETY: the features were detected.
        unsafe { _mm256_cvtepi32_ps(whole) }
    }

    #[inline(always)]
    fn splat(self, number: f32) -> __m256 {
        // SAFETY: the features were detected.
        unsafe { _mm256_set1_ps(number) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; ROWS], part: usize) -> __m256 {
        let from = &from[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has the 8 numbers that are read.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, float: __m256, to: &mut [f32; ROWS], part: usize) {
        let to = &mut to[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has room for the 8 numbers.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), float) }
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32], part: usize) -> __m256 {
        let from = &from[part * 16..][..16];
        // SAFETY: the features were detected; the slice has the 16 bytes that are read.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn kept(self, from: &[u16; ROWS], part: usize) -> __m256 {
        let from = &from[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has the 8 numbers that are read.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn keep(self, float: __m256, to: &mut [u16; ROWS], part: usize) {
        let to = &mut to[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has room for the 8 numbers.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(float)) }
    }

    #[inline(always)]
    fn signed(self, from: &[u8; ROWS], part: usize) -> __m256 {
        let from = &from[part * WIDTH..][..WIDTH];
        // SAFETY: the features were detected; the slice has the 8 bytes that are read.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn multiply(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the features were detected.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the features were detected.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn larger(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the features were detected. Where one is no number, the second operand is taken.
        unsafe { _mm256_max_ps(b, a) }
    }

    #[inline(always)]
    fn fused(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the features were detected.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn near(self, stored: &[[u8; 64]], asked: &[[u8; 64]], _offset: i32) -> i32 {
        // SAFETY: the features were detected; each half of an array has the 32 bytes that are read. The sign of one is moved to the
        // other; neither is -128, and two products of 127 and 127 fit into 16 bits.
        unsafe {
            let (sign, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
            let mut sums = [_mm256_setzero_si256(); 2];
            for (stored, asked) in stored.iter().zip(asked) {
                for (half, sum) in sums.iter_mut().enumerate() {
                    let stored = _mm256_loadu_si256(stored[half * 32..].as_ptr().cast());
                    let asked = _mm256_loadu_si256(asked[half * 32..].as_ptr().cast());
                    let (stored, asked) = (_mm256_xor_si256(stored, sign), _mm256_xor_si256(asked, sign));
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(stored), _mm256_sign_epi8(asked, stored));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                }
            }
            let sum = _mm256_add_epi32(sums[0], sums[1]);
            let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b0100_1110>(sum));
            _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<0b1011_0001>(sum)))
        }
    }
}
