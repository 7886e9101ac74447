//! Tokens rounded to eight bits, each 64 columns with a scale of their own, and their products with rounded matrices. Sums within 64
//! columns are of whole numbers, which is exact; across them they are taken in one order, on every processor and for any number of tokens.

use super::{
    panels::{Bytes, Floats, STEP, WORDS},
    product::{AHEAD, BUSY, Ends, Out, Then, bend},
};
use crate::{
    lanes::{Compute, Lanes, ROWS, largest},
    product::Sheet,
};

/// Tokens that stand together: a tile of the widest registers.
const TILE: usize = 12;

/// Rounded tokens, in tiles; within a tile `[column / 64][token]`, four columns in each word, the first lowest.
#[derive(Default)]
pub(super) struct Rounded {
    words: Vec<[i32; ROWS]>,
    /// As the words.
    scales: Vec<Scale>,
    /// Runs of 64 columns of a token.
    length: usize,
}

/// What the bytes of 64 columns are multiplied with, and their sum.
#[derive(Debug, Clone, Copy, Default)]
struct Scale {
    step: f32,
    sum: i32,
}

/// A tile that is to be filled.
pub(super) struct Tile<'a> {
    first: usize,
    words: &'a mut [[i32; ROWS]],
    scales: &'a mut [Scale],
}

/// Rounds the tokens of a tile.
pub(super) struct Round<'a, 'b> {
    pub(super) sheet: &'a Sheet,
    pub(super) tile: &'a mut Tile<'b>,
}

impl Rounded {
    /// Makes room for a sheet, and gives the tiles to be filled.
    pub(super) fn reset(&mut self, sheet: &Sheet) -> Vec<Tile<'_>> {
        self.length = sheet.columns().div_ceil(WORDS);
        self.words.resize(self.length * sheet.tokens(), [0; ROWS]);
        self.scales.resize(self.length * sheet.tokens(), Scale::default());
        let words = self.words.chunks_mut(self.length * TILE);
        let tiles = words.zip(self.scales.chunks_mut(self.length * TILE)).enumerate();
        tiles.map(|(at, (words, scales))| Tile { first: at * TILE, words, scales }).collect()
    }

    /// The product of a panel with all tokens.
    #[inline(always)]
    pub(super) fn multiply<L: Lanes>(
        &self,
        lanes: L,
        panel: &[Bytes],
        rows: &Floats,
        ends: Ends<'_>,
        out: &mut Out<'_>,
    ) {
        match L::WIDTH {
            16 => self.tiles::<L, 2, 1, 6>(lanes, panel, rows, ends, out),
            8 => self.tiles::<L, 1, 2, 3>(lanes, panel, rows, ends, out),
            _ if L::IN_TWOS => self.tiles::<L, 1, 4, 4>(lanes, panel, rows, ends, out),
            _ => self.tiles::<L, 1, 4, 3>(lanes, panel, rows, ends, out),
        }
    }

    #[inline(always)]
    fn tiles<L: Lanes, const HALVES: usize, const PARTS: usize, const MOST: usize>(
        &self,
        lanes: L,
        panel: &[Bytes],
        rows: &Floats,
        ends: Ends<'_>,
        out: &mut Out<'_>,
    ) {
        for half in (0..2).step_by(HALVES) {
            let tiles = self.words.chunks(self.length * TILE).zip(self.scales.chunks(self.length * TILE));
            for (at, (words, scales)) in tiles.enumerate() {
                let first = at * TILE;
                let tokens = words.len() / self.length;
                let mut within = 0;
                while within < tokens {
                    let place = first + within;
                    let (low, high) = (&mut out.0[place..], &mut out.1[place..]);
                    let (to, out) = (Ending { scales: rows, ends }, if half == 0 { [low, high] } else { [high, low] });
                    let from = From { words, scales, tokens, within };
                    within += match tokens - within {
                        left if left >= MOST => tile::<L, HALVES, PARTS, MOST>(lanes, panel, half, from, to, out),
                        4.. => tile::<L, HALVES, PARTS, 4>(lanes, panel, half, from, to, out),
                        2.. => tile::<L, HALVES, PARTS, 2>(lanes, panel, half, from, to, out),
                        _ => tile::<L, HALVES, PARTS, 1>(lanes, panel, half, from, to, out),
                    };
                }
            }
        }
    }
}

/// Tokens of a tile.
struct From<'a> {
    words: &'a [[i32; ROWS]],
    scales: &'a [Scale],
    /// How many the tile has, and the first that is meant.
    tokens: usize,
    within: usize,
}

/// What the sums of a panel are multiplied with, and what becomes of them.
#[derive(Clone, Copy)]
struct Ending<'a> {
    scales: &'a Floats,
    ends: Ends<'a>,
}

#[expect(clippy::needless_range_loop, reason = "an index that is known keeps the sums in registers")]
#[inline(always)]
fn tile<L: Lanes, const HALVES: usize, const PARTS: usize, const SIZE: usize>(
    lanes: L,
    panel: &[Bytes],
    half: usize,
    from: From<'_>,
    to: Ending<'_>,
    out: [&mut [[f32; ROWS]]; 2],
) -> usize {
    let [Some(low), Some(high)] = out.map(|out| out.first_chunk_mut::<SIZE>()) else { return SIZE };
    let mut sums = [[[lanes.splat(0.0); PARTS]; HALVES]; SIZE];
    let ahead = if SIZE < BUSY && from.tokens < BUSY { Some(AHEAD) } else { None };
    for (block, steps) in panel.as_chunks::<ROWS>().0.iter().enumerate() {
        let place = block * from.tokens + from.within;
        let (Some(tokens), Some(scales)) = (from.words.get(place..), from.scales.get(place..)) else { break };
        let Some((tokens, scales)) = tokens.first_chunk::<SIZE>().zip(scales.first_chunk::<SIZE>()) else { break };
        let run = Run { steps, half, tokens, scales, ahead };
        let dots = if L::IN_TWOS && SIZE.is_multiple_of(2) {
            run.dots_in_twos::<L, HALVES, PARTS>(lanes)
        } else {
            run.dots::<L, HALVES, PARTS>(lanes)
        };
        for at in 0..SIZE {
            let step = lanes.splat(scales[at].step);
            for half in 0..HALVES {
                for part in 0..PARTS {
                    let dot = lanes.to_float(dots[at][half][part]);
                    sums[at][half][part] = lanes.fused(dot, step, sums[at][half][part]);
                }
            }
        }
    }
    for part in 0..PARTS {
        let first = Row::of(lanes, &to, half, part);
        let second = Row::of(lanes, &to, half + HALVES - 1, part);
        for at in 0..SIZE {
            first.end(lanes, sums[at][0][part], &mut low[at], part);
            if HALVES == 2 {
                second.end(lanes, sums[at][HALVES - 1][part], &mut high[at], part);
            }
        }
    }
    bend(to.ends.then, low);
    if HALVES == 2 {
        bend(to.ends.then, high);
    }
    SIZE
}

/// 64 columns of a panel, and of some tokens.
struct Run<'a, const SIZE: usize> {
    steps: &'a [Bytes; ROWS],
    half: usize,
    tokens: &'a [[i32; ROWS]; SIZE],
    scales: &'a [Scale; SIZE],
    /// Bytes after each step for which the memory is asked, if it is.
    ahead: Option<usize>,
}

#[expect(clippy::needless_range_loop, reason = "an index that is known keeps the sums in registers")]
impl<const SIZE: usize> Run<'_, SIZE> {
    #[inline(always)]
    fn dots<L: Lanes, const HALVES: usize, const PARTS: usize>(&self, lanes: L) -> [[[L::Whole; PARTS]; HALVES]; SIZE] {
        let mut dots = [[[lanes.whole(0); PARTS]; HALVES]; SIZE];
        for at in 0..SIZE {
            dots[at] = [[lanes.whole(-L::BIAS * self.scales[at].sum); PARTS]; HALVES];
        }
        for (lane, step) in self.steps.iter().enumerate() {
            let weights = self.weights::<L, HALVES, PARTS>(lanes, step);
            for at in 0..SIZE {
                let words = [self.tokens[at][lane]];
                for half in 0..HALVES {
                    for part in 0..PARTS {
                        dots[at][half][part] =
                            lanes.dot_wide::<1>(dots[at][half][part], &[weights[half][part]], &words);
                    }
                }
            }
        }
        dots
    }

    /// The same of an even number of tokens, two steps at once.
    #[inline(always)]
    fn dots_in_twos<L: Lanes, const HALVES: usize, const PARTS: usize>(
        &self,
        lanes: L,
    ) -> [[[L::Whole; PARTS]; HALVES]; SIZE] {
        let mut dots = [[[lanes.whole(0); PARTS]; HALVES]; SIZE];
        for at in (0..SIZE).step_by(2) {
            let start = lanes.two([-L::BIAS * self.scales[at].sum, -L::BIAS * self.scales[at + 1].sum]);
            dots[at] = [[start[0]; PARTS]; HALVES];
            dots[at + 1] = [[start[1]; PARTS]; HALVES];
        }
        for (pair, steps) in self.steps.as_chunks::<2>().0.iter().enumerate() {
            let first = self.weights::<L, HALVES, PARTS>(lanes, &steps[0]);
            let last = self.weights::<L, HALVES, PARTS>(lanes, &steps[1]);
            for at in (0..SIZE).step_by(2) {
                let words = [&self.tokens[at].as_chunks().0[pair], &self.tokens[at + 1].as_chunks().0[pair]];
                for half in 0..HALVES {
                    for part in 0..PARTS {
                        let sums = [dots[at][half][part], dots[at + 1][half][part]];
                        let weights = [first[half][part], last[half][part]];
                        [dots[at][half][part], dots[at + 1][half][part]] = lanes.dot_two::<2, 8>(sums, &weights, words);
                    }
                }
            }
        }
        for at in (0..SIZE).step_by(2) {
            for half in 0..HALVES {
                for part in 0..PARTS {
                    [dots[at][half][part], dots[at + 1][half][part]] =
                        lanes.apart([dots[at][half][part], dots[at + 1][half][part]]);
                }
            }
        }
        dots
    }

    /// Four columns of the panel.
    #[inline(always)]
    fn weights<L: Lanes, const HALVES: usize, const PARTS: usize>(
        &self,
        lanes: L,
        step: &Bytes,
    ) -> [[L::Bytes; PARTS]; HALVES] {
        if let Some(ahead) = self.ahead {
            lanes.ask(step, ahead);
            lanes.ask(step, ahead + WORDS);
        }
        let mut weights = [[lanes.bytes(&step[self.half], 0); PARTS]; HALVES];
        for at in 0..HALVES {
            for part in 0..PARTS {
                weights[at][part] = lanes.wide(lanes.bytes(&step[self.half + at], part));
            }
        }
        weights
    }
}

/// What a register of rows makes of its sums.
struct Row<L: Lanes> {
    scale: L::Float,
    bias: L::Float,
    is_added: bool,
}

impl<L: Lanes> Row<L> {
    #[inline(always)]
    fn of(lanes: L, to: &Ending<'_>, half: usize, part: usize) -> Self {
        let mut bias = lanes.splat(0.0);
        if let Some(numbers) = to.ends.bias {
            bias = lanes.load(&numbers[half], part);
        }
        Self { scale: lanes.load(&to.scales[half], part), bias, is_added: to.ends.then == Then::Add }
    }

    #[inline(always)]
    fn end(&self, lanes: L, sum: L::Float, out: &mut [f32; ROWS], part: usize) {
        let there = if self.is_added { lanes.add(self.bias, lanes.load(out, part)) } else { self.bias };
        lanes.store(lanes.fused(sum, self.scale, there), out, part);
    }
}

impl Compute for Round<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) {
        let Self { sheet, tile: Tile { first, words, scales } } = self;
        let (length, groups) = (sheet.columns().div_ceil(WORDS), sheet.columns() / ROWS);
        let tokens = scales.len() / length;
        let runs = words.chunks_exact_mut(tokens).zip(scales.chunks_exact_mut(tokens));
        for (run, (words, scales)) in runs.enumerate() {
            // Columns are a multiple of 32.
            let is_whole = groups - 4 * run >= 4;
            for (token, (words, scale)) in words.iter_mut().zip(scales).enumerate() {
                let columns = |group: usize| &sheet.group(4 * run + group)[*first + token];
                *scale = match is_whole {
                    true => round(lanes, [columns(0), columns(1), columns(2), columns(3)], words),
                    false => round(lanes, [columns(0), columns(1)], words),
                };
            }
        }
    }
}

/// Rounds up to 64 columns of a token; words that none are for are left zero.
#[inline(always)]
fn round<L: Lanes, const GROUPS: usize>(lanes: L, columns: [&[f32; ROWS]; GROUPS], words: &mut [i32; ROWS]) -> Scale {
    let mut sizes = [0.0; ROWS];
    for part in 0..ROWS / L::WIDTH {
        let mut most = lanes.splat(0.0);
        for columns in columns {
            let numbers = lanes.load(columns, part);
            // Comparing so, a number that is none is not the larger.
            most = lanes.larger(lanes.larger(most, numbers), lanes.multiply(numbers, lanes.splat(-1.0)));
        }
        lanes.store(most, &mut sizes, part);
    }
    let largest = largest(sizes);
    // What is as good as nothing, or has no end, rounds to zeros and not to nonsense.
    let is_some = (1e-30..1e30).contains(&largest);
    let (inverse, step) = if is_some { (127.0 / largest, largest / 127.0) } else { (0.0, 0.0) };
    let mut sums = [0i32; ROWS];
    *words = [0; ROWS];
    for (words, columns) in words.as_chunks_mut::<STEP>().0.iter_mut().zip(columns) {
        let whole = rounded(columns, inverse);
        for lane in 0..ROWS {
            sums[lane] += whole[lane];
        }
        *words = packed(&whole);
    }
    Scale { step, sum: sums.iter().sum() }
}

/// Rounds to the nearest whole number, ties to even: adding 1.5 * 2^23 leaves it in the lowest bits.
#[inline(always)]
fn rounded(numbers: &[f32; ROWS], inverse: f32) -> [i32; ROWS] {
    const MAGIC: f32 = 12_582_912.0;
    let mut whole = [0; ROWS];
    for lane in 0..ROWS {
        // A number that is none becomes a zero.
        let number = numbers[lane] * inverse;
        let number = if number.abs() <= 127.5 { number } else { 0.0 };
        whole[lane] = ((number + MAGIC).to_bits() as i32) - MAGIC.to_bits() as i32;
    }
    whole
}

/// Four columns in each word.
#[inline(always)]
fn packed(whole: &[i32; ROWS]) -> [i32; STEP] {
    let mut bytes = [0u8; ROWS];
    for lane in 0..ROWS {
        bytes[lane] = whole[lane] as u8;
    }
    let mut words = [0; STEP];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<STEP>().0) {
        *word = i32::from_le_bytes(*bytes);
    }
    words
}
