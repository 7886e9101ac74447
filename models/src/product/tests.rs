//! Products held to plain arithmetic, for random and for extreme numbers, on everything that this processor has.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Activations, Form, Input, Matrix, Order, Plan, Product, Sheet, Weights,
    ask::{Ask, WAYS},
};
use crate::{
    gguf::{Kind, Rows},
    lanes::{Processor, ROWS},
    pool::Pool,
};

const KINDS: [Kind; 13] = [
    Kind::F32,
    Kind::F16,
    Kind::Bf16,
    Kind::Q4_0,
    Kind::Q4_1,
    Kind::Q5_0,
    Kind::Q5_1,
    Kind::Q8_0,
    Kind::Q2K,
    Kind::Q3K,
    Kind::Q4K,
    Kind::Q5K,
    Kind::Q6K,
];

/// Where the half-precision numbers of a block stand.
const fn halves(kind: Kind) -> &'static [usize] {
    match kind {
        Kind::F32 => &[],
        Kind::F16 | Kind::Bf16 | Kind::Q4_0 | Kind::Q5_0 | Kind::Q8_0 => &[0],
        Kind::Q4_1 | Kind::Q5_1 | Kind::Q4K | Kind::Q5K => &[0, 2],
        Kind::Q2K => &[80, 82],
        Kind::Q3K => &[108],
        Kind::Q6K => &[208],
    }
}

/// Rows of random blocks; every bit may be set where it stands for a whole number.
fn rows(kind: Kind, count: usize, columns: usize, random: &mut StdRng) -> (Rows, Vec<Vec<f32>>) {
    let blocks = count * columns / kind.block_len();
    let mut bytes: Vec<u8> = (0..blocks * kind.block_bytes()).map(|_| random.random()).collect();
    for block in bytes.chunks_exact_mut(kind.block_bytes()) {
        let number = match random.random_range(0..8) {
            0 => 0.0,
            1 => 400.0,
            _ => random.random_range(-1.0f32..1.0),
        };
        for at in halves(kind) {
            let number = if kind == Kind::Bf16 {
                half::bf16::from_f32(number).to_le_bytes()
            } else {
                half::f16::from_f32(number).to_le_bytes()
            };
            block[*at..*at + 2].copy_from_slice(&number);
        }
        if kind == Kind::F32 {
            block.copy_from_slice(&number.to_le_bytes());
        }
    }
    let row_bytes = kind.row_bytes(columns).unwrap();
    let numbers = bytes.chunks_exact(row_bytes).map(|row| {
        let mut numbers = vec![0.0; columns];
        kind.unpack(row, &mut numbers);
        numbers
    });
    let numbers = numbers.collect();
    (Rows::of(&bytes, kind, count, columns), numbers)
}

fn tokens(count: usize, columns: usize, random: &mut StdRng) -> Vec<Vec<f32>> {
    let number = |random: &mut StdRng| match random.random_range(0..40) {
        0 => 0.0,
        1 => 1000.0,
        2 => -1000.0,
        _ => random.random_range(-1.0f32..1.0),
    };
    (0..count).map(|_| (0..columns).map(|_| number(random)).collect()).collect()
}

fn packed(rows: Rows, order: Order) -> (Weights, Matrix) {
    let mut plan = Plan::default();
    let matrix = plan.add(rows, order);
    (plan.load(&mut Pool::new(2)).unwrap(), matrix)
}

/// The product by a processor, as rows of each token.
fn product(processor: Processor, weights: &Weights, matrix: &Matrix, tokens: &[Vec<f32>]) -> Vec<Vec<f32>> {
    asking(processor, weights, matrix, tokens, Ask::default())
}

fn asking(processor: Processor, weights: &Weights, matrix: &Matrix, tokens: &[Vec<f32>], ask: Ask) -> Vec<Vec<f32>> {
    let sheet = Sheet::from_columns(tokens);
    let mut rounded = Activations::default();
    rounded.ask = ask;
    rounded.reset(matrix.columns, tokens.len(), processor.tile());
    for mut tile in rounded.tiles_mut() {
        tile.round(&sheet, |columns, _, _| *columns);
    }
    let mut out = Sheet::default();
    out.reset(matrix.groups() * ROWS, tokens.len());
    for (group, out) in out.all_mut().chunks_exact_mut(tokens.len()).enumerate() {
        let input = Input { sheet: &sheet, rounded: &rounded };
        processor.compute(Product { form: matrix.form, group: weights.group(matrix, group), input, out });
    }
    let token = |at| out.token(at).flatten().copied().take(matrix.rows).collect();
    (0..tokens.len()).map(token).collect()
}

fn check(kind: Kind, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let columns = kind.block_len().max(32) * random.random_range(1..4);
    let count = random.random_range(1..50);
    let (rows, numbers) = rows(kind, count, columns, &mut random);
    let tokens = tokens(random.random_range(1..40), columns, &mut random);
    let (weights, matrix) = packed(rows, Order::Stored);
    let all = Processor::all();
    let first = product(all[0], &weights, &matrix, &tokens);
    for processor in &all[1..] {
        let same = product(*processor, &weights, &matrix, &tokens);
        assert_eq!(first, same, "{kind:?}: {} and {} differ", all[0].name(), processor.name());
    }
    let alone: Vec<_> =
        tokens.iter().flat_map(|token| product(all[0], &weights, &matrix, std::slice::from_ref(token))).collect();
    assert_eq!(first, alone, "{kind:?}: together and one by one");

    for (token, products) in tokens.iter().zip(&first) {
        for (row, found) in numbers.iter().zip(products) {
            let expected: f64 = row.iter().zip(token).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = row.iter().zip(token).map(|(a, b)| f64::from((a * b).abs())).sum();
            // Half a step of eight bits for each activation; kinds that are rounded again lose half a step of each weight too.
            let rounding: f64 = if Form::of(kind).is_rounded() {
                let blocks = row.chunks(32).zip(token.chunks(32));
                let largest = |numbers: &[f32]| numbers.iter().fold(0.0f32, |most, number| most.max(number.abs()));
                let sum = |numbers: &[f32]| numbers.iter().map(|number| f64::from(number.abs())).sum::<f64>();
                blocks
                    .map(|(weights, token)| {
                        let again = if Form::of(kind) == Form::Eight && kind != Kind::Q8_0 { 1.0 } else { 0.0 };
                        sum(weights) * f64::from(largest(token)) / 254.0
                            + again * sum(token) * f64::from(largest(weights)) / 120.0
                    })
                    .sum()
            } else {
                0.0
            };
            let error = (f64::from(*found) - expected).abs();
            assert!(error <= 1.01 * rounding + 1e-5 * size + 1e-6, "{kind:?}: {found} {expected}, {rounding} {size}");
        }
    }
}

/// Few tokens are computed in tiles of other shapes than many.
#[test]
fn any_number_of_tokens_gives_the_bits_of_each_alone_however_weights_are_asked_for() {
    let mut random = StdRng::seed_from_u64(5);
    for kind in KINDS {
        let columns = kind.block_len().max(32) * 2;
        let (rows, _) = rows(kind, 33, columns, &mut random);
        let (weights, matrix) = packed(rows, Order::Stored);
        let tokens = tokens(17, columns, &mut random);
        for processor in Processor::all() {
            let one = |token| product(processor, &weights, &matrix, std::slice::from_ref(token)).remove(0);
            let alone: Vec<Vec<f32>> = tokens.iter().map(one).collect();
            for (count, ask) in [1, 2, 3, 4, 5, 8, 9, 16, 17].into_iter().flat_map(|count| WAYS.map(|ask| (count, ask)))
            {
                let found = asking(processor, &weights, &matrix, &tokens[..count], ask);
                assert_eq!(found, alone[..count], "{kind:?}: {count} tokens on {}, {ask:?}", processor.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products_are_right_and_the_same_on_all_processors(seed in any::<u64>()) {
        for kind in KINDS {
            check(kind, seed);
        }
    }

    /// A row comes out of its packed form as it was.
    #[test]
    fn packed_rows_are_those_of_the_file(seed in any::<u64>()) {
        for kind in KINDS.into_iter().filter(|kind| Form::of(*kind) != Form::Eight || *kind == Kind::Q8_0) {
            let mut random = StdRng::seed_from_u64(seed);
            let columns = kind.block_len().max(32) * 2;
            let (rows, numbers) = rows(kind, 35, columns, &mut random);
            let (weights, matrix) = packed(rows, Order::Stored);
            for (at, row) in numbers.iter().enumerate() {
                let mut found = vec![0.0; columns];
                weights.unpack(&matrix, at, &mut found);
                prop_assert!(found.iter().zip(row).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1e-3)), "{kind:?} {at}");
            }
        }
    }
}

/// The largest sums that can come about must not run over on any processor.
#[test]
fn extremes_do_not_run_over() {
    for kind in KINDS.into_iter().filter(|kind| kind.block_len() > 1) {
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            for sign in [1.0, -1.0] {
                let mut bytes = vec![fill; 16 * kind.block_bytes()];
                for block in bytes.chunks_exact_mut(kind.block_bytes()) {
                    for at in halves(kind) {
                        block[*at..*at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
                    }
                }
                let columns = kind.block_len();
                let (weights, matrix) = packed(Rows::of(&bytes, kind, 16, columns), Order::Stored);
                let mut row = vec![0.0; columns];
                weights.unpack(&matrix, 3, &mut row);
                let expected: f32 = row.iter().map(|weight| weight * 127.0 * sign).sum();
                for processor in Processor::all() {
                    let found = product(processor, &weights, &matrix, &[vec![127.0 * sign; columns]])[0][3];
                    let name = processor.name();
                    assert!(
                        (found - expected).abs() <= 1e-5 * expected.abs() + 1.0,
                        "{kind:?} {fill:x} {name}: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn activations_without_an_end_or_a_number_become_zeros() {
    let (rows, _) = rows(Kind::Q8_0, 16, 64, &mut StdRng::seed_from_u64(1));
    let (weights, matrix) = packed(rows, Order::Stored);
    for wrong in [f32::INFINITY, f32::NAN, 1e-40, 0.0, f32::MAX] {
        let products = product(Processor::detect(), &weights, &matrix, &[vec![wrong; 64]]);
        assert!(products[0].iter().all(|number| *number == 0.0), "{wrong}: {products:?}");
    }
}

#[test]
fn halves_bring_neighbours_apart() {
    let numbers: Vec<u8> = (0..32u32).flat_map(|row| [row as f32; 16].map(f32::to_le_bytes)).flatten().collect();
    let (weights, matrix) = packed(Rows::of(&numbers, Kind::F32, 32, 16), Order::Halves(16));
    let order: Vec<f32> = (0..32)
        .map(|row| {
            let mut found = [0.0; 16];
            weights.unpack(&matrix, row, &mut found);
            found[0]
        })
        .collect();
    let head = |start: usize| (0..8).map(move |at| start + 2 * at).chain((0..8).map(move |at| start + 2 * at + 1));
    let expected: Vec<f32> = head(0).chain(head(16)).map(|row| row as f32).collect();
    assert_eq!(order, expected);
}

/// Where each bit stands is what all processors multiply by, and what a faster way to pack must keep. A change of form is to be seen here.
#[test]
fn packed_bytes_are_where_they_were() {
    let mut found = Vec::new();
    for (kind, order) in KINDS.map(|kind| (kind, Order::Stored)).into_iter().chain([(Kind::Q8_0, Order::Halves(16))]) {
        // Whole groups, and some rows of another where an order does not want heads.
        let (count, columns) = (if order == Order::Stored { 40 } else { 48 }, kind.block_len().max(32) * 2);
        let len = kind.row_bytes(columns).unwrap() * count;
        let mut bytes: Vec<u8> = (0..len).map(|at| (at * 31 + at / 7 + at / 1000) as u8).collect();
        for block in bytes.chunks_exact_mut(kind.block_bytes()).filter(|_| kind.block_len() > 1) {
            for at in halves(kind) {
                block[*at..*at + 2].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
            }
        }
        let (weights, matrix) = packed(Rows::of(&bytes, kind, count, columns), order);
        let bytes = (0..matrix.groups()).flat_map(|group| weights.group(&matrix, group));
        // FNV-1a of 64 bits.
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        found.push(format!("{kind:?} {order:?} {hash:016x}"));
    }
    assert_eq!(found.join("\n"), PACKED);
}

const PACKED: &str = "\
F32 Stored 5a67da3c96ba61f0\n\
F16 Stored 1a732bd8c744a05b\n\
Bf16 Stored 6ae627471b264023\n\
Q4_0 Stored 030af00219fbe9db\n\
Q4_1 Stored 469f156d86d45a8c\n\
Q5_0 Stored 2c87c75ebad45917\n\
Q5_1 Stored b7c6fd7c4cb0e7b3\n\
Q8_0 Stored 9d7e9bf6928df94d\n\
Q2K Stored 070d74ef0da95f68\n\
Q3K Stored b413e638f3b03dd7\n\
Q4K Stored 7a1a0b887dfabe5b\n\
Q5K Stored 3f5eff94cb325de5\n\
Q6K Stored d694f6f7ed50b4e1\n\
Q8_0 Halves(16) 9467c8d5e14cd9d8";
