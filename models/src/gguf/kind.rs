//! How GGUF packs numbers: the kinds of blocks, their sizes, and the numbers they stand for, computed plainly.
//!
//! Kinds and layouts: `ggml_type` in <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; a block's fields are named in
//! <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>. `d` is a block's scale, `m` its minimum.

use half::{bf16, f16};

/// What a tensor's numbers are packed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl Kind {
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// How many numbers stand in a block.
    pub(crate) const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// How many bytes a block takes.
    pub(crate) const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The bytes of a row of so many numbers; `None` when whole blocks do not make it.
    pub(crate) const fn row_bytes(self, columns: usize) -> Option<usize> {
        if columns == 0 || !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (columns / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Unpacks whole blocks; `to` has as many numbers as `from` has packed.
    pub(crate) fn unpack(self, from: &[u8], to: &mut [f32]) {
        let blocks = from.chunks_exact(self.block_bytes()).zip(to.chunks_exact_mut(self.block_len()));
        let unpack: fn(&[u8], &mut [f32]) = match self {
            Self::F32 => |from, to| to[0] = f32::from_le_bytes([from[0], from[1], from[2], from[3]]),
            Self::F16 => |from, to| to[0] = half(from),
            Self::Bf16 => |from, to| to[0] = bf16::from_le_bytes([from[0], from[1]]).to_f32(),
            Self::Q4_0 => |from, to| fours(&from[2..], to, half(from), -8.0 * half(from)),
            Self::Q4_1 => |from, to| fours(&from[4..], to, half(from), half(&from[2..])),
            Self::Q5_0 => |from, to| fives(&from[2..], to, half(from), -16.0 * half(from)),
            Self::Q5_1 => |from, to| fives(&from[4..], to, half(from), half(&from[2..])),
            Self::Q8_0 => |from, to| {
                for (number, byte) in to.iter_mut().zip(&from[2..]) {
                    *number = half(from) * f32::from(byte.cast_signed());
                }
            },
            Self::Q2K => q2k,
            Self::Q3K => q3k,
            Self::Q4K => q4k,
            Self::Q5K => q5k,
            Self::Q6K => q6k,
        };
        for (from, to) in blocks {
            unpack(from, to);
        }
    }
}

/// The half-precision number that some bytes begin with.
pub(crate) fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Low nibbles, then high nibbles.
fn fours(quants: &[u8], to: &mut [f32], scale: f32, offset: f32) {
    let (low, high) = to.split_at_mut(16);
    for (at, byte) in quants[..16].iter().enumerate() {
        low[at] = f32::from(byte & 15).mul_add(scale, offset);
        high[at] = f32::from(byte >> 4).mul_add(scale, offset);
    }
}

/// Four bytes of fifth bits, then nibbles as [`fours`].
fn fives(quants: &[u8], to: &mut [f32], scale: f32, offset: f32) {
    for (at, number) in to.iter_mut().enumerate() {
        *number = f32::from(five(quants, at)).mul_add(scale, offset);
    }
}

/// The `at`-th number of five bits of a block of 32.
fn five(quants: &[u8], at: usize) -> u8 {
    let byte = quants[4 + at % 16];
    let nibble = if at < 16 { byte & 15 } else { byte >> 4 };
    nibble | ((quants[at / 8] >> (at % 8)) & 1) << 4
}

/// The scale and the minimum, of six bits each, of the `at`-th eighth of a block of Q4_K or Q5_K: eight of each in twelve bytes.
pub(crate) fn six_bit_scales(scales: &[u8], at: usize) -> (u8, u8) {
    if at < 4 {
        (scales[at] & 63, scales[at + 4] & 63)
    } else {
        let (low, high) = (scales[at + 4] & 15, scales[at + 4] >> 4);
        (low | (scales[at - 4] >> 6) << 4, high | (scales[at] >> 6) << 4)
    }
}

fn q4k(from: &[u8], to: &mut [f32]) {
    let (d, m) = (half(from), half(&from[2..]));
    for (at, numbers) in to.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = six_bit_scales(&from[4..], at);
        let (scale, minimum) = (d * f32::from(scale), m * f32::from(minimum));
        for (byte, number) in from[16 + at / 2 * 32..].iter().zip(numbers) {
            *number = scale * f32::from((byte >> (at % 2 * 4)) & 15) - minimum;
        }
    }
}

fn q5k(from: &[u8], to: &mut [f32]) {
    let (d, m) = (half(from), half(&from[2..]));
    let (fifth, nibbles) = (&from[16..48], &from[48..]);
    for (at, numbers) in to.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = six_bit_scales(&from[4..], at);
        let (scale, minimum) = (d * f32::from(scale), m * f32::from(minimum));
        for ((byte, bits), number) in nibbles[at / 2 * 32..].iter().zip(fifth).zip(numbers) {
            let value = (byte >> (at % 2 * 4)) & 15 | ((bits >> at) & 1) << 4;
            *number = scale * f32::from(value) - minimum;
        }
    }
}

/// The `at`-th number of six bits, from 0 to 63, of a block of Q6_K; it stands for 32 less.
fn six(block: &[u8], at: usize) -> u8 {
    let (half, quarter, lane) = (at / 128, at % 128 / 32, at % 32);
    let low = block[64 * half + quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 15;
    let high = block[128 + 32 * half + lane] >> (2 * quarter) & 3;
    low | high << 4
}

fn q6k(from: &[u8], to: &mut [f32]) {
    let d = half(&from[208..]);
    for (at, number) in to.iter_mut().enumerate() {
        let scale = d * f32::from(from[192 + at / 16].cast_signed());
        *number = scale * (f32::from(six(from, at)) - 32.0);
    }
}

/// Two bits of a block of Q2_K or Q3_K: 128 numbers take 32 bytes, a quarter of them the same bits of each.
fn two(quants: &[u8], at: usize) -> u8 {
    quants[at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3
}

fn q2k(from: &[u8], to: &mut [f32]) {
    let (d, m) = (half(&from[80..]), half(&from[82..]));
    for (at, number) in to.iter_mut().enumerate() {
        let scale = from[at / 16];
        *number = d * f32::from(scale & 15) * f32::from(two(&from[16..80], at)) - m * f32::from(scale >> 4);
    }
}

fn q3k(from: &[u8], to: &mut [f32]) {
    let d = half(&from[108..]);
    let scales = &from[96..108];
    for (at, number) in to.iter_mut().enumerate() {
        let part = at / 16;
        let low = if part < 8 { scales[part] & 15 } else { scales[part - 8] >> 4 };
        let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let third = from[at % 32] >> (at / 32) & 1;
        *number = scale * (f32::from(two(&from[32..96], at) | third << 2) - 4.0);
    }
}
