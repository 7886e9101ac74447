//! Attention, held to plain arithmetic, and to itself however queries are computed together.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    decoder::{
        Cache,
        attention::{Attend, Remember, Run, Turn},
        cache::Head,
    },
    lanes::{Processor, ROWS},
};

/// What some heads that look at the same keys and values are given.
#[derive(Debug)]
struct Case {
    heads: usize,
    /// Sixteens of columns of a head.
    groups: usize,
    run: Run,
    window: usize,
    /// `[head][column / 16][token]`
    queries: Vec<[f32; ROWS]>,
    /// `[column / 16][position]`
    keys: Vec<[f32; ROWS]>,
    values: Vec<[f32; ROWS]>,
}

impl Case {
    /// Of sixty-fourths, which half precision keeps as they are.
    fn random(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (heads, groups) = (random.random_range(1..=9), random.random_range(1..=6));
        let (count, start) = (random.random_range(1..=13), random.random_range(0..150));
        let run = Run { first: 0, count, start };
        let window = if random.random() { usize::MAX } else { random.random_range(1..100) };
        let mut numbers = |len: usize| -> Vec<[f32; ROWS]> {
            (0..len).map(|_| std::array::from_fn(|_| f32::from(random.random_range(-64i16..=64)) / 64.0)).collect()
        };
        let positions = start + count;
        let (queries, keys) = (numbers(heads * groups * count), numbers(groups * positions));
        Self { heads, groups, run, window, queries, keys, values: numbers(groups * positions) }
    }

    /// The mixed values, the heads taken so many at a time.
    fn mixed(&self, processor: Processor, cache: Cache, sharing: usize) -> Vec<[f32; ROWS]> {
        let &Self { groups, run, window, .. } = self;
        let turn = Turn { norm: None, angles: &[], turning: 0 };
        let mut head = Head::new(cache);
        let tokens = run.start + run.count;
        let all = Run { first: 0, count: tokens, start: 0 };
        let (keys, values) = (&self.keys, &self.values);
        processor.compute(Remember { head: &mut head, turn, run: all, tokens, keys, values });
        let mut columns = self.queries.clone();
        for columns in columns.chunks_mut(sharing * groups * run.count) {
            let sharing = columns.len() / groups / run.count;
            processor.compute(Attend {
                head: &head,
                sharing,
                turn,
                scale: 0.3,
                window,
                run,
                columns,
                tokens: run.count,
            });
        }
        columns
    }

    /// What attention is: values weighted by the shares of e to the power of how well keys fit.
    fn plainly(&self) -> Vec<[f64; ROWS]> {
        let mut mixed = vec![[0.0; ROWS]; self.queries.len()];
        let (count, positions) = (self.run.count, self.run.start + self.run.count);
        for head in 0..self.heads {
            for token in 0..count {
                let query = |group: usize| &self.queries[(head * self.groups + group) * count + token];
                let end = self.run.start + token + 1;
                let seen = end.saturating_sub(self.window)..end;
                let fit = |position: usize| {
                    let products = (0..self.groups)
                        .flat_map(|group| query(group).iter().zip(&self.keys[group * positions + position]))
                        .map(|(query, key)| f64::from(*query) * f64::from(*key));
                    (products.sum::<f64>() * 0.3).exp()
                };
                let weights: Vec<f64> = seen.clone().map(fit).collect();
                let sum: f64 = weights.iter().sum();
                for group in 0..self.groups {
                    let to = &mut mixed[(head * self.groups + group) * count + token];
                    for (position, weight) in seen.clone().zip(&weights) {
                        for (to, value) in to.iter_mut().zip(&self.values[group * positions + position]) {
                            *to += weight / sum * f64::from(*value);
                        }
                    }
                }
            }
        }
        mixed
    }
}

fn bits(numbers: &[[f32; ROWS]]) -> Vec<u32> {
    numbers.as_flattened().iter().map(|number| number.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_are_mixed_by_their_shares(seed: u64) {
        let case = Case::random(seed);
        let (found, expected) = (case.mixed(Processor::detect(), Cache::Half, case.heads), case.plainly());
        for (found, expected) in found.as_flattened().iter().zip(expected.as_flattened()) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn heads_computed_together_have_the_bits_of_each_alone(seed: u64) {
        let case = Case::random(seed);
        for cache in [Cache::Half, Cache::Eight] {
            let alone = bits(&case.mixed(Processor::Plain, cache, 1));
            for processor in Processor::all() {
                for sharing in 1..=case.heads {
                    let found = bits(&case.mixed(processor, cache, sharing));
                    prop_assert!(found == alone, "{} {cache:?}, {sharing} of {} at a time", processor.name(), case.heads);
                }
            }
        }
    }
}
