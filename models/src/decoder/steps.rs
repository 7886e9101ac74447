//! The steps between the products, written so that the compiler may compute sixteen numbers at once and still every processor
//! computes them in the same order.

use std::ops::Range;

use crate::{
    lanes::{Compute, Lanes, ROWS, exp},
    product::{Sheet, TILE_MAX, Tile},
};

/// What a token's columns go through before they are multiplied.
#[derive(Clone, Copy)]
pub(super) enum Before<'a> {
    /// Divided by their root mean square, times a weight each.
    Norm {
        weights: &'a [[f32; ROWS]],
        epsilon: f32,
    },
    Nothing,
}

/// Prepares the tokens of a tile for a product.
pub(super) struct Round<'a, 'b> {
    pub(super) sheet: &'a Sheet,
    pub(super) before: Before<'a>,
    pub(super) tile: &'a mut Tile<'b>,
}

impl Compute for Round<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, _lanes: L) {
        let Self { sheet, before, tile } = self;
        match before {
            Before::Nothing => tile.round(sheet, |columns, _, _| *columns),
            Before::Norm { weights, epsilon } => {
                let factors = norm_factors(sheet, tile.tokens(), epsilon);
                tile.round(sheet, |columns, group, token| scaled(columns, factors[token], &weights[group]));
            }
        }
    }
}

/// What [`norm_factor`] gives for each token of a tile, computed in the order in which they lie in memory.
#[inline(always)]
fn norm_factors(sheet: &Sheet, tokens: Range<usize>, epsilon: f32) -> [f32; TILE_MAX] {
    let mut squares = [[0.0f32; ROWS]; TILE_MAX];
    for group in 0..sheet.columns() / ROWS {
        for (squares, numbers) in squares.iter_mut().zip(&sheet.group(group)[tokens.clone()]) {
            for lane in 0..ROWS {
                squares[lane] = numbers[lane].mul_add(numbers[lane], squares[lane]);
            }
        }
    }
    squares.map(|squares| factor(&squares, sheet.columns(), epsilon))
}

/// The same, into a sheet of floats.
pub(super) struct Keep<'a> {
    pub(super) sheet: &'a Sheet,
    pub(super) before: Before<'a>,
    pub(super) to: &'a mut Sheet,
}

impl Compute for Keep<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, _lanes: L) {
        self.to.reset(self.sheet.columns(), self.sheet.tokens());
        for token in 0..self.sheet.tokens() {
            let columns = self.to.token_mut(token).zip(self.sheet.token(token));
            match self.before {
                Before::Nothing => columns.for_each(|(to, from)| *to = *from),
                Before::Norm { weights, epsilon } => {
                    let factor = norm_factor(self.sheet.token(token), self.sheet.columns(), epsilon);
                    columns.zip(weights).for_each(|((to, from), weights)| *to = scaled(from, factor, weights));
                }
            }
        }
    }
}

/// One over the root mean square.
#[inline(always)]
pub(super) fn norm_factor<'a>(columns: impl Iterator<Item = &'a [f32; ROWS]>, len: usize, epsilon: f32) -> f32 {
    let mut squares = [0.0f32; ROWS];
    for numbers in columns {
        for lane in 0..ROWS {
            squares[lane] = numbers[lane].mul_add(numbers[lane], squares[lane]);
        }
    }
    factor(&squares, len, epsilon)
}

#[inline(always)]
fn factor(squares: &[f32; ROWS], len: usize, epsilon: f32) -> f32 {
    (squares.iter().sum::<f32>() / len as f32 + epsilon).sqrt().recip()
}

#[inline(always)]
pub(super) fn scaled(numbers: &[f32; ROWS], factor: f32, weights: &[f32; ROWS]) -> [f32; ROWS] {
    std::array::from_fn(|lane| numbers[lane] * factor * weights[lane])
}

#[inline(always)]
pub(super) fn scaled_by(numbers: &[f32; ROWS], factor: f32) -> [f32; ROWS] {
    numbers.map(|number| number * factor)
}

/// How the gate of the feed-forward layer bends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bend {
    /// `x / (1 + e^-x)`.
    Silu,
    /// The approximation of GELU by tanh.
    Gelu,
}

/// Multiplies the bent gate with what comes up.
pub(super) struct Gate<'a> {
    pub(super) bend: Bend,
    pub(super) gate: &'a mut [[f32; ROWS]],
    pub(super) up: &'a [[f32; ROWS]],
}

impl Compute for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, _lanes: L) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            for lane in 0..ROWS {
                let x = gate[lane];
                // gelu(x) = x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 x^3)): tanh and the logistic function are one.
                let inner = match self.bend {
                    Bend::Silu => x,
                    Bend::Gelu => 1.595_769 * (0.044_715 * x * x).mul_add(x, x),
                };
                gate[lane] = x / (1.0 + exp(-inner)) * up[lane];
            }
        }
    }
}

/// Adds what is to be added to each number.
#[inline(always)]
pub(super) fn add(to: &mut [[f32; ROWS]], from: &[[f32; ROWS]]) {
    for (to, from) in to.iter_mut().zip(from) {
        for lane in 0..ROWS {
            to[lane] += from[lane];
        }
    }
}
