//! How 64-bit ARM multiplies bytes: in words that are added up in pairs, which all of it does; four products of a row at once (dotprod); or
//! those of two rows with two tokens, eight of each at once (i8mm). Sums of whole numbers are exact, so all give the same.

use std::arch::{aarch64::*, asm, is_aarch64_feature_detected};

/// A way to multiply bytes. A value of an implementing type is the proof that the processor has it.
pub(crate) trait Dots: Copy + Send + Sync {
    /// See [`super::Lanes::IN_TWOS`].
    const IN_TWOS: bool = false;

    fn detect() -> Option<Self>;

    /// Adds for each row the products of its bytes, signed and of at most `BITS` bits, with the activations: four in each word.
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        start: int32x4_t,
        weights: &[uint8x16_t; LEN],
        activations: &[i32; LEN],
    ) -> int32x4_t;

    /// Adds the products of sixteen signed bytes to any of the sums; none is -128.
    fn near(self, sums: int32x4_t, stored: int8x16_t, asked: int8x16_t) -> int32x4_t;

    /// See [`super::Lanes::two`].
    #[inline(always)]
    fn two(self, starts: [i32; 2]) -> [int32x4_t; 2] {
        // SAFETY: all 64-bit ARM has it.
        unsafe { [vdupq_n_s32(starts[0]), vdupq_n_s32(starts[1])] }
    }

    /// See [`super::Lanes::dot_two`].
    #[inline(always)]
    fn dot_two<const LEN: usize, const BITS: u32>(
        self,
        sums: [int32x4_t; 2],
        weights: &[uint8x16_t; LEN],
        activations: [&[i32; LEN]; 2],
    ) -> [int32x4_t; 2] {
        let [first, second] = activations;
        [self.dot::<LEN, BITS>(sums[0], weights, first), self.dot::<LEN, BITS>(sums[1], weights, second)]
    }

    /// See [`super::Lanes::apart`].
    #[inline(always)]
    fn apart(self, sums: [int32x4_t; 2]) -> [int32x4_t; 2] {
        sums
    }
}

/// All 64-bit ARM: what a Cortex-A53, A57 or A72 (Raspberry Pi 3 and 4, LS1046A, i.MX 8M) has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words(());

impl Dots for Words {
    #[inline(always)]
    fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    #[inline(always)]
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        start: int32x4_t,
        weights: &[uint8x16_t; LEN],
        activations: &[i32; LEN],
    ) -> int32x4_t {
        // How many products with 7 bits fit into 16 bits together: 17 of 4 bits, 8 of 5, 4 of 6, 2 of 8.
        let together = match BITS {
            ..=4 => 16,
            5 => 8,
            6 => 4,
            _ => 2,
        };
        // SAFETY: `self` exists, so the features were detected.
        unsafe {
            // Two words for each of the first two rows, and for each of the others.
            let (mut low, mut high) = (vdupq_n_s32(0), vdupq_n_s32(0));
            let mut at = 0;
            while at < LEN {
                let end = if at + together < LEN { at + together } else { LEN };
                let (bytes, numbers) = signed(weights[at], activations[at]);
                let mut first = vmull_s8(vget_low_s8(bytes), vget_low_s8(numbers));
                let mut last = vmull_high_s8(bytes, numbers);
                if LEN == 1 {
                    return vpadalq_s16(start, vpaddq_s16(first, last));
                }
                for next in at + 1..end {
                    let (bytes, numbers) = signed(weights[next], activations[next]);
                    first = vmlal_s8(first, vget_low_s8(bytes), vget_low_s8(numbers));
                    last = vmlal_high_s8(last, bytes, numbers);
                }
                low = vpadalq_s16(low, first);
                high = vpadalq_s16(high, last);
                at = end;
            }
            vaddq_s32(start, vpaddq_s32(low, high))
        }
    }

    #[inline(always)]
    fn near(self, sums: int32x4_t, stored: int8x16_t, asked: int8x16_t) -> int32x4_t {
        // SAFETY: `self` exists, so the features were detected. Two products of 127 and 127 fit into 16 bits.
        unsafe {
            let products = vmull_s8(vget_low_s8(stored), vget_low_s8(asked));
            vpadalq_s16(sums, vmlal_high_s8(products, stored, asked))
        }
    }
}

/// The weights of four rows and the activations that each is multiplied with.
#[inline(always)]
fn signed(weights: uint8x16_t, activations: i32) -> (int8x16_t, int8x16_t) {
    // SAFETY: all 64-bit ARM has it.
    unsafe { (vreinterpretq_s8_u8(weights), vreinterpretq_s8_s32(vdupq_n_s32(activations))) }
}

/// dotprod: since the Cortex-A55 and A76 (Raspberry Pi 5, RK3588, Graviton 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dotprod(());

/// `SDOT`: adds four products of signed bytes in each lane. The intrinsic is not stable yet.
#[inline(always)]
fn sdot(_: Dotprod, mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the feature was detected; the instruction reads and writes registers alone.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

impl Dots for Dotprod {
    #[inline(always)]
    fn detect() -> Option<Self> {
        (Words::detect().is_some() && is_aarch64_feature_detected!("dotprod")).then_some(Self(()))
    }

    #[inline(always)]
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        mut start: int32x4_t,
        weights: &[uint8x16_t; LEN],
        activations: &[i32; LEN],
    ) -> int32x4_t {
        for at in 0..LEN {
            let (weights, activations) = signed(weights[at], activations[at]);
            start = sdot(self, start, weights, activations);
        }
        start
    }

    #[inline(always)]
    fn near(self, sums: int32x4_t, stored: int8x16_t, asked: int8x16_t) -> int32x4_t {
        sdot(self, sums, stored, asked)
    }
}

/// dotprod and i8mm: since the Cortex-A510 and A710 (Neoverse V1 and N2, Graviton 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct I8mm(Dotprod);

/// `SMMLA`: adds to the four sums of two rows with two tokens eight products of signed bytes each. The intrinsic is not stable yet.
#[inline(always)]
fn smmla(_: I8mm, mut sums: int32x4_t, rows: int32x4_t, tokens: int32x4_t) -> int32x4_t {
    // SAFETY: the feature was detected; the instruction reads and writes registers alone.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sums:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sums = inout(vreg) sums,
            rows = in(vreg) rows,
            tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

impl Dots for I8mm {
    const IN_TWOS: bool = true;

    #[inline(always)]
    fn detect() -> Option<Self> {
        Dotprod::detect().filter(|_| is_aarch64_feature_detected!("i8mm")).map(Self)
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
    fn near(self, sums: int32x4_t, stored: int8x16_t, asked: int8x16_t) -> int32x4_t {
        self.0.near(sums, stored, asked)
    }

    /// The first two rows and the last two, each with the one token and the other.
    #[inline(always)]
    fn two(self, starts: [i32; 2]) -> [int32x4_t; 2] {
        // SAFETY: `self` exists, so the features were detected; the array has the 8 bytes that are read.
        unsafe {
            let starts = vld1_s32(starts.as_ptr());
            [vcombine_s32(starts, starts); 2]
        }
    }

    #[inline(always)]
    fn dot_two<const LEN: usize, const BITS: u32>(
        self,
        [mut first, mut last]: [int32x4_t; 2],
        weights: &[uint8x16_t; LEN],
        activations: [&[i32; LEN]; 2],
    ) -> [int32x4_t; 2] {
        const { assert!(LEN.is_multiple_of(2), "words are taken in twos") };
        let mut at = 0;
        while at < LEN {
            // SAFETY: `self` exists, so the features were detected; both arrays have the 8 bytes that are read, as `LEN` is even.
            unsafe {
                let (a, b) = (vreinterpretq_s32_u8(weights[at]), vreinterpretq_s32_u8(weights[at + 1]));
                let tokens =
                    vcombine_s32(vld1_s32(activations[0].as_ptr().add(at)), vld1_s32(activations[1].as_ptr().add(at)));
                first = smmla(self, first, vzip1q_s32(a, b), tokens);
                last = smmla(self, last, vzip2q_s32(a, b), tokens);
            }
            at += 2;
        }
        [first, last]
    }

    #[inline(always)]
    fn apart(self, [first, last]: [int32x4_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: `self` exists, so the features were detected.
        unsafe { [vuzp1q_s32(first, last), vuzp2q_s32(first, last)] }
    }
}
