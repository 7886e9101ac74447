//! The logits, of all tokens or of those alone that may come next: a small model spends a quarter of its time on them.

use super::{Decoder, Engine, attention::Run, norm};
use crate::{lanes::ROWS, product::Input};

/// A word says of two groups of rows which of them are wanted.
const _: () = assert!(2 * ROWS == u32::BITS as usize);

impl Decoder {
    /// The groups of rows of the output that any of the runs wants; `None` when some want all, or most.
    pub(super) fn wanted_groups<'a>(&self, wanted: impl Iterator<Item = Option<&'a [u32]>>) -> Option<Vec<usize>> {
        let mut union: Vec<u32> = Vec::new();
        for bits in wanted {
            let bits = bits?;
            union.resize(union.len().max(bits.len()), 0);
            union.iter_mut().zip(bits).for_each(|(to, bits)| *to |= bits);
        }
        let has = |word: u32, half: usize| word >> (ROWS * half) & 0xffff != 0;
        let halves =
            union.iter().enumerate().flat_map(|(at, word)| [(2 * at, has(*word, 0)), (2 * at + 1, has(*word, 1))]);
        let groups = self.output.groups();
        let found: Vec<usize> = halves.filter(|(group, has)| *has && *group < groups).map(|(group, _)| group).collect();
        (4 * found.len() < 3 * groups).then_some(found)
    }

    /// The logits of each run's last token; with `wanted` of those groups of rows alone.
    pub(super) fn logits(&self, engine: &mut Engine, runs: &[Run], wanted: Option<&[usize]>) -> Vec<Vec<f32>> {
        if wanted.is_some_and(<[_]>::is_empty) {
            return vec![Vec::new(); runs.len()];
        }
        let Engine { pool, hidden: state, normed, rounded, delta, inner, .. } = engine;
        // The last token of each run.
        delta.reset(self.sizes.hidden, runs.len());
        for (at, run) in runs.iter().enumerate() {
            for (to, from) in delta.token_mut(at).zip(state.token(run.first + run.count - 1)) {
                *to = *from;
            }
        }
        let matrix = std::slice::from_ref(&self.output);
        self.prepare(pool, delta, norm(&self.norm, self.sizes.epsilon), normed, rounded, matrix);
        let (input, groups) = (Input { sheet: normed, rounded }, self.output.groups());
        let Some(wanted) = wanted else {
            inner.reset(groups * ROWS, runs.len());
            self.multiply(pool, matrix, input, inner);
            let logits = |at| inner.token(at).flatten().copied().take(self.output.rows).collect();
            return (0..runs.len()).map(logits).collect();
        };
        inner.reset(wanted.len() * ROWS, runs.len());
        let each = self.groups_each(pool, wanted.len(), wanted.len() * self.output.group_bytes());
        pool.pieces(inner.all_mut(), each * runs.len(), |piece, out| {
            for (group, out) in wanted[piece * each..].iter().zip(out.chunks_exact_mut(runs.len())) {
                self.product(&self.output, *group, input, out);
            }
        });
        let logits = |at| {
            let mut logits = vec![f32::NEG_INFINITY; groups * ROWS];
            for (group, numbers) in wanted.iter().zip(inner.token(at)) {
                logits[group * ROWS..][..ROWS].copy_from_slice(numbers);
            }
            logits.truncate(self.output.rows);
            logits
        };
        (0..runs.len()).map(logits).collect()
    }
}
