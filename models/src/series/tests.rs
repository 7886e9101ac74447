//! That the slopes are right, that learning learns, and that a file is what was saved or is refused.

use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;

use super::{net::Pass, *};

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        #[expect(clippy::cast_precision_loss, reason = "24 bits")]
        let unit = (state >> 8) as f32 / 16_777_216.0;
        unit * 2.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn random_net(inputs: usize, inner: &[usize], outputs: usize, is_straight: bool, seed: u32) -> Net {
    let mut net = Net::zeros(inputs, inner, outputs, is_straight);
    let count = net.numbers().count();
    net.numbers().zip(numbers(count, seed)).for_each(|(number, random)| *number = random);
    net
}

/// What candle makes of the same net, with its own slopes.
fn by_candle(net: &Net, input: &[f32]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let device = Device::Cpu;
    let var = |numbers: &[f32], shape: &[usize]| {
        Var::from_tensor(&Tensor::from_slice(numbers, shape, &device).expect("a tensor")).expect("a variable")
    };
    let of =
        |layer: &Layer| [var(&layer.weights, &[layer.inputs, layer.outputs]), var(&layer.bias, &[1, layer.outputs])];
    let layers: Vec<[Var; 2]> = net.layers.iter().chain(&net.skip).map(of).collect();
    let input = Tensor::from_slice(input, &[1, input.len()], &device).expect("a tensor");
    let apply = |[weights, bias]: &[Var; 2], input: &Tensor| {
        (input.matmul(weights.as_tensor()).expect("fits") + bias.as_tensor()).expect("fits")
    };
    let mut output = input.clone();
    for (index, layer) in layers[..net.layers.len()].iter().enumerate() {
        if index > 0 {
            let size = (output.abs().expect("a tensor") + 1.0).expect("a tensor");
            output = (output / size).expect("a tensor");
        }
        output = apply(layer, &output);
    }
    if net.skip.is_some() {
        output = (output + apply(&layers[net.layers.len()], &input)).expect("fits");
    }
    // The slopes of half the squares are the outputs themselves.
    let error = (output.sqr().expect("a tensor").sum_all().expect("a number") * 0.5).expect("a number");
    let slopes = error.backward().expect("slopes");
    let flat = |tensor: &Tensor| tensor.flatten_all().expect("a tensor").to_vec1::<f32>().expect("numbers");
    let slopes = layers.iter().flatten().map(|var| flat(slopes.get(var.as_tensor()).expect("a slope")));
    (flat(&output), slopes.collect())
}

#[test]
fn outputs_and_slopes_are_those_that_candle_computes() {
    for (seed, (inner, is_straight)) in
        (1..).zip([(vec![5], true), (vec![], false), (vec![7, 3, 6], false), (vec![4, 4], true)])
    {
        let net = random_net(6, &inner, 3, is_straight, seed);
        let input = numbers(6, seed + 100);
        let (output, slopes) = by_candle(&net, &input);
        let (mut pass, mut own) = (Pass::default(), Net::zeros(6, &inner, 3, is_straight));
        net.forward(&input, &mut pass);
        let near = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&pass.output, &output), "seed {seed}: {:?}, candle says {output:?}", pass.output);
        net.backward(&input, &output, &mut pass, &mut own);
        let own = own.layers.iter().chain(&own.skip).flat_map(|layer| [&layer.weights, &layer.bias]);
        for (own, slopes) in own.zip(&slopes) {
            assert!(near(own, slopes), "seed {seed}: {own:?}, candle says {slopes:?}");
        }
    }
}

/// Rows of a bent function of two numbers.
fn bent(rows: usize, seed: u32) -> (Vec<f32>, Vec<f32>) {
    let inputs = numbers(rows * 2, seed);
    let targets = inputs.chunks_exact(2).map(|pair| pair[0] * pair[1] + 0.5 * pair[0].abs()).collect();
    (inputs, targets)
}

fn widths() -> Widths {
    Widths { inputs: 2, inner: vec![16], outputs: 1, is_straight: true }
}

fn learn(seed: u64, go_on: impl FnMut() -> bool) -> Fitted {
    let ((inputs, targets), (held_inputs, held_targets)) = (bent(1_000, 1), bent(300, 2));
    let held_out = Examples { inputs: &held_inputs, targets: &held_targets };
    let settings = Settings { seed, ..Settings::default() };
    fit(&widths(), Examples { inputs: &inputs, targets: &targets }, held_out, &settings, go_on).expect("it learns")
}

#[test]
fn a_net_learns_what_no_line_could_and_says_the_same_for_the_same_seed() {
    let fitted = learn(3, || true);
    let (first, best) = (fitted.rounds[0].held_out, fitted.rounds[fitted.best].held_out);
    assert!(best < first / 50.0, "from {first} to {best} in {} rounds", fitted.rounds.len());
    let again = learn(3, || true);
    assert_eq!(save(&fitted.net, "").expect("saved"), save(&again.net, "").expect("saved"));
    assert_ne!(fitted.net, learn(4, || true).net);
}

#[test]
fn what_cannot_be_learned_ends_early_and_a_caller_may_end_it_at_once() {
    let (inputs, targets) = (numbers(2_000, 1), numbers(1_000, 2));
    let (held_inputs, held_targets) = (numbers(600, 3), numbers(300, 4));
    let (chance, held_out) =
        (Examples { inputs: &inputs, targets: &targets }, Examples { inputs: &held_inputs, targets: &held_targets });
    let fitted = fit(&widths(), chance, held_out, &Settings::default(), || true).expect("it tries");
    assert_eq!(fitted.end, End::Settled);
    assert!(fitted.rounds.len() < 40, "{}", fitted.rounds.len());
    let mut left = 10;
    let stopped = learn(1, || {
        left -= 1;
        left > 0
    });
    assert_eq!((stopped.end, stopped.best, stopped.rounds.len()), (End::Stopped, 0, 1));
}

#[test]
fn examples_that_do_not_fit_are_refused() {
    let refused = |inputs: &[f32], targets: &[f32]| {
        let examples = Examples { inputs, targets };
        fit(&widths(), examples, examples, &Settings::default(), || true).expect_err("refused").to_string()
    };
    assert!(refused(&[], &[]).contains("cannot learn from 0 and 0 numbers"));
    assert!(refused(&[1.0, 2.0, 3.0], &[1.0]).contains("expected rows of as many"));
    assert_eq!(refused(&[1.0, f32::NAN], &[1.0]), "an example holds what is no number");
}

#[test]
fn a_file_is_what_was_saved() {
    let net = random_net(4, &[5, 2], 4, true, 9);
    let bytes = save(&net, "{\"a\": \"\u{fc}\"}").expect("saved");
    assert_eq!(load(&bytes).expect("loaded"), (net, "{\"a\": \"\u{fc}\"}".to_owned()));
    let other = save(&random_net(4, &[5, 2], 4, true, 9), "").expect("saved");
    let strange = String::from_utf8_lossy(&other).replace("skerry-series-1", "skerry-series-9");
    assert!(load(strange.as_bytes()).is_err());
    assert!(load(b"").expect_err("refused").to_string().starts_with("the bytes are no trained net: "));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn damaged_files_are_refused_or_are_nets(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = save(&random_net(3, &[4], 1, true, 5), "text").expect("saved");
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let whole = load(&bytes);
        prop_assert!(whole.is_err() || whole.is_ok_and(|(net, _)| net.layers.len() <= 8));
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(load(&bytes).is_err());
    }
}
