//! Short convolutions: each column of a token is mixed with the same column of the few tokens before it, gated before and after, as LFM2
//! has them in place of attention in most layers.

use super::{attention::Run, cache::PIECE};
use crate::lanes::{Compute, Lanes, ROWS};

/// The gated columns of the last tokens, which the next token is mixed with: after the last token of each piece, of which the last is the one
/// that is being filled.
pub(super) struct States {
    /// Sixteens in one: `[column / 16][token]`, the oldest first.
    size: usize,
    pieces: Vec<Box<[[f32; ROWS]]>>,
}

impl States {
    /// Of so many columns, a multiple of 16, of so many tokens.
    pub(super) const fn new(columns: usize, tokens: usize) -> Self {
        Self { size: columns / ROWS * tokens, pieces: Vec::new() }
    }

    /// A copy of those of the first so many pieces.
    pub(super) fn copy(&self, pieces: usize) -> Self {
        Self { size: self.size, pieces: self.pieces[..pieces].to_vec() }
    }

    /// Keeps those of the first so many pieces.
    pub(super) fn truncate(&mut self, pieces: usize) {
        self.pieces.truncate(pieces);
    }

    pub(super) fn bytes(&self) -> usize {
        self.pieces.len() * self.size * size_of::<[f32; ROWS]>()
    }

    /// The state before a token, which is the last, or the first of a piece after them; it becomes the state after the tokens of its piece.
    fn before(&mut self, position: usize) -> &mut [[f32; ROWS]] {
        let at = position / PIECE;
        if position.is_multiple_of(PIECE) {
            self.pieces.truncate(at);
            let state = match self.pieces.last() {
                Some(state) => state.clone(),
                None => vec![[0.0; ROWS]; self.size].into_boxed_slice(),
            };
            self.pieces.push(state);
        }
        &mut self.pieces[at]
    }
}

/// Mixes the tokens of a run.
pub(super) struct Convolve<'a> {
    /// `[column / 16][token]`, that of the token itself last.
    pub(super) taps: &'a [[f32; ROWS]],
    pub(super) states: &'a mut States,
    pub(super) run: Run,
    /// Three parts, each `[column / 16][token]`: what gates before, what gates after, and what is mixed; the mixed columns take the place of
    /// the first.
    pub(super) columns: &'a mut [[f32; ROWS]],
    /// Of all runs.
    pub(super) tokens: usize,
}

impl Compute for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, _lanes: L) {
        let Self { taps, states, run, columns, tokens } = self;
        let (before, rest) = columns.split_at_mut(columns.len() / 3);
        let (after, inner) = rest.split_at(before.len());
        let groups = before.len() / tokens;
        let (taps_len, state_len) = (taps.len() / groups, states.size / groups);
        let mut done = 0;
        while done < run.count {
            let position = run.start + done;
            let count = (PIECE - position % PIECE).min(run.count - done);
            let state = states.before(position);
            for group in 0..groups {
                let tokens = group * tokens + run.first + done..group * tokens + run.first + done + count;
                mix(
                    &taps[group * taps_len..][..taps_len],
                    &mut state[group * state_len..][..state_len],
                    &mut before[tokens.clone()],
                    &after[tokens.clone()],
                    &inner[tokens],
                );
            }
            done += count;
        }
    }
}

/// Sixteen columns of tokens that follow each other.
#[inline(always)]
fn mix(
    taps: &[[f32; ROWS]],
    state: &mut [[f32; ROWS]],
    before: &mut [[f32; ROWS]],
    after: &[[f32; ROWS]],
    inner: &[[f32; ROWS]],
) {
    let (own, taps) = (taps[state.len()], &taps[..state.len()]);
    for ((before, after), inner) in before.iter_mut().zip(after).zip(inner) {
        let new: [f32; ROWS] = std::array::from_fn(|lane| before[lane] * inner[lane]);
        let mut sums: [f32; ROWS] = std::array::from_fn(|lane| new[lane] * own[lane]);
        for (held, tap) in state.iter().zip(taps) {
            for lane in 0..ROWS {
                sums[lane] = held[lane].mul_add(tap[lane], sums[lane]);
            }
        }
        state.copy_within(1.., 0);
        if let Some(last) = state.last_mut() {
            *last = new;
        }
        *before = std::array::from_fn(|lane| after[lane] * sums[lane]);
    }
}
