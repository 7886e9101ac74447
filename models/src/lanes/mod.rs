//! What the products need of a processor: registers that hold several rows side by side, and a dot product of bytes in each.
//!
//! A lane is a row of the matrix (or a position, in attention), and lanes are never added to each other. So every processor does
//! the same operations on the same numbers in the same order, and all give the same bits: the widest registers of a server
//! and the plain code of a processor without any.

mod exp;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide256;
#[cfg(target_arch = "x86_64")]
mod wide512;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use exp::exp;

/// Rows that are packed together, whatever the width of the registers.
pub(crate) const ROWS: usize = 16;

/// Registers of one kind of processor. A value of an implementing type is the proof that the processor has them.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// Rows in one register; [`ROWS`] is a multiple of it.
    const WIDTH: usize;
    /// What `wide` adds to each signed byte; the sum of the activations times it is to be taken off.
    const BIAS: i32;
    /// Whether products with two tokens at once (`two`, `dot_two`, `apart`) cost less than with each alone.
    const IN_TWOS: bool = false;
    /// A number for each row.
    type Float: Copy;
    /// A whole number for each row.
    type Whole: Copy;
    /// Four bytes for each row.
    type Bytes: Copy;

    /// Four bytes for each of the rows of a part: the `part`-th `WIDTH` of them.
    fn bytes(self, from: &[u8; 64], part: usize) -> Self::Bytes;
    /// Asks for the memory so many bytes after a place, which need not be there, to be brought into the second cache.
    fn ask<T: ?Sized>(self, place: &T, after: usize);
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    /// The values with bit `STEP` of `bits` as their fifth bit.
    fn with_fifth<const STEP: usize>(self, values: Self::Bytes, bits: Self::Bytes) -> Self::Bytes;
    /// The values with bits `2 STEP` and `2 STEP + 1` of `bits` as their fifth and sixth.
    fn with_sixth<const STEP: usize>(self, values: Self::Bytes, bits: Self::Bytes) -> Self::Bytes;
    /// The `AT`-th of the four bytes of each row, 0 to 3, as a number without a sign.
    fn nth<const AT: usize>(self, bytes: Self::Bytes) -> Self::Float;
    /// Adds for each row the products of its bytes, of at most `BITS` bits without a sign, with the activations: four in each word.
    fn dot<const LEN: usize, const BITS: u32>(
        self,
        start: Self::Whole,
        weights: &[Self::Bytes; LEN],
        activations: &[i32; LEN],
    ) -> Self::Whole;
    /// Signed bytes as `dot_wide` takes them.
    fn wide(self, bytes: Self::Bytes) -> Self::Bytes;
    /// As `dot`, for bytes that `wide` gave.
    fn dot_wide<const LEN: usize>(
        self,
        start: Self::Whole,
        weights: &[Self::Bytes; LEN],
        activations: &[i32; LEN],
    ) -> Self::Whole;

    /// The start of `dot_two`: a number for the sums of each of two tokens.
    #[inline(always)]
    fn two(self, starts: [i32; 2]) -> [Self::Whole; 2] {
        [self.whole(starts[0]), self.whole(starts[1])]
    }

    /// As `dot`, or with 8 `BITS` as `dot_wide`, for two tokens at once and an even number of words. What stands where in the sums is
    /// the processor's affair until they are brought `apart`.
    #[inline(always)]
    fn dot_two<const LEN: usize, const BITS: u32>(
        self,
        sums: [Self::Whole; 2],
        weights: &[Self::Bytes; LEN],
        activations: [&[i32; LEN]; 2],
    ) -> [Self::Whole; 2] {
        let [first, second] = activations;
        if BITS == 8 {
            [self.dot_wide(sums[0], weights, first), self.dot_wide(sums[1], weights, second)]
        } else {
            [self.dot::<LEN, BITS>(sums[0], weights, first), self.dot::<LEN, BITS>(sums[1], weights, second)]
        }
    }

    /// The sums of `dot_two`, one token's and then the other's.
    #[inline(always)]
    fn apart(self, sums: [Self::Whole; 2]) -> [Self::Whole; 2] {
        sums
    }

    fn whole(self, number: i32) -> Self::Whole;
    fn to_float(self, whole: Self::Whole) -> Self::Float;
    fn splat(self, number: f32) -> Self::Float;
    fn load(self, from: &[f32; ROWS], part: usize) -> Self::Float;
    fn store(self, float: Self::Float, to: &mut [f32; ROWS], part: usize);
    /// Half-precision numbers, little endian.
    fn halves(self, from: &[u8; 32], part: usize) -> Self::Float;
    /// Half-precision numbers as `keep` gave them.
    fn kept(self, from: &[u16; ROWS], part: usize) -> Self::Float;
    fn keep(self, float: Self::Float, to: &mut [u16; ROWS], part: usize);
    fn signed(self, from: &[u8; ROWS], part: usize) -> Self::Float;
    fn multiply(self, a: Self::Float, b: Self::Float) -> Self::Float;
    fn add(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// `b` where it is larger, else `a`; so a number that is none is never taken from `b`.
    fn larger(self, a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a * b + c`, rounded once.
    fn fused(self, a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;

    /// The dot product of two vectors of bytes, of as many blocks as both have. A byte stands for itself less 128, from -127 to
    /// 127. `offset` is 128 times the sum of what the second's bytes stand for.
    fn near(self, stored: &[[u8; 64]], asked: &[[u8; 64]], offset: i32) -> i32;
}

/// Asks for the memory so many bytes after a place, which need not be there, to be brought into the first cache; nothing is read.
#[inline(always)]
pub(crate) fn fetch<T: ?Sized>(place: &T, after: usize) {
    let place = std::ptr::from_ref(place).cast::<u8>().wrapping_add(after);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that never faults, whatever the address; every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch is a hint that never faults, whatever the address; every 64-bit ARM processor has it.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{place}]", place = in(reg) place, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}

/// A computation that any lanes can do.
pub(crate) trait Compute {
    type Output;

    /// Implementations are `#[inline(always)]`, so that the compiler may use what the lanes have in all of it.
    fn on<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// The largest of sixteen numbers, found in four steps that a processor does side by side.
#[inline(always)]
pub(crate) fn largest(numbers: [f32; ROWS]) -> f32 {
    let [a, b, c, d] = larger_half::<8, 4>(&larger_half::<ROWS, 8>(&numbers));
    let (a, b) = (if c > a { c } else { a }, if d > b { d } else { b });
    if b > a { b } else { a }
}

/// Of each number of the first half and its like in the second the larger. Halves are arrays of their own: so the compiler sees that no
/// step waits for a part of the one before.
#[inline(always)]
fn larger_half<const LEN: usize, const HALF: usize>(numbers: &[f32; LEN]) -> [f32; HALF] {
    let mut larger = [0.0; HALF];
    for lane in 0..HALF {
        let (number, other) = (numbers[lane], numbers[lane + HALF]);
        larger[lane] = if other > number { other } else { number };
    }
    larger
}

/// Whether AVX-512 is left unused, see [`forgo_avx512`].
static FORGOES_AVX512: AtomicBool = AtomicBool::new(false);

/// Has what is loaded from now on compute without AVX-512: for figures of machines that lack it, measured on one that does not.
pub fn forgo_avx512() {
    FORGOES_AVX512.store(true, Ordering::Relaxed);
}

/// The lanes that were chosen for this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processor {
    #[cfg(target_arch = "x86_64")]
    Wide512(wide512::Wide512),
    #[cfg(target_arch = "x86_64")]
    Wide256(wide256::Wide256),
    #[cfg(target_arch = "aarch64")]
    I8mm(neon::Neon<neon::I8mm>),
    #[cfg(target_arch = "aarch64")]
    Dotprod(neon::Neon<neon::Dotprod>),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon<neon::Words>),
    Plain,
}

impl Processor {
    /// The best that this processor has.
    pub(crate) fn detect() -> Self {
        let forgoes = FORGOES_AVX512.load(Ordering::Relaxed);
        Self::all().into_iter().find(|found| !(forgoes && found.is_avx512())).unwrap_or(Self::Plain)
    }

    const fn is_avx512(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Self::Wide512(_) = self {
            return true;
        }
        false
    }

    /// All that this processor has, the best first.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(wide512::Wide512::detect().map(Self::Wide512));
            all.extend(wide256::Wide256::detect().map(Self::Wide256));
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.extend(neon::Neon::detect().map(Self::I8mm));
            all.extend(neon::Neon::detect().map(Self::Dotprod));
            all.extend(neon::Neon::detect().map(Self::Neon));
        }
        all.push(Self::Plain);
        all
    }

    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide512(_) => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Wide256(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::I8mm(_) => "NEON i8mm",
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod(_) => "NEON dotprod",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "NEON",
            Self::Plain => "plain",
        }
    }

    /// How many tokens of a prompt are multiplied at once: as many sums as the registers hold beside the weights.
    pub(crate) const fn tile(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide512(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Wide256(_) => 4,
            #[cfg(target_arch = "aarch64")]
            Self::I8mm(_) | Self::Dotprod(_) | Self::Neon(_) => 8,
            Self::Plain => 4,
        }
    }

    #[inline]
    pub(crate) fn compute<C: Compute>(self, computation: C) -> C::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide512(lanes) => lanes.compute(computation),
            #[cfg(target_arch = "x86_64")]
            Self::Wide256(lanes) => lanes.compute(computation),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm(lanes) => lanes.compute(computation),
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod(lanes) => lanes.compute(computation),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(lanes) => lanes.compute(computation),
            Self::Plain => computation.on(plain::Plain),
        }
    }
}
