//! Every operation held to plain code, for random and for extreme numbers, on everything that this processor has.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Compute, Lanes, Processor, ROWS};

/// What the operations are given.
struct Given {
    runs: [[u8; 64]; 8],
    words: [[i32; 8]; 2],
    starts: [i32; 2],
    floats: [[f32; ROWS]; 3],
    halves: [u16; ROWS],
}

/// Each operation on bytes, as the products that show what it gave.
struct OfBytes<'g>(&'g Given);

impl Compute for OfBytes<'_> {
    type Output = Vec<[f32; ROWS]>;

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> Self::Output {
        let Given { runs, words: [words, others], starts, .. } = self.0;
        let mut out = vec![[0.0; ROWS]; 22];
        for part in 0..ROWS / L::WIDTH {
            let mut bytes = [lanes.bytes(&runs[0], part); 8];
            for (bytes, run) in bytes.iter_mut().zip(runs) {
                *bytes = lanes.bytes(run, part);
            }
            let [mut four, mut five, mut six, mut eight] = [bytes; 4];
            for at in 0..8 {
                four[at] = if at < 4 { lanes.low_nibbles(bytes[at]) } else { lanes.high_nibbles(bytes[at - 4]) };
                eight[at] = lanes.wide(bytes[at]);
            }
            five[0] = lanes.with_fifth::<0>(four[0], bytes[0]);
            five[1] = lanes.with_fifth::<1>(four[1], bytes[1]);
            five[2] = lanes.with_fifth::<2>(four[2], bytes[2]);
            five[3] = lanes.with_fifth::<3>(four[3], bytes[3]);
            five[4] = lanes.with_fifth::<4>(four[4], bytes[4]);
            five[5] = lanes.with_fifth::<5>(four[5], bytes[5]);
            five[6] = lanes.with_fifth::<6>(four[6], bytes[6]);
            five[7] = lanes.with_fifth::<7>(four[7], bytes[7]);
            for half in [0, 4] {
                six[half] = lanes.with_sixth::<0>(four[half], bytes[half]);
                six[half + 1] = lanes.with_sixth::<1>(four[half + 1], bytes[half + 1]);
                six[half + 2] = lanes.with_sixth::<2>(four[half + 2], bytes[half + 2]);
                six[half + 3] = lanes.with_sixth::<3>(four[half + 3], bytes[half + 3]);
            }
            let start = lanes.whole(starts[0]);
            let bias = -L::BIAS * sum(words);
            let mut whole = [start; 22];
            whole[0] = lanes.dot::<8, 4>(start, &four, words);
            whole[1] = lanes.dot::<8, 5>(start, &five, words);
            whole[2] = lanes.dot::<4, 6>(start, &[six[0], six[1], six[2], six[3]], &words.as_chunks().0[0]);
            whole[3] = lanes.dot_wide::<8>(lanes.whole(starts[0] + bias), &eight, words);
            for at in 0..8 {
                whole[4 + at] = lanes.dot::<1, 6>(start, &[six[at]], &[words[at]]);
                let bias = -L::BIAS * sum(&words[at..=at]);
                whole[12 + at] = lanes.dot_wide::<1>(lanes.whole(starts[0] + bias), &[eight[at]], &[words[at]]);
            }
            let two = lanes.dot_two::<8, 5>(lanes.two(*starts), &five, [words, others]);
            [whole[20], whole[21]] = lanes.apart(two);
            for (out, whole) in out.iter_mut().zip(whole) {
                lanes.store(lanes.to_float(whole), out, part);
            }
        }
        out
    }
}

/// The products with two tokens of bytes that have all their bits.
struct OfTwo<'g>(&'g Given);

impl Compute for OfTwo<'_> {
    type Output = [[f32; ROWS]; 2];

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> Self::Output {
        let Given { runs, words: [words, others], starts, .. } = self.0;
        let mut out = [[0.0; ROWS]; 2];
        for part in 0..ROWS / L::WIDTH {
            let mut bytes = [lanes.bytes(&runs[0], part); 8];
            for (bytes, run) in bytes.iter_mut().zip(runs) {
                *bytes = lanes.wide(lanes.bytes(run, part));
            }
            let start = lanes.two([starts[0] - L::BIAS * sum(words), starts[1] - L::BIAS * sum(others)]);
            let sums = lanes.apart(lanes.dot_two::<8, 8>(start, &bytes, [words, others]));
            for (out, whole) in out.iter_mut().zip(sums) {
                lanes.store(lanes.to_float(whole), out, part);
            }
        }
        out
    }
}

/// Each operation on floats, and what reads and writes them.
struct OfFloats<'g>(&'g Given);

impl Compute for OfFloats<'_> {
    type Output = (Vec<[f32; ROWS]>, [u16; ROWS]);

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> Self::Output {
        let Given { runs, floats: [a, b, c], halves, .. } = self.0;
        let (mut out, mut kept) = (vec![[0.0; ROWS]; 12], [0; ROWS]);
        let bytes = &runs[0].as_chunks::<ROWS>().0[0];
        let mut little = [0; 32];
        for (to, half) in little.as_chunks_mut().0.iter_mut().zip(halves) {
            *to = half.to_le_bytes();
        }
        for part in 0..ROWS / L::WIDTH {
            let (one, two, three) = (lanes.load(a, part), lanes.load(b, part), lanes.load(c, part));
            lanes.keep(one, &mut kept, part);
            let results = [
                one,
                lanes.multiply(one, two),
                lanes.add(one, two),
                lanes.larger(one, two),
                lanes.fused(one, two, three),
                lanes.nth::<0>(lanes.bytes(&runs[0], part)),
                lanes.nth::<1>(lanes.bytes(&runs[0], part)),
                lanes.nth::<2>(lanes.bytes(&runs[0], part)),
                lanes.nth::<3>(lanes.bytes(&runs[0], part)),
                lanes.signed(bytes, part),
                lanes.halves(&little, part),
                lanes.kept(halves, part),
            ];
            for (out, float) in out.iter_mut().zip(results) {
                lanes.store(float, out, part);
            }
        }
        (out, kept)
    }
}

/// The sum of the bytes of some words.
fn sum(words: &[i32]) -> i32 {
    words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| i32::from(byte.cast_signed())).sum()
}

fn given(random: &mut StdRng) -> Given {
    let extreme = random.random_range(0..4) == 0;
    let byte =
        |random: &mut StdRng| if extreme { [0, 127, 128, 255][random.random_range(0..4)] } else { random.random() };
    let activation = |random: &mut StdRng| match extreme {
        true => [-127i8, 127][random.random_range(0..2)],
        false => random.random_range(-127..=127),
    };
    let float = |random: &mut StdRng| match random.random_range(0..40) {
        0 => 0.0,
        1 => -0.0,
        2 => f32::INFINITY,
        3 => f32::NEG_INFINITY,
        4 => 1e-40,
        5 => 65_519.0,
        6 => f32::MAX,
        _ => random.random_range(-1.0f32..1.0) * [1e-6, 1.0, 1e4][random.random_range(0..3)],
    };
    let half = |random: &mut StdRng| half::f16::from_f32(float(random)).to_bits();
    Given {
        runs: std::array::from_fn(|_| std::array::from_fn(|_| byte(random))),
        words: std::array::from_fn(|_| {
            std::array::from_fn(|_| i32::from_le_bytes(std::array::from_fn(|_| activation(random).cast_unsigned())))
        }),
        starts: [random.random_range(-1 << 20..1 << 20), random.random_range(-1 << 20..1 << 20)],
        floats: std::array::from_fn(|_| std::array::from_fn(|_| float(random))),
        halves: std::array::from_fn(|_| half(random)),
    }
}

/// As bits, so that 0 and -0 differ; of what is no number there is but one.
fn bits(all: &[[f32; ROWS]]) -> Vec<u32> {
    let bits = |float: &f32| if float.is_nan() { f32::NAN.to_bits() } else { float.to_bits() };
    all.iter().flatten().map(bits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn all_processors_do_the_same(seed in any::<u64>()) {
        let given = given(&mut StdRng::seed_from_u64(seed));
        let bytes = bits(&Processor::Plain.compute(OfBytes(&given)));
        let two = bits(&Processor::Plain.compute(OfTwo(&given)));
        let (floats, kept) = Processor::Plain.compute(OfFloats(&given));
        for processor in Processor::all() {
            let name = processor.name();
            prop_assert_eq!(&bits(&processor.compute(OfBytes(&given))), &bytes, "{}: bytes", name);
            prop_assert_eq!(&bits(&processor.compute(OfTwo(&given))), &two, "{}: two", name);
            let (found, halves) = processor.compute(OfFloats(&given));
            prop_assert_eq!(bits(&found), bits(&floats), "{}: floats", name);
            prop_assert_eq!(halves, kept, "{}: halves", name);
        }
    }
}

/// What plain code does is right.
#[test]
fn products_of_bytes_are_those_of_arithmetic() {
    let given = given(&mut StdRng::seed_from_u64(5));
    let found = Processor::Plain.compute(OfTwo(&given));
    for (token, found) in found.iter().enumerate() {
        for (row, found) in found.iter().enumerate() {
            let weights =
                given.runs.iter().flat_map(|run| &run[4 * row..][..4]).map(|byte| i32::from(byte.cast_signed()));
            let words = given.words[token].iter().flat_map(|word| word.to_le_bytes());
            let dot: i32 = weights.zip(words).map(|(weight, byte)| weight * i32::from(byte.cast_signed())).sum();
            assert_eq!(*found, (given.starts[token] + dot) as f32);
        }
    }
}
