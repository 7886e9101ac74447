//! Products held to plain arithmetic, for random and for extreme numbers, on everything that this processor has.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    encoder::{
        Precision,
        panels::{Matrix, PANEL, Part, Plan, Weights},
        product::{Input, Out, Product, Then, View},
        rounded::{Round, Rounded},
        tensors::Rows,
    },
    lanes::{Processor, ROWS},
    pool::Pool,
    product::Sheet,
};

/// The product by a processor, as rows of each token, added to 1.
fn product(processor: Processor, weights: &Weights, matrix: &Matrix, tokens: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let sheet = Sheet::from_columns(tokens);
    let mut rounded = Rounded::default();
    for mut tile in rounded.reset(&sheet) {
        processor.compute(Round { sheet: &sheet, tile: &mut tile });
    }
    let count = tokens.len();
    let mut out = Sheet::default();
    out.reset(matrix.rows, count);
    out.all_mut().fill([1.0; ROWS]);
    for (panel, out) in out.all_mut().chunks_exact_mut(2 * count).enumerate() {
        let (low, high) = out.split_at_mut(count);
        let (bias, out) = (&matrix.bias[panel], Out(low, high));
        let input = match matrix.is_rounded() {
            true => Input::Rounded(&rounded),
            false => Input::Full(View { numbers: sheet.all(), tokens: count, first: 0 }),
        };
        processor.compute(Product { panel: weights.panel(matrix, panel), bias, input, then: Then::Add, out });
    }
    (0..count).map(|at| out.token(at).flatten().copied().collect()).collect()
}

fn packed(precision: Precision, rows: &[Vec<f32>], bias: Vec<f32>) -> (Weights, Matrix) {
    let mut plan = Plan::new(precision);
    let matrix = plan.add(vec![Part { rows: Rows::of(rows), bias, factor: 1.0 }]);
    (plan.load(&mut Pool::new(2)).unwrap(), matrix)
}

fn number(random: &mut StdRng) -> f32 {
    match random.random_range(0..60) {
        0 => 0.0,
        1 => 100.0,
        2 => -100.0,
        _ => random.random_range(-1.0f32..1.0),
    }
}

fn check(precision: Precision, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (columns, count) = (PANEL * random.random_range(1..6), PANEL * random.random_range(1..3));
    let mut matrix = |rows: usize| -> Vec<Vec<f32>> {
        (0..rows).map(|_| (0..columns).map(|_| number(&mut random)).collect()).collect()
    };
    let (rows, tokens) = (matrix(count), matrix(1 + seed as usize % 40));
    let bias: Vec<f32> = (0..count).map(|at| at as f32 / 7.0 - 3.0).collect();
    let (weights, matrix) = packed(precision, &rows, bias.clone());
    let all = Processor::all();
    let first = product(all[0], &weights, &matrix, &tokens);
    for processor in &all[1..] {
        let same = product(*processor, &weights, &matrix, &tokens);
        assert_eq!(first, same, "{precision:?}: {} and {} differ", all[0].name(), processor.name());
    }
    let alone: Vec<_> =
        tokens.iter().flat_map(|token| product(all[0], &weights, &matrix, std::slice::from_ref(token))).collect();
    assert_eq!(first, alone, "{precision:?}: together and one by one");
    let largest = |numbers: &[f32]| f64::from(numbers.iter().fold(0.0f32, |most, number| most.max(number.abs())));
    let sum = |numbers: &[f32]| numbers.iter().map(|number| f64::from(number.abs())).sum::<f64>();
    for (token, products) in tokens.iter().zip(&first) {
        for ((row, bias), found) in rows.iter().zip(&bias).zip(products) {
            let dot: f64 = row.iter().zip(token).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = row.iter().zip(token).map(|(a, b)| f64::from((a * b).abs())).sum();
            // Half a step of each weight and of each activation.
            let rounding = match precision {
                Precision::Float32 => 0.0,
                Precision::Int8 => {
                    let steps = (largest(row) / 254.0, largest(token) / 254.0);
                    sum(token) * steps.0 + sum(row) * steps.1 + columns as f64 * steps.0 * steps.1
                }
            };
            let error = (f64::from(*found) - dot - f64::from(*bias) - 1.0).abs();
            assert!(error <= 1.01 * rounding + 1e-5 * size + 1e-5, "{precision:?}: {found} {dot}, {rounding} {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products_are_right_and_the_same_on_all_processors(seed in any::<u64>()) {
        check(Precision::Float32, seed);
        check(Precision::Int8, seed);
    }
}

/// The largest sums that can come about must not run over on any processor.
#[test]
fn extremes_do_not_run_over() {
    let columns = 4096;
    for (weight, number) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
        for precision in [Precision::Float32, Precision::Int8] {
            let (weights, matrix) = packed(precision, &vec![vec![weight; columns]; PANEL], vec![-1.0; PANEL]);
            for processor in Processor::all() {
                let found = product(processor, &weights, &matrix, &[vec![number; columns]])[0][3];
                let expected = weight * number * columns as f32;
                assert!((found - expected).abs() < 0.01, "{precision:?} {}: {found} {expected}", processor.name());
            }
        }
    }
}

#[test]
fn activations_without_an_end_or_a_number_become_zeros() {
    let (weights, matrix) = packed(Precision::Int8, &vec![vec![0.5; 64]; PANEL], vec![-1.0; PANEL]);
    for wrong in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, f32::MAX] {
        for processor in Processor::all() {
            let mut token = vec![0.0; 64];
            token[7] = wrong;
            let found = product(processor, &weights, &matrix, &[token]);
            assert!(found[0].iter().all(|number| *number == 0.0), "{wrong} {}: {found:?}", processor.name());
        }
    }
}
