//! Attention, norms and what bends, held to plain arithmetic and to each other on everything that this processor has.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    encoder::{
        attention::{Attend, Run},
        steps::{Norm, gelu},
    },
    lanes::{Compute, Lanes, Processor, ROWS},
    product::Sheet,
};

/// Numbers of so many tokens.
fn random_tokens(random: &mut StdRng, tokens: usize, columns: usize) -> Vec<Vec<f32>> {
    let number = |random: &mut StdRng| match random.random_range(0..50) {
        0 => 0.0,
        1 => 5.0,
        2 => -5.0,
        _ => random.random_range(-1.0f32..1.0),
    };
    (0..tokens).map(|_| (0..columns).map(|_| number(random)).collect()).collect()
}

fn columns_of(sheet: &Sheet) -> Vec<Vec<f32>> {
    (0..sheet.tokens()).map(|at| sheet.token(at).flatten().copied().collect()).collect()
}

fn same(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    a.iter().flatten().map(|number| number.to_bits()).eq(b.iter().flatten().map(|number| number.to_bits()))
}

/// One head's queries, keys and values of several texts.
struct Head {
    lengths: Vec<usize>,
    /// Queries, keys, values.
    numbers: [Vec<Vec<f32>>; 3],
}

impl Head {
    fn mixed_by(&self, processor: Processor) -> Vec<Vec<f32>> {
        let [mut queries, keys, values] = self.numbers.each_ref().map(|numbers| Sheet::from_columns(numbers));
        let mut runs: Vec<Run> = Vec::new();
        for &count in &self.lengths {
            runs.push(Run { first: runs.last().map_or(0, |run| run.first + run.count), count });
        }
        let tokens = queries.tokens();
        let (keys, values) = (keys.all(), values.all());
        processor.compute(Attend { runs: &runs, tokens, queries: queries.all_mut(), keys, values });
        columns_of(&queries)
    }

    /// The tokens of each text.
    fn texts(&self) -> Vec<Self> {
        let mut first = 0;
        let text = |&count: &usize| {
            first += count;
            let numbers = self.numbers.each_ref().map(|numbers| numbers[first - count..first].to_vec());
            Self { lengths: vec![count], numbers }
        };
        self.lengths.iter().map(text).collect()
    }

    /// What attention is: values weighted by the shares of e to the power of how well keys fit.
    fn plainly(&self) -> Vec<Vec<f64>> {
        let [queries, keys, values] = &self.numbers;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let one = |query: &Vec<f32>| {
            let fits: Vec<f64> = keys.iter().map(|key| dot(query, key)).collect();
            let best = fits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = fits.iter().map(|fit| (fit - best).exp()).collect();
            let total: f64 = weights.iter().sum();
            let column = |at: usize| {
                weights.iter().zip(values).map(|(weight, value)| weight * f64::from(value[at])).sum::<f64>()
            };
            (0..query.len()).map(|at| column(at) / total).collect()
        };
        queries.iter().map(one).collect()
    }
}

struct Bend([f32; ROWS]);

impl Compute for Bend {
    type Output = [f32; ROWS];

    #[inline(always)]
    fn on<L: Lanes>(self, _lanes: L) -> [f32; ROWS] {
        gelu(&self.0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attention_is_right_and_the_same_on_all_processors(seed in any::<u64>()) {
        let mut random = StdRng::seed_from_u64(seed);
        let lengths: Vec<usize> = (0..random.random_range(1..4)).map(|_| random.random_range(1..70)).collect();
        let columns = 2 * ROWS * random.random_range(1..3);
        let tokens = lengths.iter().sum();
        let head = Head { lengths, numbers: std::array::from_fn(|_| random_tokens(&mut random, tokens, columns)) };
        let plain = head.mixed_by(Processor::Plain);
        for processor in Processor::all() {
            prop_assert!(same(&plain, &head.mixed_by(processor)), "{}", processor.name());
        }
        let texts = head.texts();
        let alone: Vec<_> = texts.iter().flat_map(|text| text.mixed_by(Processor::Plain)).collect();
        prop_assert!(same(&plain, &alone), "texts together and alone");
        for (found, right) in plain.iter().flatten().zip(texts.iter().flat_map(Head::plainly).flatten()) {
            // A fit is a sum of up to some hundred, rounded as floats are, and its share e to the power of it.
            prop_assert!((f64::from(*found) - right).abs() < 2e-3 * right.abs().max(1.0), "{found} {right}");
        }
    }

    #[test]
    fn norms_are_right_and_the_same_on_all_processors(seed in any::<u64>()) {
        let mut random = StdRng::seed_from_u64(seed);
        let (columns, count) = (ROWS * random.random_range(1..30), random.random_range(1..40));
        let tokens = random_tokens(&mut random, count, columns);
        let [weights, bias] = [(); 2].map(|()| random_tokens(&mut random, 1, columns).remove(0));
        let normed = |processor: Processor, tokens: &[Vec<f32>]| {
            let mut sheet = Sheet::from_columns(tokens);
            let (weights, bias) = (weights.as_chunks().0, bias.as_chunks().0);
            for mut groups in sheet.tiles_mut(13) {
                processor.compute(Norm { groups: &mut groups, weights, bias, epsilon: 1e-12 });
            }
            columns_of(&sheet)
        };
        let plain = normed(Processor::Plain, &tokens);
        for processor in Processor::all() {
            prop_assert!(same(&plain, &normed(processor, &tokens)), "{}", processor.name());
        }
        let alone: Vec<_> =
            tokens.iter().flat_map(|token| normed(Processor::Plain, std::slice::from_ref(token))).collect();
        prop_assert!(same(&plain, &alone), "tokens together and alone");
        for (token, found) in tokens.iter().zip(&plain) {
            let mean = token.iter().copied().map(f64::from).sum::<f64>() / columns as f64;
            let off = |number: &f32| f64::from(*number) - mean;
            let variance = token.iter().map(|number| off(number).powi(2)).sum::<f64>() / columns as f64;
            for (at, found) in found.iter().enumerate() {
                let right = off(&token[at]) / (variance + 1e-12).sqrt() * f64::from(weights[at]) + f64::from(bias[at]);
                prop_assert!((f64::from(*found) - right).abs() < 1e-3 * right.abs().max(1.0), "{found} {right}");
            }
        }
    }

    #[test]
    fn what_bends_is_the_same_on_all_processors(numbers in prop::array::uniform16(-12.0f32..12.0)) {
        let plain = Processor::Plain.compute(Bend(numbers)).map(f32::to_bits);
        for processor in Processor::all() {
            prop_assert_eq!(processor.compute(Bend(numbers)).map(f32::to_bits), plain, "{}", processor.name());
        }
    }
}
