//! Products of thirty-two rows with tokens: tiles of as many tokens as the registers hold sums for. A sum is taken column after column,
//! on every processor and for any number of tokens, so all give the same bits.

use super::{
    panels::{Floats, Panel},
    rounded::Rounded,
    steps::gelu,
};
use crate::lanes::{Compute, Lanes, ROWS, fetch};

/// Columns of tokens: `[column / 16][token][column % 16]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) numbers: &'a [[f32; ROWS]],
    /// Tokens side by side.
    pub(super) tokens: usize,
    /// The first that is meant.
    pub(super) first: usize,
}

/// Where sums go: to two groups of sixteen columns, a number for each token that is computed.
pub(super) struct Out<'a>(pub(super) &'a mut [[f32; ROWS]], pub(super) &'a mut [[f32; ROWS]]);

/// What a matrix takes in.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Full(View<'a>),
    Rounded(&'a Rounded),
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    /// x times the share of the normal distribution below x.
    Gelu,
    /// It is added to what is there.
    Add,
}

/// What is added to a product, and what becomes of it.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    /// A number for each row.
    pub(super) bias: Option<&'a Floats>,
    pub(super) then: Then,
}

/// The product of thirty-two rows with all tokens.
pub(super) struct Product<'a> {
    pub(super) panel: Panel<'a>,
    pub(super) bias: &'a Floats,
    pub(super) input: Input<'a>,
    pub(super) then: Then,
    pub(super) out: Out<'a>,
}

impl Compute for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) {
        let Self { panel, bias, input, then, mut out } = self;
        let ends = Ends { bias: Some(bias), then };
        match (panel, input) {
            (Panel::Full(panel), Input::Full(view)) => multiply(lanes, panel, view, ends, &mut out),
            (Panel::Eight(panel, scales), Input::Rounded(rounded)) => {
                rounded.multiply(lanes, panel, scales, ends, &mut out);
            }
            // The encoder rounds for rounded matrices, and for no other.
            _ => debug_assert!(false, "the input is that of the matrix"),
        }
    }
}

/// Bends what a tile gave, while it is near.
#[inline(always)]
pub(super) fn bend(then: Then, out: &mut [[f32; ROWS]]) {
    if then == Then::Gelu {
        // No closure: one that is not inlined has no part in what the processor has.
        for numbers in out {
            *numbers = gelu(numbers);
        }
    }
}

/// The product of a panel with as many tokens as there is room for.
#[inline(always)]
pub(super) fn multiply<L: Lanes>(lanes: L, panel: &[Floats], from: View<'_>, ends: Ends<'_>, out: &mut Out<'_>) {
    match L::WIDTH {
        16 => tiles::<L, 2, 1, 12>(lanes, panel, from, ends, out),
        8 => tiles::<L, 1, 2, 6>(lanes, panel, from, ends, out),
        _ => tiles::<L, 1, 4, 6>(lanes, panel, from, ends, out),
    }
}

/// In tiles of at most `MOST` tokens, `HALVES` of the panel at once, a half in `PARTS` registers.
#[inline(always)]
fn tiles<L: Lanes, const HALVES: usize, const PARTS: usize, const MOST: usize>(
    lanes: L,
    panel: &[Floats],
    from: View<'_>,
    ends: Ends<'_>,
    out: &mut Out<'_>,
) {
    for half in (0..2).step_by(HALVES) {
        let mut at = 0;
        while at < out.0.len() {
            let View { numbers, tokens, first } = from;
            let from = View { numbers, tokens, first: first + at };
            let (low, high) = (&mut out.0[at..], &mut out.1[at..]);
            let out = if half == 0 { [low, high] } else { [high, low] };
            at += match out[0].len() {
                // Four that are left over would wait for the weights.
                16 if MOST == 12 => tile::<L, HALVES, PARTS, 8>(lanes, panel, half, from, ends, out),
                left if left >= MOST => tile::<L, HALVES, PARTS, MOST>(lanes, panel, half, from, ends, out),
                8.. => tile::<L, HALVES, PARTS, 8>(lanes, panel, half, from, ends, out),
                4.. => tile::<L, HALVES, PARTS, 4>(lanes, panel, half, from, ends, out),
                2.. => tile::<L, HALVES, PARTS, 2>(lanes, panel, half, from, ends, out),
                _ => tile::<L, HALVES, PARTS, 1>(lanes, panel, half, from, ends, out),
            };
        }
    }
}

/// How far ahead the memory is asked for when few tokens are multiplied, which takes less time than bringing the weights.
pub(super) const AHEAD: usize = 24 << 10;
/// How far ahead the weights are brought into the first cache for many tokens: a quarter of a small one. Nearer, those that come from
/// memory are waited for: a short text takes half as long again by 1 KB on a Zen 5 core.
const SOON: usize = 8 << 10;
/// Tokens that take longer than their weights do.
pub(super) const BUSY: usize = 12;

/// Brings weights that come soon into the first cache, and what a token has in the next sixteen columns.
#[inline(always)]
fn fetch_soon(column: &Floats, token: Option<&[f32; ROWS]>, tokens: usize) {
    fetch(column, SOON);
    fetch(column, SOON + size_of::<Floats>() / 2);
    if let Some(token) = token {
        fetch(token, size_of_val(token) * tokens);
    }
}

#[expect(clippy::needless_range_loop, reason = "an index that is known keeps the sums in registers")]
#[inline(always)]
fn tile<L: Lanes, const HALVES: usize, const PARTS: usize, const SIZE: usize>(
    lanes: L,
    panel: &[Floats],
    half: usize,
    from: View<'_>,
    ends: Ends<'_>,
    out: [&mut [[f32; ROWS]]; 2],
) -> usize {
    let [Some(low), Some(high)] = out.map(|out| out.first_chunk_mut::<SIZE>()) else { return SIZE };
    let mut sums = [[[lanes.splat(0.0); PARTS]; HALVES]; SIZE];
    for part in 0..PARTS {
        let zero = lanes.splat(0.0);
        let (mut low_bias, mut high_bias) = (zero, zero);
        if let Some(bias) = ends.bias {
            (low_bias, high_bias) = (lanes.load(&bias[half], part), lanes.load(&bias[half + HALVES - 1], part));
        }
        for at in 0..SIZE {
            if ends.then == Then::Add {
                let other = if HALVES == 2 { &high[at] } else { &low[at] };
                sums[at][0][part] = lanes.add(low_bias, lanes.load(&low[at], part));
                sums[at][HALVES - 1][part] = lanes.add(high_bias, lanes.load(other, part));
            } else {
                sums[at][0][part] = low_bias;
                sums[at][HALVES - 1][part] = high_bias;
            }
        }
    }
    let is_short = SIZE < BUSY && from.tokens < BUSY;
    for (block, columns) in panel.chunks(ROWS).enumerate() {
        let Some(tokens) = from.numbers.get(block * from.tokens + from.first..) else { break };
        let Some(tokens) = tokens.first_chunk::<SIZE>() else { break };
        for (lane, column) in columns.iter().enumerate().take(ROWS) {
            if is_short {
                lanes.ask(column, AHEAD);
                lanes.ask(column, AHEAD + size_of::<Floats>() / 2);
            } else {
                fetch_soon(column, tokens.get(lane), from.tokens);
            }
            let mut weights = [[lanes.splat(0.0); PARTS]; HALVES];
            for at in 0..HALVES {
                for part in 0..PARTS {
                    weights[at][part] = lanes.load(&column[half + at], part);
                }
            }
            for at in 0..SIZE {
                let number = lanes.splat(tokens[at][lane]);
                for half in 0..HALVES {
                    for part in 0..PARTS {
                        sums[at][half][part] = lanes.fused(weights[half][part], number, sums[at][half][part]);
                    }
                }
            }
        }
    }
    for at in 0..SIZE {
        for part in 0..PARTS {
            lanes.store(sums[at][0][part], &mut low[at], part);
            if HALVES == 2 {
                lanes.store(sums[at][HALVES - 1][part], &mut high[at], part);
            }
        }
    }
    bend(ends.then, low);
    if HALVES == 2 {
        bend(ends.then, high);
    }
    SIZE
}
