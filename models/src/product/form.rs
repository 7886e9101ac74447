//! The forms that matrices are packed in: which bytes of sixteen rows stand where.
//!
//! Blocks are of 32 columns, in the forms with a K eight of them under one scale. A block's bytes are in steps of four columns: 64 bytes,
//! the four of the first row, then the four of the second. Where a byte holds two nibbles, the low one belongs to step `n`, the
//! high one to step `n + 4`. Fifth bits stand in one more run of 64 bytes, bit `n` for step `n`; fifth and sixth bits in two more, two bits for
//! each of four steps. All blocks of sixteen rows come first, then all their scales.

use crate::{gguf::Kind, lanes::ROWS};

/// How a matrix is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Half-precision floats, sixteen rows side by side.
    Half,
    /// Floats.
    Full,
    /// Of Q4_0.
    Four,
    /// Of Q5_0.
    Five,
    /// Of Q8_0, and of kinds that are rare: those are rounded to eight bits once more.
    Eight,
    /// Of Q4_K.
    FourK,
    /// Of Q5_K.
    FiveK,
    /// Of Q6_K.
    SixK,
}

impl Form {
    pub(crate) const fn of(kind: Kind) -> Self {
        match kind {
            Kind::F16 => Self::Half,
            Kind::F32 | Kind::Bf16 => Self::Full,
            Kind::Q4_0 => Self::Four,
            Kind::Q5_0 => Self::Five,
            Kind::Q8_0 | Kind::Q4_1 | Kind::Q5_1 | Kind::Q2K | Kind::Q3K => Self::Eight,
            Kind::Q4K => Self::FourK,
            Kind::Q5K => Self::FiveK,
            Kind::Q6K => Self::SixK,
        }
    }

    /// Whether it is multiplied with rounded activations.
    pub(crate) const fn is_rounded(self) -> bool {
        !matches!(self, Self::Half | Self::Full)
    }

    /// Columns under one scale of the outermost kind.
    pub(super) const fn columns(self) -> usize {
        match self {
            Self::Half | Self::Full => 1,
            Self::Four | Self::Five | Self::Eight => 32,
            Self::FourK | Self::FiveK | Self::SixK => 256,
        }
    }

    /// Bytes of so many columns of sixteen rows: of what is multiplied, and of the scales.
    pub(super) const fn bytes(self) -> (usize, usize) {
        match self {
            Self::Half => (2 * ROWS, 0),
            Self::Full => (4 * ROWS, 0),
            Self::Four => (256, 32),
            Self::Five => (320, 32),
            Self::Eight => (512, 32),
            Self::FourK => (8 * 256, 2 * 32 + 2 * 8 * ROWS),
            Self::FiveK => (8 * 320, 2 * 32 + 2 * 8 * ROWS),
            Self::SixK => (8 * 384, 32 + 16 * ROWS),
        }
    }

    /// Bytes of sixteen rows. The next ones begin where a register can be read at once.
    pub(super) const fn group_bytes(self, columns: usize) -> usize {
        let (body, scales) = self.bytes();
        (columns / self.columns() * (body + scales)).next_multiple_of(64)
    }

    /// The bytes of sixteen rows in two: of what is multiplied, and of the scales.
    #[inline(always)]
    pub(super) fn split(self, group: &[u8]) -> (&[u8], &[u8]) {
        let (body, scales) = self.bytes();
        group.split_at(group.len() / (body + scales) * body)
    }
}
