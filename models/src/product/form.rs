//! The forms that matrices are packed in: which bytes of sixteen rows stand where.
//!
//! Blocks are of 32 columns, in the forms with a K eight of them under one scale. A block's bytes are in steps of four columns: 64 bytes,
//! the four of the first row, then the four of the second. Where a byte holds two nibbles, the low one belongs to step `n`, the
//! high one to step `n + 4`. Fifth bits stand in one more run of 64 bytes, bit `n` for step `n`; fifth and sixth bits in two more, two bits for
//! each of four steps. The scales of a unit (a block, or the eight of a K form) come right before it, so that sixteen rows
//! are one stream.
//!
//! The scales of eight blocks in FourK and FiveK take as many bytes as in the file: two half-precision floats for each row, then three runs
//! of 64 bytes, of four bytes a row. A byte of the first run has the low four bits of a block's scale and above them those of its minimum,
//! for blocks 0 to 3; the second for blocks 4 to 7. A byte of the third has the two bits above, from the lowest bit on of the scales
//! of blocks `n` and `n + 4`, then of their minima.

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

    /// Bytes of a unit, so many columns of sixteen rows: of the scales, which come first, and of what they scale.
    pub(super) const fn unit(self) -> (usize, usize) {
        match self {
            Self::Half => (0, 2 * ROWS),
            Self::Full => (0, 4 * ROWS),
            Self::Four => (32, 256),
            Self::Five => (32, 320),
            Self::Eight => (32, 512),
            Self::FourK => (4 * 64, 8 * 256),
            Self::FiveK => (4 * 64, 8 * 320),
            Self::SixK => (32 + 16 * ROWS, 8 * 384),
        }
    }

    /// Bytes of sixteen rows. The next ones begin where a register can be read at once.
    pub(super) const fn group_bytes(self, columns: usize) -> usize {
        let (scales, body) = self.unit();
        (columns / self.columns() * (scales + body)).next_multiple_of(64)
    }
}
