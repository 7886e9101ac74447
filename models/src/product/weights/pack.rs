//! Packs sixteen rows of a file's tensor, and unpacks one of them.

use half::f16;

use super::{Order, ROWS};
use crate::{
    Error,
    gguf::{self, Kind, Rows, six_bit_scales},
    product::form::Form,
};

/// Four bytes of each of sixteen rows.
type Run = [[u8; 4]; ROWS];

/// Memory for the rows of a group, used again for the next one.
#[derive(Default)]
pub(super) struct Room {
    stored: Vec<u8>,
}

/// Reads the rows of a group and packs them into its bytes, which are zero before.
pub(super) fn group(
    form: Form,
    rows: &Rows,
    order: Order,
    group: usize,
    room: &mut Room,
    to: &mut [u8],
) -> Result<(), Error> {
    read(rows, order, group, &mut room.stored)?;
    let again = is_rounded_again(rows.kind).then(|| round_again(rows, &room.stored));
    let stored = again.as_deref().unwrap_or(&room.stored);
    let stored = Stored { row_bytes: stored.len() / ROWS.min(rows.count - group * ROWS), bytes: stored };
    match form {
        Form::Half => stored.columns(to, |from: [u8; 2]| from),
        Form::Full if rows.kind == Kind::F32 => stored.columns(to, |from: [u8; 4]| from),
        Form::Full => stored.columns(to, |[low, high]: [u8; 2]| [0, 0, low, high]),
        Form::Four => stored.blocks(to, four),
        Form::Five => stored.blocks(to, five),
        Form::Eight => stored.blocks(to, eight),
        Form::FourK => stored.blocks(to, four_k),
        Form::FiveK => stored.blocks(to, five_k),
        Form::SixK => stored.blocks(to, six_k),
    }
    Ok(())
}

/// The rows of a group as the file has them, in the order in which they are packed.
fn read(rows: &Rows, order: Order, group: usize, stored: &mut Vec<u8>) -> Result<(), Error> {
    let (first, bytes) = (group * ROWS, rows.row_bytes());
    stored.resize(ROWS.min(rows.count - first) * bytes, 0);
    match order {
        Order::Stored => rows.read(first, stored)?,
        Order::Halves(head) => {
            for (lane, to) in stored.chunks_exact_mut(bytes).enumerate() {
                rows.read(neighbour(head, first + lane), to)?;
            }
        }
    }
    Ok(())
}

/// At most sixteen rows.
struct Stored<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
}

impl Stored<'_> {
    /// Packs blocks of so many bytes into so many runs and bytes of scales. Lengths are known to the compiler, which so makes of each copy
    /// one instruction; and it goes block by block, so that what is written at a time stays near.
    #[inline(always)]
    fn blocks<const BLOCK: usize, const RUNS: usize, const SCALES: usize>(
        &self,
        units: &mut [u8],
        pack: impl Fn(&[u8; BLOCK], usize, &mut [Run; RUNS], &mut [u8; SCALES]),
    ) {
        let size = SCALES + RUNS * size_of::<Run>();
        for (at, unit) in units.chunks_exact_mut(size).enumerate() {
            let Some((scales, body)) = unit.split_first_chunk_mut() else { break };
            let runs = &mut body.as_chunks_mut::<4>().0.as_chunks_mut().0.as_chunks_mut().0[0];
            for (lane, row) in (0..ROWS).zip(self.bytes.chunks_exact(self.row_bytes)) {
                pack(&row.as_chunks().0[at], lane, runs, scales);
            }
        }
    }

    /// Packs numbers of so many bytes, each after `widen`.
    #[inline(always)]
    fn columns<const FROM: usize, const TO: usize>(&self, to: &mut [u8], widen: impl Fn([u8; FROM]) -> [u8; TO]) {
        let columns = to.as_chunks_mut::<TO>().0.as_chunks_mut::<ROWS>().0;
        for (at, to) in columns.iter_mut().enumerate().take(self.row_bytes / FROM) {
            for (to, row) in to.iter_mut().zip(self.bytes.chunks_exact(self.row_bytes)) {
                *to = widen(row.as_chunks().0[at]);
            }
        }
    }
}

/// The row of the tensor that becomes the `row`-th when halves of a head are to turn together and neighbours do in the file.
const fn neighbour(head: usize, row: usize) -> usize {
    let (start, at) = (row / head * head, row % head);
    start + if at < head / 2 { 2 * at } else { 2 * (at - head / 2) + 1 }
}

/// Rows of a kind without a form, as Q8_0.
fn round_again(rows: &Rows, stored: &[u8]) -> Vec<u8> {
    let mut numbers = vec![0.0; stored.len() / rows.row_bytes() * rows.columns];
    rows.kind.unpack(stored, &mut numbers);
    numbers.as_chunks::<32>().0.iter().flat_map(round).collect()
}

/// Kinds that have no form of their own become eight bits.
const fn is_rounded_again(kind: Kind) -> bool {
    matches!(kind, Kind::Q4_1 | Kind::Q5_1 | Kind::Q2K | Kind::Q3K)
}

/// A block of Q8_0.
fn round(numbers: &[f32; 32]) -> [u8; 34] {
    let largest = numbers.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = if scale.to_f32() > 0.0 { scale.to_f32().recip() } else { 0.0 };
    let mut block = [0; 34];
    block[..2].copy_from_slice(&scale.to_le_bytes());
    for (byte, number) in block[2..].iter_mut().zip(numbers) {
        *byte = ((number * inverse).round() as i8).max(-127).cast_unsigned();
    }
    block
}

/// A lane's half-precision scale.
fn put_half(scales: &mut [u8], lane: usize, bytes: [u8; 2]) {
    scales.as_chunks_mut().0[lane] = bytes;
}

/// Four bytes as a word, so that all are shifted and masked at once.
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// Writes 32 nibbles, those of 32 bytes from a bit on.
fn put_nibbles(runs: &mut [Run; 4], lane: usize, bytes: &[[u8; 4]; 8], shift: usize) {
    const LOW: u32 = 0x0f0f_0f0f;
    for (step, run) in runs.iter_mut().enumerate() {
        let (low, high) = (word(bytes[step]) >> shift, word(bytes[4 + step]) >> shift);
        run[lane] = (low & LOW | (high & LOW) << 4).to_le_bytes();
    }
}

/// Writes 32 fifth bits, that bit of 32 bytes.
fn put_fifths(run: &mut Run, lane: usize, bytes: &[[u8; 4]; 8], bit: usize) {
    let mut bits = 0;
    for (step, bytes) in bytes.iter().enumerate() {
        bits |= (word(*bytes) >> bit & 0x0101_0101) << step;
    }
    run[lane] = bits.to_le_bytes();
}

/// Writes 32 pairs of fifth and sixth bits, those of 32 bytes from a bit on.
fn put_sixths(runs: &mut [Run; 2], lane: usize, bytes: &[[u8; 4]; 8], bit: usize) {
    for (run, bytes) in runs.iter_mut().zip(bytes.as_chunks::<4>().0) {
        let mut pairs = 0;
        for (step, bytes) in bytes.iter().enumerate() {
            pairs |= (word(*bytes) >> bit & 0x0303_0303) << (2 * step);
        }
        run[lane] = pairs.to_le_bytes();
    }
}

/// Writes four bytes to each run, which is how the nibbles and the bytes of blocks of 32 lie in the file.
fn put_runs<const RUNS: usize>(runs: &mut [Run; RUNS], lane: usize, bytes: &[[u8; 4]; RUNS]) {
    for (run, bytes) in runs.iter_mut().zip(bytes) {
        run[lane] = *bytes;
    }
}

fn four(from: &[u8; 18], lane: usize, runs: &mut [Run; 4], scales: &mut [u8; 32]) {
    let [low, high, bytes @ ..] = from;
    put_half(scales, lane, [*low, *high]);
    put_runs(runs, lane, words(bytes));
}

fn five(from: &[u8; 22], lane: usize, runs: &mut [Run; 5], scales: &mut [u8; 32]) {
    let [low, high, a, b, c, d, bytes @ ..] = from;
    put_half(scales, lane, [*low, *high]);
    let [nibbles @ .., fifths] = runs;
    put_runs(nibbles, lane, words(bytes));
    // Bit `n` is of column `n`; four columns are a step.
    let bits = word([*a, *b, *c, *d]);
    let at = |byte: usize| (0..8).map(|step| ((bits >> (4 * step + byte) & 1) as u8) << step).sum::<u8>();
    fifths[lane] = [at(0), at(1), at(2), at(3)];
}

fn eight(from: &[u8; 34], lane: usize, runs: &mut [Run; 8], scales: &mut [u8; 32]) {
    let [low, high, bytes @ ..] = from;
    put_half(scales, lane, [*low, *high]);
    put_runs(runs, lane, words(bytes));
}

/// Bytes in fours, of which there are as many as are asked for.
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> &[[u8; 4]; WORDS] {
    const { assert!(BYTES == 4 * WORDS, "all bytes") };
    &bytes.as_chunks().0.as_chunks().0[0]
}

/// The scales of Q4_K and Q5_K, which begin alike: halves, then the blocks' six bits, in [`Form`]'s order.
fn put_scales(from: &[u8; 16], lane: usize, scales: &mut [u8; 256]) {
    let [a, b, c, d, small @ ..] = from;
    put_half(&mut scales[..32], lane, [*a, *b]);
    put_half(&mut scales[32..64], lane, [*c, *d]);
    let mut above = [0; 4];
    let runs: &mut [Run] = scales[64..].as_chunks_mut::<4>().0.as_chunks_mut().0;
    for at in 0..8 {
        let (scale, minimum) = six_bit_scales(small, at);
        runs[at / 4][lane][at % 4] = scale & 15 | minimum << 4;
        above[at % 4] |= (scale >> 4) << (2 * (at / 4)) | (minimum >> 4) << (4 + 2 * (at / 4));
    }
    runs[2][lane] = above;
}

fn four_k(from: &[u8; 144], lane: usize, runs: &mut [Run; 32], scales: &mut [u8; 256]) {
    put_scales(&from.as_chunks().0[0], lane, scales);
    let nibbles = from[16..].as_chunks().0.as_chunks().0;
    for (at, runs) in runs.as_chunks_mut().0.iter_mut().enumerate() {
        put_nibbles(runs, lane, &nibbles[at / 2], at % 2 * 4);
    }
}

fn five_k(from: &[u8; 176], lane: usize, runs: &mut [Run; 40], scales: &mut [u8; 256]) {
    put_scales(&from.as_chunks().0[0], lane, scales);
    let words = from[16..].as_chunks().0.as_chunks().0;
    for (at, runs) in runs.as_chunks_mut::<5>().0.iter_mut().enumerate() {
        let [nibbles @ .., fifths] = runs;
        put_nibbles(nibbles, lane, &words[1 + at / 2], at % 2 * 4);
        put_fifths(fifths, lane, &words[0], at);
    }
}

fn six_k(from: &[u8; 210], lane: usize, runs: &mut [Run; 48], scales: &mut [u8; 288]) {
    put_half(scales, lane, [from[208], from[209]]);
    for (at, scale) in from[192..208].iter().enumerate() {
        scales[32 + ROWS * at + lane] = *scale;
    }
    let words = from[..192].as_chunks().0.as_chunks().0;
    for (at, runs) in runs.as_chunks_mut::<6>().0.iter_mut().enumerate() {
        let (half, quarter) = (at / 4, at % 4);
        let [nibbles @ .., _, _] = &mut *runs;
        put_nibbles(nibbles, lane, &words[2 * half + quarter % 2], quarter / 2 * 4);
        let [_, _, _, _, pairs @ ..] = runs;
        put_sixths(pairs, lane, &words[4 + half], 2 * quarter);
    }
}

/// Unpacks a lane of a group.
pub(super) fn unpack(form: Form, group: &[u8], lane: usize, to: &mut [f32]) {
    let (scale_bytes, body_bytes) = form.unit();
    for (unit, to) in group.chunks_exact(scale_bytes + body_bytes).zip(to.chunks_exact_mut(form.columns())) {
        let (scales, body) = unit.split_at(scale_bytes);
        let half = |run: usize| gguf::half(&scales[32 * run + 2 * lane..]);
        let block = body_bytes / to.len().div_ceil(32);
        for (at, to) in to.chunks_mut(32).enumerate() {
            let body = &body[at * block..][..block];
            for (column, number) in to.iter_mut().enumerate() {
                *number = match form {
                    Form::Half => gguf::half(&body[2 * lane..]),
                    Form::Full => {
                        f32::from_le_bytes([body[4 * lane], body[4 * lane + 1], body[4 * lane + 2], body[4 * lane + 3]])
                    }
                    Form::Four => half(0) * (f32::from(nibble(body, lane, column)) - 8.0),
                    Form::Five => half(0) * (f32::from(with_fifth(body, lane, column)) - 16.0),
                    Form::Eight => half(0) * f32::from(body[column / 4 * 64 + 4 * lane + column % 4].cast_signed()),
                    Form::FourK | Form::FiveK => {
                        let value = if form == Form::FourK {
                            nibble(body, lane, column)
                        } else {
                            with_fifth(body, lane, column)
                        };
                        let (scale, minimum) = small_scales(scales, lane, at);
                        half(0) * f32::from(scale) * f32::from(value) - half(1) * f32::from(minimum)
                    }
                    Form::SixK => {
                        let scale =
                            half(0) * f32::from(scales[32 + ROWS * (2 * at + column / 16) + lane].cast_signed());
                        let run = &body[256 + column / 16 * 64..];
                        let high = run[4 * lane + column % 4] >> (column % 16 / 4 * 2) & 3;
                        scale * (f32::from(nibble(body, lane, column) | high << 4) - 32.0)
                    }
                };
            }
        }
    }
}

/// What `put_scales` wrote for a block: of the weights, and of the minimum.
fn small_scales(scales: &[u8], lane: usize, at: usize) -> (u8, u8) {
    let run = |run: usize| scales[64 * (1 + run) + 4 * lane + at % 4];
    let (low, above) = (run(at / 4), run(2) >> (2 * (at / 4)));
    (low & 15 | (above & 3) << 4, low >> 4 | (above >> 4 & 3) << 4)
}

fn nibble(body: &[u8], lane: usize, column: usize) -> u8 {
    body[column % 16 / 4 * 64 + 4 * lane + column % 4] >> (column / 16 * 4) & 15
}

fn with_fifth(body: &[u8], lane: usize, column: usize) -> u8 {
    nibble(body, lane, column) | (body[256 + 4 * lane + column % 4] >> (column / 4) & 1) << 4
}
