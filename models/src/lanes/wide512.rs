//! Lanes of 512 bits: x86 with AVX-512 and its dot product of bytes (VNNI), in servers since 2019 and in desktops since Zen 4.

use std::arch::x86_64::*;

use super::{Compute, Lanes, ROWS};

/// Exists only where [`Wide512::detect`] found the features that every `SAFETY` below rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wide512(());

impl Wide512 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    #[inline]
    pub(super) fn compute<C: Compute>(self, computation: C) -> C::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn with_features<C: Compute>(lanes: Wide512, computation: C) -> C::Output {
            computation.on(lanes)
        }
        // SAFETY: `self` exists, so the features were detected.
        unsafe { with_features(self, computation) }
    }
}

impl Lanes for Wide512 {
    const WIDTH: usize = ROWS;
    const BIAS: i32 = 128;
    type Float = __m512;
    type Whole = __m512i;
    type Bytes = __m512i;

    #[inline(always)]
    fn bytes(self, from: &[u8; 64], _part: usize) -> __m512i {
        // SAFETY: the features were detected; the array has the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn ask<T: ?Sized>(self, place: &T, after: usize) {
        // SAFETY: a prefetch is a hint that never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(place).cast::<i8>().wrapping_add(after)) }
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: __m512i) -> __m512i {
        // SAFETY: the features were detected.
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: __m512i) -> __m512i {
        // SAFETY: the features were detected.
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn with_fifth<const STEP: usize>(self, values: __m512i, bits: __m512i) -> __m512i {
        // SAFETY: the features were detected.
        unsafe {
            let bits = match STEP {
                0 => _mm512_slli_epi16::<4>(bits),
                1 => _mm512_slli_epi16::<3>(bits),
                2 => _mm512_slli_epi16::<2>(bits),
                3 => _mm512_slli_epi16::<1>(bits),
                4 => bits,
                5 => _mm512_srli_epi16::<1>(bits),
                6 => _mm512_srli_epi16::<2>(bits),
                _ => _mm512_srli_epi16::<3>(bits),
            };
            // values | (bits & 16), in one operation.
            _mm512_ternarylogic_epi32::<0xf8>(values, bits, _mm512_set1_epi8(16))
        }
    }

    #[inline(always)]
    fn with_sixth<const STEP: usize>(self, values: __m512i, bits: __m512i) -> __m512i {
        // SAFETY: the features were detected.
        unsafe {
            let bits = match STEP {
                0 => _mm512_slli_epi16::<4>(bits),
                1 => _mm512_slli_epi16::<2>(bits),
                2 => bits,
                _ => _mm512_srli_epi16::<2>(bits),
            };
            _mm512_ternarylogic_epi32::<0xf8>(values, bits, _mm512_set1_epi8(48))
        }
    }

    #[inline(always)]
    fn nth<const AT: usize>(self, bytes: __m512i) -> __m512 {
        // SAFETY: the features were detected.
        unsafe {
            let bytes = match AT {
                0 => bytes,
                1 => _mm512_srli_epi32::<8>(bytes),
                2 => _mm512_srli_epi32::<16>(bytes),
                _ => _mm512_srli_epi32::<24>(bytes),
            };
            _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(255)))
        }
    }

    #[inline(always)]
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        mut start: __m512i,
        weights: &[__m512i; LEN],
        activations: &[i32; LEN],
    ) -> __m512i {
        for at in 0..LEN {
            // SAFETY: the features were detected.
            start = unsafe { _mm512_dpbusd_epi32(start, weights[at], _mm512_set1_epi32(activations[at])) };
        }
        start
    }

    #[inline(always)]
    fn wide(self, bytes: __m512i) -> __m512i {
        // SAFETY: the features were detected.
        unsafe { _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    fn dot_wide<const LEN: usize>(self, start: __m512i, weights: &[__m512i; LEN], activations: &[i32; LEN]) -> __m512i {
        self.dot::<LEN, 8>(start, weights, activations)
    }

    #[inline(always)]
    fn whole(self, number: i32) -> __m512i {
        // SAFETY: the features were detected.
        unsafe { _mm512_set1_epi32(number) }
    }

    #[inline(always)]
    fn to_float(self, whole: __m512i) -> __m512 {
        // SAFETY: the features were detected.
        unsafe { _mm512_cvtepi32_ps(whole) }
    }

    #[inline(always)]
    fn splat(self, number: f32) -> __m512 {
        // SAFETY: the features were detected.
        unsafe { _mm512_set1_ps(number) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; ROWS], _part: usize) -> __m512 {
        // SAFETY: the features were detected; the array has the 16 numbers that are read.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, float: __m512, to: &mut [f32; ROWS], _part: usize) {
        // SAFETY: the features were detected; the array has room for the 16 numbers.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), float) }
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32], _part: usize) -> __m512 {
        // SAFETY: the features were detected; the array has the 32 bytes that are read.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn kept(self, from: &[u16; ROWS], _part: usize) -> __m512 {
        // SAFETY: the features were detected; the array has the 16 numbers that are read.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn keep(self, float: __m512, to: &mut [u16; ROWS], _part: usize) {
        // SAFETY: the features were detected; the array has room for the 16 numbers.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(float)) }
    }

    #[inline(always)]
    fn signed(self, from: &[u8; ROWS], _part: usize) -> __m512 {
        // SAFETY: the features were detected; the array has the 16 bytes that are read.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn multiply(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the features were detected.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the features were detected.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn larger(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the features were detected. Where one is no number, the second operand is taken.
        unsafe { _mm512_max_ps(b, a) }
    }

    #[inline(always)]
    fn fused(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the features were detected.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn near(self, stored: &[[u8; 64]], asked: &[[u8; 64]], offset: i32) -> i32 {
        // SAFETY: the features were detected; each array has the 64 bytes that are read. The products are of bytes without a sign and
        // bytes with one, so they are too large by 128 times the latter, which is `offset`.
        unsafe {
            let sign = _mm512_set1_epi8(-128);
            let mut sums = [_mm512_setzero_si512(); 2];
            for (at, (stored, asked)) in stored.iter().zip(asked).enumerate() {
                let asked = _mm512_xor_si512(_mm512_loadu_si512(asked.as_ptr().cast()), sign);
                sums[at % 2] = _mm512_dpbusd_epi32(sums[at % 2], _mm512_loadu_si512(stored.as_ptr().cast()), asked);
            }
            _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1])) - offset
        }
    }
}
