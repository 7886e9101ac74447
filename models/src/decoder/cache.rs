//! The keys and values of the tokens so far, in half precision, taken in pieces as they are needed and never moved.

use crate::lanes::{Lanes, ROWS};

/// Positions in a piece.
pub(super) const PIECE: usize = 64;

/// The keys and values of one head of one layer.
#[derive(Default)]
pub(super) struct Head {
    pieces: Vec<Piece>,
}

struct Piece {
    /// Sixteen positions side by side: `[position / 16][column][position % 16]`.
    keys: Box<[[u16; ROWS]]>,
    /// Sixteen columns side by side: `[position][column / 16][column % 16]`.
    values: Box<[[u16; ROWS]]>,
}

impl Head {
    /// Writes the key and value of a position; those before it were written.
    #[inline(always)]
    pub(super) fn write<'a, L: Lanes>(
        &mut self,
        lanes: L,
        position: usize,
        key: &[[f32; ROWS]],
        value: impl Iterator<Item = &'a [f32; ROWS]>,
    ) {
        let size = PIECE * key.len();
        if position / PIECE >= self.pieces.len() {
            let empty = || vec![[0; ROWS]; size].into_boxed_slice();
            self.pieces.push(Piece { keys: empty(), values: empty() });
        }
        let piece = &mut self.pieces[position / PIECE];
        let at = position % PIECE;
        let keys = &mut piece.keys[at / ROWS * ROWS * key.len()..][..ROWS * key.len()];
        for (columns, key) in keys.chunks_exact_mut(ROWS).zip(key) {
            let key = halves(lanes, key);
            for (column, key) in columns.iter_mut().zip(key) {
                column[at % ROWS] = key;
            }
        }
        for (to, value) in piece.values[at * key.len()..].iter_mut().zip(value).take(key.len()) {
            *to = halves(lanes, value);
        }
    }

    /// The keys of sixteen positions, each column of them side by side.
    #[inline(always)]
    pub(super) fn keys(&self, block: usize, columns: usize) -> &[[u16; ROWS]] {
        let piece = &self.pieces[block * ROWS / PIECE];
        &piece.keys[block % (PIECE / ROWS) * columns..][..columns]
    }

    /// The values of the sixteen positions of a block, one after the other.
    #[inline(always)]
    pub(super) fn values(&self, block: usize, columns: usize) -> &[[u16; ROWS]] {
        let piece = &self.pieces[block * ROWS / PIECE];
        &piece.values[block % (PIECE / ROWS) * columns..][..columns]
    }
}

#[inline(always)]
fn halves<L: Lanes>(lanes: L, numbers: &[f32; ROWS]) -> [u16; ROWS] {
    let mut halves = [0; ROWS];
    for part in 0..ROWS / L::WIDTH {
        lanes.keep(lanes.load(numbers, part), &mut halves, part);
    }
    halves
}
