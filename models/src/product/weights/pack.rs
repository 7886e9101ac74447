//! Packs sixteen rows of a file's tensor, and unpacks one of them.

use half::f16;

use super::{Order, ROWS};
use crate::{
    Error,
    gguf::{self, Kind, Rows, six_bit_scales},
    product::form::Form,
};

/// Reads the rows of a group and packs them into its bytes, which are zero before.
pub(super) fn group(form: Form, rows: &Rows, order: Order, group: usize, to: &mut [u8]) -> Result<(), Error> {
    let (body_bytes, scale_bytes) = form.bytes();
    let blocks = rows.columns / form.columns();
    let (body, scales) = to.split_at_mut(blocks * body_bytes);
    let stored = read(rows, order, group)?;
    let stored = if is_rounded_again(rows.kind) { round_again(rows, &stored) } else { stored };
    let row_bytes = stored.len() / ROWS.min(rows.count - group * ROWS);
    let block_bytes = row_bytes / blocks;
    // Block by block, so that what is written at a time stays near.
    for at in 0..blocks {
        let body = &mut body[at * body_bytes..][..body_bytes];
        let scales = &mut scales[at * scale_bytes..][..scale_bytes];
        for (lane, row) in stored.chunks_exact(row_bytes).enumerate() {
            let from = &row[at * block_bytes..][..block_bytes];
            match form {
                Form::Half => put(body, lane, from),
                Form::Full if rows.kind == Kind::F32 => put(body, lane, from),
                Form::Full => put(body, lane, &[0, 0, from[0], from[1]]),
                Form::Four => four(from, lane, body, scales),
                Form::Five => whole_five(from, lane, body, scales),
                Form::Eight => eight(from, lane, body, scales),
                Form::FourK => four_k(from, lane, body, scales),
                Form::FiveK => five_k(from, lane, body, scales),
                Form::SixK => six_k(from, lane, body, scales),
            }
        }
    }
    Ok(())
}

/// The rows of a group as the file has them, in the order in which they are packed.
fn read(rows: &Rows, order: Order, group: usize) -> Result<Vec<u8>, Error> {
    let (first, bytes) = (group * ROWS, rows.row_bytes());
    let count = ROWS.min(rows.count - first);
    let mut stored = vec![0; count * bytes];
    match order {
        Order::Stored => rows.read(first, &mut stored)?,
        Order::Halves(head) => {
            for (lane, to) in stored.chunks_exact_mut(bytes).enumerate() {
                rows.read(neighbour(head, first + lane), to)?;
            }
        }
    }
    Ok(stored)
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

/// Writes a lane's bytes of a run in which each lane has as many.
fn put(run: &mut [u8], lane: usize, bytes: &[u8]) {
    run[lane * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
}

/// Four bytes as a word, so that all are shifted and masked at once.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes 32 nibbles, those of 32 bytes from a bit on.
fn put_nibbles(body: &mut [u8], lane: usize, bytes: &[u8], shift: usize) {
    const LOW: u32 = 0x0f0f_0f0f;
    for (step, run) in body.chunks_exact_mut(64).take(4).enumerate() {
        let (low, high) = (word(bytes, 4 * step) >> shift, word(bytes, 16 + 4 * step) >> shift);
        put(run, lane, &(low & LOW | (high & LOW) << 4).to_le_bytes());
    }
}

/// Writes 32 fifth bits, that bit of 32 bytes.
fn put_fifths(run: &mut [u8], lane: usize, bytes: &[u8], bit: usize) {
    let word = (0..8).map(|step| (word(bytes, 4 * step) >> bit & 0x0101_0101) << step).fold(0, |a, b| a | b);
    put(run, lane, &word.to_le_bytes());
}

/// Writes 32 pairs of fifth and sixth bits, those of 32 bytes from a bit on.
fn put_sixths(runs: &mut [u8], lane: usize, bytes: &[u8], bit: usize) {
    for (half, run) in runs.chunks_exact_mut(64).enumerate() {
        let pairs = |step: usize| (word(bytes, 16 * half + 4 * step) >> bit & 0x0303_0303) << (2 * step);
        put(run, lane, &(0..4).map(pairs).fold(0, |a, b| a | b).to_le_bytes());
    }
}

fn four(from: &[u8], lane: usize, body: &mut [u8], scales: &mut [u8]) {
    put(scales, lane, &from[..2]);
    put_runs(body, lane, &from[2..]);
}

/// Writes four bytes to each run, which is how the nibbles and the bytes of blocks of 32 lie in the file.
fn put_runs(body: &mut [u8], lane: usize, bytes: &[u8]) {
    for (run, bytes) in body.chunks_exact_mut(64).zip(bytes.chunks_exact(4)) {
        put(run, lane, bytes);
    }
}

fn whole_five(from: &[u8], lane: usize, body: &mut [u8], scales: &mut [u8]) {
    put(scales, lane, &from[..2]);
    put_runs(body, lane, &from[6..]);
    // Bit `n` is of column `n`; four columns are a step.
    let bits = word(from, 2);
    let at = |byte: usize| (0..8).map(|step| ((bits >> (4 * step + byte) & 1) as u8) << step).sum::<u8>();
    put(&mut body[256..], lane, &[at(0), at(1), at(2), at(3)]);
}

fn eight(from: &[u8], lane: usize, body: &mut [u8], scales: &mut [u8]) {
    put(scales, lane, &from[..2]);
    put_runs(body, lane, &from[2..]);
}

/// The scales of Q4_K and Q5_K, which begin alike.
fn put_scales(from: &[u8], lane: usize, scales: &mut [u8]) {
    put(scales, lane, &from[..2]);
    put(&mut scales[32..], lane, &from[2..4]);
    for at in 0..8 {
        let (scale, minimum) = six_bit_scales(&from[4..], at);
        scales[64 + ROWS * at + lane] = scale;
        scales[64 + ROWS * (8 + at) + lane] = minimum;
    }
}

fn four_k(from: &[u8], lane: usize, body: &mut [u8], scales: &mut [u8]) {
    put_scales(from, lane, scales);
    for (at, body) in body.chunks_exact_mut(256).enumerate() {
        put_nibbles(body, lane, &from[16 + at / 2 * 32..][..32], at % 2 * 4);
    }
}

fn five_k(from: &[u8], lane: usize, body: &mut [u8], scales: &mut [u8]) {
    put_scales(from, lane, scales);
    for (at, body) in body.chunks_exact_mut(320).enumerate() {
        put_nibbles(body, lane, &from[48 + at / 2 * 32..][..32], at % 2 * 4);
        put_fifths(&mut body[256..], lane, &from[16..48], at);
    }
}

fn six_k(from: &[u8], lane: usize, body: &mut [u8], scales: &mut [u8]) {
    put(scales, lane, &from[208..]);
    for (at, scale) in from[192..208].iter().enumerate() {
        scales[32 + ROWS * at + lane] = *scale;
    }
    for (at, body) in body.chunks_exact_mut(384).enumerate() {
        let (half, quarter) = (at / 4, at % 4);
        put_nibbles(body, lane, &from[64 * half + quarter % 2 * 32..][..32], quarter / 2 * 4);
        put_sixths(&mut body[256..], lane, &from[128 + 32 * half..][..32], 2 * quarter);
    }
}

/// Unpacks a lane of a group.
pub(super) fn unpack(form: Form, group: &[u8], lane: usize, to: &mut [f32]) {
    let (body_bytes, scale_bytes) = form.bytes();
    let (body, scales) = group.split_at(to.len() / form.columns() * body_bytes);
    for (at, to) in to.chunks_exact_mut(form.columns()).enumerate() {
        let body = &body[at * body_bytes..][..body_bytes];
        let scales = &scales[at * scale_bytes..][..scale_bytes];
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
                        let scale = half(0) * f32::from(scales[64 + ROWS * at + lane]);
                        let minimum = half(1) * f32::from(scales[64 + ROWS * (8 + at) + lane]);
                        scale * f32::from(value) - minimum
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

fn nibble(body: &[u8], lane: usize, column: usize) -> u8 {
    body[column % 16 / 4 * 64 + 4 * lane + column % 4] >> (column / 16 * 4) & 15
}

fn with_fifth(body: &[u8], lane: usize, column: usize) -> u8 {
    nibble(body, lane, column) | (body[256 + 4 * lane + column % 4] >> (column / 4) & 1) << 4
}
