//! Vectors as bytes: a quarter of the memory, and near enough to find the few whose true values are worth looking at.
//!
//! A vector is `scale` times whole numbers from -127 to 127, the greatest of its values giving 127. A whole number is kept with
//! 128 added, as the products of bytes want it; blocks of 64 bytes, the last filled with zeros.

use crate::lanes::Lanes;

pub(super) const BLOCK: usize = 64;

pub(super) type Block = [u8; BLOCK];

/// Blocks that a vector takes.
pub(super) const fn blocks_of(dimensions: usize) -> usize {
    dimensions.div_ceil(BLOCK)
}

/// One vector in bytes.
#[derive(Clone)]
pub(super) struct Code {
    pub(super) blocks: Vec<Block>,
    pub(super) scale: f32,
    /// 128 times the sum of the whole numbers.
    pub(super) offset: i32,
    /// The length of the difference between the vector and what the bytes say, or a little more.
    pub(super) error: f32,
}

impl Code {
    /// Room for a vector, zero as yet.
    pub(super) fn new(dimensions: usize) -> Self {
        Self { blocks: vec![[128; BLOCK]; blocks_of(dimensions)], scale: 0.0, offset: 0, error: 0.0 }
    }

    /// Takes the place of what was here; the vector is as long as the one that room was made for.
    pub(super) fn take(&mut self, vector: &[f32]) {
        let greatest = vector.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()));
        self.scale = greatest / 127.0;
        let inverse = if self.scale > 0.0 { self.scale.recip() } else { 0.0 };
        let (mut sum, mut error, mut length) = (0i32, 0.0f32, 0.0f32);
        for (values, block) in vector.chunks(BLOCK).zip(&mut self.blocks) {
            for (value, byte) in values.iter().zip(block) {
                // Cut off, what is positive and half a step more is rounded to the nearest.
                let byte_value = (value * inverse + 128.5) as i32;
                *byte = byte_value.clamp(1, 255) as u8;
                let whole = i32::from(*byte) - 128;
                sum += whole;
                let difference = value - self.scale * whole as f32;
                error += difference * difference;
                length += value * value;
            }
        }
        self.offset = 128 * sum;
        // A little more, for the rounding of what is computed with it.
        self.error = error.sqrt() * 1.001 + length.sqrt() * 1e-5;
    }

    /// A stored vector, to be compared with others.
    pub(super) fn copy(&mut self, blocks: &[Block], scale: f32) {
        self.blocks.clear();
        self.blocks.extend_from_slice(blocks);
        self.scale = scale;
        let whole = |byte: &u8| i32::from(*byte) - 128;
        self.offset = 128 * blocks.iter().flatten().map(whole).sum::<i32>();
    }

    /// The dot product with a stored vector, as far as bytes tell.
    #[inline(always)]
    pub(super) fn near<L: Lanes>(&self, lanes: L, blocks: &[Block], scale: f32) -> f32 {
        lanes.near(blocks, &self.blocks, self.offset) as f32 * (self.scale * scale)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::{Compute, Processor};

    struct Compare<'c>(&'c [Block], &'c [Block], i32);

    impl Compute for Compare<'_> {
        type Output = i32;

        #[inline(always)]
        fn on<L: Lanes>(self, lanes: L) -> i32 {
            lanes.near(self.0, self.1, self.2)
        }
    }

    proptest! {
        #[test]
        fn every_processor_gives_the_same_product(
            bytes in proptest::collection::vec((prop_oneof![Just(1u8), Just(255), 1u8..], prop_oneof![Just(1u8), Just(255), 1u8..]), 0..400),
        ) {
            let whole = |byte: u8| i32::from(byte) - 128;
            let blocks = |side: fn(&(u8, u8)) -> u8| {
                let mut code = Code::new(bytes.len());
                code.blocks.as_flattened_mut().iter_mut().zip(&bytes).for_each(|(byte, pair)| *byte = side(pair));
                code.blocks
            };
            let (stored, asked) = (blocks(|pair| pair.0), blocks(|pair| pair.1));
            let expected: i32 = bytes.iter().map(|(a, b)| whole(*a) * whole(*b)).sum();
            let offset = 128 * bytes.iter().map(|(_, b)| whole(*b)).sum::<i32>();
            for processor in Processor::all() {
                prop_assert_eq!(processor.compute(Compare(&stored, &asked, offset)), expected, "{}", processor.name());
            }
        }

        #[test]
        fn bytes_are_as_near_to_a_vector_as_they_say(vector in proptest::collection::vec(-1.0f32..1.0, 1..300)) {
            let mut code = Code::new(vector.len());
            code.take(&vector);
            let wholes = code.blocks.as_flattened().iter().map(|byte| f64::from(*byte) - 128.0);
            let difference = |(value, whole): (&f32, f64)| (f64::from(*value) - f64::from(code.scale) * whole).powi(2);
            let error: f64 = vector.iter().zip(wholes).map(difference).sum();
            prop_assert!(error.sqrt() <= f64::from(code.error));
            let mut copy = Code::new(vector.len());
            copy.copy(&code.blocks, code.scale);
            prop_assert_eq!(copy.offset, code.offset);
        }
    }
}
