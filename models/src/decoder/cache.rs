//! The keys and values of the tokens so far, in half precision or in eight bits, taken in pieces as they are needed and never moved.

use super::steps::scaled_by;
use crate::lanes::{Lanes, ROWS, largest};

/// Positions in a piece.
pub(super) const PIECE: usize = 64;

/// In which form keys and values are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cache {
    /// Half precision.
    #[default]
    Half,
    /// Whole numbers from -127 to 127 and a scale for each position of each head: about half the memory, and logits that differ a little.
    Eight,
}

/// A number as it is kept.
pub(super) trait Kept: Copy + Default + Send + Sync {
    /// Whether it has to be multiplied with the scale of its row.
    const SCALED: bool;

    fn load<L: Lanes>(lanes: L, from: &[Self; ROWS], part: usize) -> L::Float;

    /// What the numbers of a row are divided by before they are kept.
    fn scale(numbers: &[[f32; ROWS]]) -> f32;

    fn keep<L: Lanes>(lanes: L, numbers: &[f32; ROWS], scale: f32) -> [Self; ROWS];
}

impl Kept for u16 {
    const SCALED: bool = false;

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[Self; ROWS], part: usize) -> L::Float {
        lanes.kept(from, part)
    }

    #[inline(always)]
    fn scale(_numbers: &[[f32; ROWS]]) -> f32 {
        1.0
    }

    #[inline(always)]
    fn keep<L: Lanes>(lanes: L, numbers: &[f32; ROWS], _scale: f32) -> [Self; ROWS] {
        let mut halves = [0; ROWS];
        for part in 0..ROWS / L::WIDTH {
            lanes.keep(lanes.load(numbers, part), &mut halves, part);
        }
        halves
    }
}

impl Kept for u8 {
    const SCALED: bool = true;

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[Self; ROWS], part: usize) -> L::Float {
        lanes.signed(from, part)
    }

    #[inline(always)]
    fn scale(numbers: &[[f32; ROWS]]) -> f32 {
        let mut sizes = [0.0f32; ROWS];
        for numbers in numbers {
            for lane in 0..ROWS {
                let size = numbers[lane].abs();
                sizes[lane] = if size > sizes[lane] { size } else { sizes[lane] };
            }
        }
        largest(sizes) / 127.0
    }

    #[inline(always)]
    fn keep<L: Lanes>(_lanes: L, numbers: &[f32; ROWS], scale: f32) -> [Self; ROWS] {
        let factor = if scale > 0.0 { scale.recip() } else { 0.0 };
        // What is not a number becomes 0; rounding is to even, everywhere the same.
        scaled_by(numbers, factor).map(|number| (number.round_ties_even() as i8).cast_unsigned())
    }
}

/// The keys and values of one head of one layer.
pub(super) enum Head {
    Half(Pieces<u16>),
    Eight(Pieces<u8>),
}

impl Head {
    pub(super) fn new(cache: Cache) -> Self {
        match cache {
            Cache::Half => Self::Half(Pieces(Vec::new())),
            Cache::Eight => Self::Eight(Pieces(Vec::new())),
        }
    }

    /// A copy of the first so many pieces.
    pub(super) fn copy(&self, pieces: usize) -> Self {
        match self {
            Self::Half(all) => Self::Half(Pieces(all.0[..pieces].to_vec())),
            Self::Eight(all) => Self::Eight(Pieces(all.0[..pieces].to_vec())),
        }
    }

    /// Keeps the first so many pieces.
    pub(super) fn truncate(&mut self, pieces: usize) {
        match self {
            Self::Half(all) => all.0.truncate(pieces),
            Self::Eight(all) => all.0.truncate(pieces),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Half(all) => all.0.iter().map(Piece::bytes).sum(),
            Self::Eight(all) => all.0.iter().map(Piece::bytes).sum(),
        }
    }
}

pub(super) struct Pieces<K>(Vec<Piece<K>>);

#[derive(Clone)]
struct Piece<K> {
    /// Sixteen positions side by side: `[position / 16][column][position % 16]`.
    keys: Box<[[K; ROWS]]>,
    key_scales: [[f32; ROWS]; PIECE / ROWS],
    /// Sixteen columns side by side: `[position][column / 16][column % 16]`.
    values: Box<[[K; ROWS]]>,
    value_scales: [[f32; ROWS]; PIECE / ROWS],
}

impl<K> Piece<K> {
    fn bytes(&self) -> usize {
        size_of_val(&*self.keys)
            + size_of_val(&*self.values)
            + size_of_val(&self.key_scales)
            + size_of_val(&self.value_scales)
    }
}

impl<K: Kept> Pieces<K> {
    /// Writes the key and value of a position; those before it were written.
    #[inline(always)]
    pub(super) fn write<L: Lanes>(&mut self, lanes: L, position: usize, key: &[[f32; ROWS]], value: &[[f32; ROWS]]) {
        let size = PIECE * key.len();
        if position / PIECE >= self.0.len() {
            let empty = || vec![[K::default(); ROWS]; size].into_boxed_slice();
            let scales = [[0.0; ROWS]; PIECE / ROWS];
            self.0.push(Piece { keys: empty(), key_scales: scales, values: empty(), value_scales: scales });
        }
        let piece = &mut self.0[position / PIECE];
        let at = position % PIECE;
        let (key_scale, value_scale) = (K::scale(key), K::scale(value));
        piece.key_scales[at / ROWS][at % ROWS] = key_scale;
        piece.value_scales[at / ROWS][at % ROWS] = value_scale;
        let keys = &mut piece.keys[at / ROWS * ROWS * key.len()..][..ROWS * key.len()];
        for (columns, key) in keys.chunks_exact_mut(ROWS).zip(key) {
            let key = K::keep(lanes, key, key_scale);
            for (column, key) in columns.iter_mut().zip(key) {
                column[at % ROWS] = key;
            }
        }
        for (to, value) in piece.values[at * key.len()..].iter_mut().zip(value) {
            *to = K::keep(lanes, value, value_scale);
        }
    }

    /// The keys of sixteen positions, each column of them side by side, and the scale of each position.
    #[inline(always)]
    pub(super) fn keys(&self, block: usize, columns: usize) -> (&[[K; ROWS]], &[f32; ROWS]) {
        let (piece, at) = (&self.0[block * ROWS / PIECE], block % (PIECE / ROWS));
        (&piece.keys[at * columns..][..columns], &piece.key_scales[at])
    }

    /// The values of the sixteen positions of a block, one after the other, and the scale of each.
    #[inline(always)]
    pub(super) fn values(&self, block: usize, columns: usize) -> (&[[K; ROWS]], &[f32; ROWS]) {
        let (piece, at) = (&self.0[block * ROWS / PIECE], block % (PIECE / ROWS));
        (&piece.values[at * columns..][..columns], &piece.value_scales[at])
    }
}
