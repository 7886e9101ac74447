//! The activations of several tokens: as floats, and rounded to eight bits.

use super::ask::Ask;
use crate::lanes::{ROWS, largest};

/// Numbers of several tokens, sixteen columns of a token side by side: `[column / 16][token][column % 16]`. What sixteen rows of
/// a matrix give is one piece of it, and what one token has is one piece of each of its groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sheet {
    numbers: Vec<[f32; ROWS]>,
    tokens: usize,
}

impl Sheet {
    /// Makes room for so many columns, a multiple of 16; what the numbers are is not said.
    pub(crate) fn reset(&mut self, columns: usize, tokens: usize) {
        self.numbers.resize(columns / ROWS * tokens, [0.0; ROWS]);
        self.tokens = tokens;
    }

    /// Forgets the columns from this one on, a multiple of 16.
    pub(crate) fn truncate(&mut self, columns: usize) {
        self.numbers.truncate(columns / ROWS * self.tokens);
    }

    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(crate) fn columns(&self) -> usize {
        self.numbers.len() / self.tokens.max(1) * ROWS
    }

    pub(crate) fn all(&self) -> &[[f32; ROWS]] {
        &self.numbers
    }

    pub(crate) fn all_mut(&mut self) -> &mut [[f32; ROWS]] {
        &mut self.numbers
    }

    /// Sixteen columns of all tokens.
    #[inline(always)]
    pub(crate) fn group(&self, at: usize) -> &[[f32; ROWS]] {
        &self.numbers[at * self.tokens..][..self.tokens]
    }

    /// The sixteens of a token.
    #[inline(always)]
    pub(crate) fn token(&self, at: usize) -> impl Iterator<Item = &[f32; ROWS]> {
        self.numbers[at..].iter().step_by(self.tokens)
    }

    /// The sixteens of a token.
    #[inline(always)]
    pub(crate) fn token_mut(&mut self, at: usize) -> impl Iterator<Item = &mut [f32; ROWS]> {
        self.numbers[at..].iter_mut().step_by(self.tokens)
    }

    /// The tokens in tiles of at most so many: of each tile its part of each sixteen columns.
    pub(crate) fn tiles_mut(&mut self, size: usize) -> Vec<Vec<&mut [[f32; ROWS]]>> {
        let groups = self.columns() / ROWS;
        let mut tiles: Vec<_> = (0..self.tokens.div_ceil(size)).map(|_| Vec::with_capacity(groups)).collect();
        for group in self.numbers.chunks_exact_mut(self.tokens.max(1)) {
            for (tile, part) in tiles.iter_mut().zip(group.chunks_mut(size)) {
                tile.push(part);
            }
        }
        tiles
    }

    /// A sheet of one token alone.
    #[cfg(test)]
    pub(crate) fn from_columns(tokens: &[Vec<f32>]) -> Self {
        let mut sheet = Self::default();
        sheet.reset(tokens[0].len(), tokens.len());
        for (at, columns) in tokens.iter().enumerate() {
            for (to, from) in sheet.token_mut(at).zip(columns.as_chunks::<ROWS>().0) {
                *to = *from;
            }
        }
        sheet
    }
}

/// Thirty-two columns of a token, rounded: a number is its byte times `scale`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Block {
    /// Four signed bytes in each word, the first lowest; never -128.
    pub(super) words: [i32; 8],
    pub(super) scale: f32,
    /// The sum of the bytes times `-scale`: what a weight's offset of one adds.
    pub(super) shift: f32,
    /// The sums of the first and the last sixteen bytes.
    pub(super) sums: [i32; 2],
}

/// The activations of several tokens, rounded. Tokens stand in tiles of a power of two, the largest first, within a tile the
/// blocks of the same columns side by side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activations {
    blocks: Vec<Block>,
    /// Blocks of a token.
    length: usize,
    /// The first token of each tile, and how many it has.
    tiles: Vec<(usize, usize)>,
    /// How the weights are asked for that are multiplied with it.
    pub(crate) ask: Ask,
}

/// Tokens of a tile, at most.
pub(crate) const TILE_MAX: usize = 16;

impl Activations {
    /// Makes room for a sheet, in tiles of at most so many tokens.
    pub(crate) fn reset(&mut self, columns: usize, tokens: usize, tile: usize) {
        self.length = columns / 32;
        self.blocks.resize(self.length * tokens, Block::default());
        self.tiles.clear();
        let (mut at, mut size) = (0, tile.min(TILE_MAX));
        while at < tokens {
            while size > tokens - at {
                size /= 2;
            }
            self.tiles.push((at, size));
            at += size;
        }
    }

    /// The first token and the size of each tile.
    pub(super) fn tiles(&self) -> &[(usize, usize)] {
        &self.tiles
    }

    /// The blocks of the tile whose first token is `at`.
    #[inline(always)]
    pub(super) fn tile<const SIZE: usize>(&self, at: usize) -> &[[Block; SIZE]] {
        self.blocks[at * self.length..][..SIZE * self.length].as_chunks::<SIZE>().0
    }

    /// The tiles with their blocks, to be filled by [`round`] each.
    pub(crate) fn tiles_mut(&mut self) -> impl Iterator<Item = Tile<'_>> {
        let (mut rest, length) = (self.blocks.as_mut_slice(), self.length);
        self.tiles.iter().map(move |&(first, size)| {
            let (blocks, after) = std::mem::take(&mut rest).split_at_mut(size * length);
            rest = after;
            Tile { first, size, blocks }
        })
    }
}

/// A tile that is to be filled.
pub(crate) struct Tile<'a> {
    first: usize,
    size: usize,
    blocks: &'a mut [Block],
}

impl Tile<'_> {
    /// The tile's tokens.
    pub(crate) fn tokens(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.size
    }

    /// Rounds the tile's tokens in a sheet, sixteen columns of a token after `map`, which is given them with the number of their group and
    /// of their token in the tile. Columns come before tokens, as they lie in memory.
    #[inline(always)]
    pub(crate) fn round(&mut self, sheet: &Sheet, map: impl Fn(&[f32; ROWS], usize, usize) -> [f32; ROWS]) {
        let tokens = self.tokens();
        for (at, blocks) in self.blocks.chunks_exact_mut(self.size).enumerate() {
            let low = &sheet.group(2 * at)[tokens.clone()];
            let high = &sheet.group(2 * at + 1)[tokens.clone()];
            for (token, ((block, low), high)) in blocks.iter_mut().zip(low).zip(high).enumerate() {
                *block = Block::round(&map(low, 2 * at, token), &map(high, 2 * at + 1, token));
            }
        }
    }
}

impl Block {
    #[inline(always)]
    fn round(low: &[f32; ROWS], high: &[f32; ROWS]) -> Self {
        let mut sizes = [0.0f32; ROWS];
        for lane in 0..ROWS {
            let (low, high) = (low[lane].abs(), high[lane].abs());
            // Comparing so, a number that is none is not the larger.
            let larger = if low > sizes[lane] { low } else { sizes[lane] };
            sizes[lane] = if high > larger { high } else { larger };
        }
        let largest = largest(sizes);
        // What is as good as nothing, or has no end, rounds to zeros and not to nonsense.
        let (inverse, scale) =
            if (1e-30..1e30).contains(&largest) { (127.0 / largest, largest / 127.0) } else { (0.0, 0.0) };
        let (low, high) = (bytes(low, inverse), bytes(high, inverse));
        let sums = [sum(&low), sum(&high)];
        let mut words = [0; 8];
        for at in 0..4 {
            words[at] = i32::from_le_bytes([low[4 * at], low[4 * at + 1], low[4 * at + 2], low[4 * at + 3]]);
            words[at + 4] = i32::from_le_bytes([high[4 * at], high[4 * at + 1], high[4 * at + 2], high[4 * at + 3]]);
        }
        Self { words, scale, shift: -(scale * (sums[0] + sums[1]) as f32), sums }
    }
}

#[inline(always)]
fn sum(bytes: &[u8; ROWS]) -> i32 {
    bytes.iter().map(|byte| i32::from(byte.cast_signed())).sum()
}

/// Rounds to the nearest whole number, ties to even: adding 1.5 * 2^23 leaves it in the lowest bits.
#[inline(always)]
fn bytes(numbers: &[f32; ROWS], inverse: f32) -> [u8; ROWS] {
    const MAGIC: f32 = 12_582_912.0;
    let mut bytes = [0; ROWS];
    for lane in 0..ROWS {
        bytes[lane] = (numbers[lane] * inverse + MAGIC).to_bits() as u8;
    }
    bytes
}
