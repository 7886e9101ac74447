//! Products of packed matrices with the activations of several tokens.
//!
//! A matrix is packed anew when it is loaded: sixteen rows side by side, four columns of each after the other, so that a register holds
//! a bit of every row, the sums never leave their lanes, and a stream of tokens reads the memory once from front to back.
//! Activations are rounded to eight bits in blocks of 32, each with its own scale; matrices of whole floats take them as they are.

mod activations;
mod ask;
mod floats;
mod form;
mod quants;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use activations::{Activations, Sheet, TILE_MAX, Tile};
pub(crate) use ask::Pace;
pub(crate) use form::Form;
pub(crate) use weights::{Matrix, Order, Plan, Weights};

use crate::lanes::{Compute, Lanes, ROWS};

/// What a product takes in: the numbers, and the same rounded to blocks where a matrix wants that.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) sheet: &'a Sheet,
    pub(crate) rounded: &'a Activations,
}

/// The product of sixteen rows with all tokens.
pub(crate) struct Product<'a> {
    pub(crate) form: Form,
    /// The sixteen rows.
    pub(crate) group: &'a [u8],
    pub(crate) input: Input<'a>,
    /// One array for each token.
    pub(crate) out: &'a mut [[f32; ROWS]],
}

impl Compute for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) {
        let Self { form, group, input, out } = self;
        match form {
            Form::Half => floats::product::<L, floats::Half>(lanes, group, input, out),
            Form::Full => floats::product::<L, floats::Full>(lanes, group, input, out),
            Form::Four => quants::product::<L, quants::Four>(lanes, group, input.rounded, out),
            Form::Five => quants::product::<L, quants::Five>(lanes, group, input.rounded, out),
            Form::Eight => quants::product::<L, quants::Eight>(lanes, group, input.rounded, out),
            Form::FourK => quants::product::<L, quants::FourK>(lanes, group, input.rounded, out),
            Form::FiveK => quants::product::<L, quants::FiveK>(lanes, group, input.rounded, out),
            Form::SixK => quants::product::<L, quants::SixK>(lanes, group, input.rounded, out),
        }
    }
}
