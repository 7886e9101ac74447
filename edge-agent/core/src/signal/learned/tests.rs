//! What a model is given, what it is worth, when it takes over, and that what it remembers survives a kill.

use std::sync::Arc;

use proptest::prelude::*;
use shared::time::Timestamp;

use super::{dice::Dice, *};
use crate::signal::{
    Kept, Outcome, Series, Signal,
    config::{Detector, Method},
};

const MINUTE: i64 = 60_000_000;

fn detector(more: &str) -> Detector {
    let json = format!(r#"{{"name":"odd","kind":"learned","step":"1m","length":8,"smooth":1,"coolDown":"10m"{more}}}"#);
    serde_json::from_str(&json).expect("a detector")
}

fn shape(detector: &Detector) -> Shape {
    let Method::Learned(learned) = &detector.method else { panic!("a learned detector") };
    Shape::from(learned)
}

/// Swings once in 24 samples, with a little noise.
fn swinging(count: i64, seed: u64) -> Vec<Sample> {
    let mut dice = Dice::new(seed);
    let value = |index: i64| {
        let turn = f64::from(i32::try_from(index % 24).expect("small")) / 24.0;
        10.0 * (turn * std::f64::consts::TAU).sin()
    };
    (0..count).map(|index| Sample { index, value: value(index) + 0.2 * dice.normal() }).collect()
}

/// A net that says what a sine of this period does next, from the last two samples: 2 cos(w) x1 - x2. What it says is the
/// change from the last sample, in units of the usual change.
fn knowing(study: &Study, traits: &Traits) -> Net {
    let (inputs, _, outputs) = study.widths();
    let wave = 2.0 * (std::f64::consts::TAU / 24.0).cos();
    let mut weights = vec![0.0; inputs];
    // Change = (wave - 2) x1 - (x2 - x1); x2 - x1 stands at length - 2, x1 from the center at length - 1.
    let unit = traits.scale / traits.change;
    #[expect(clippy::cast_possible_truncation, reason = "weights have no more bits")]
    let narrow = |weight: f64| weight as f32;
    weights[traits.shape.length - 2] = narrow(-unit);
    weights[traits.shape.length - 1] = narrow((wave - 2.0) * unit);
    let bias = vec![narrow((wave - 2.0) * traits.center / traits.change)];
    Net { layers: vec![Layer { inputs, outputs, weights, bias }], skip: None }
}

fn nothing(study: &Study) -> Net {
    let (inputs, _, outputs) = study.widths();
    let (weights, bias) = (vec![0.0; inputs * outputs], vec![0.0; outputs]);
    Net { layers: vec![Layer { inputs, outputs, weights, bias }], skip: None }
}

const PROMISE: Promise = Promise { false_alarm_every: 86_400_000_000, cool_down: 10 * MINUTE };

/// A model that knows the swing, and one that says "as before".
fn two_models(seed: u64) -> (Study, Model, Model) {
    let detector = detector("");
    let study = Study::of(swinging(2_000, seed), shape(&detector), Brain::Forecast).expect("enough");
    let naive = study.model(nothing(&study)).expect("a model");
    let knows = study.model(knowing(&study, naive.traits())).expect("a model");
    (study, naive, knows)
}

#[test]
fn a_model_that_knows_more_takes_over() {
    for seed in 0..5 {
        let (study, naive, knows) = two_models(seed);
        let of = |model: &Model| Evaluation::of(model, PROMISE, study.samples(), study.newest_part());
        let (worse, better) = (of(&naive), of(&knows));
        assert!((worse.error / worse.naive_error - 1.0).abs() < 1e-6, "seed {seed}: {worse:?}");
        assert!(
            better.error < worse.error / 3.0 && better.found + 4 > worse.found,
            "seed {seed}: {worse:?} {better:?}"
        );
        assert!(better.planted >= 100 && better.alarms <= 2, "seed {seed}: {better:?}");
        let kind = Brain::Forecast;
        let taken = compare(kind, &better, Some((kind, &worse)));
        assert!(taken.takes_over, "seed {seed}: {taken:?}");
        assert!(!compare(kind, &worse, Some((kind, &better))).takes_over);
        assert!(!compare(kind, &better, Some((kind, &better))).takes_over, "what is no better stays");
        assert!(compare(kind, &better, None).takes_over);
    }
}

#[test]
fn a_first_model_that_is_unsound_does_not_take_over() {
    let (study, _, knows) = two_models(1);
    let sound = Evaluation::of(&knows, PROMISE, study.samples(), study.newest_part());
    let told = compare(Brain::Forecast, &Evaluation { error: 2.0 * sound.naive_error, ..sound }, None);
    assert!(!told.takes_over && told.reason.contains("as before"), "{told:?}");
    let told = compare(Brain::Forecast, &Evaluation { planted: 164, found: 5, ..sound }, None);
    assert!(!told.takes_over && told.reason.starts_with("it finds 5 of 164 disturbances"), "{}", told.reason);
    let told = compare(Brain::Forecast, &Evaluation { alarms: 50, ..sound }, None);
    assert!(!told.takes_over && told.reason.contains("50 alarms"), "{told:?}");
}

#[test]
fn a_history_that_teaches_nothing_is_refused() {
    let detector = detector("");
    let refused = |samples| Study::of(samples, shape(&detector), Brain::Forecast).expect_err("refused").to_string();
    let short = refused(swinging(215, 1));
    assert_eq!(
        short,
        "the history has 215 samples of 1m: expected at least 216; wait until it has, or choose a shorter `step`"
    );
    let still = (0..500).map(|index| Sample { index, value: 4.0 }).collect();
    assert_eq!(refused(still), "the history does not vary: there is nothing to learn");
    let mut torn = swinging(500, 1);
    torn.iter_mut().for_each(|sample| sample.index *= 9);
    assert!(refused(torn).contains("too many gaps"));
}

#[test]
fn the_time_of_the_season_is_an_input_once_there_were_three() {
    let detector = detector(r#","season":"5h""#);
    let inputs = |count| Study::of(swinging(count, 1), shape(&detector), Brain::Forecast).expect("enough").widths().0;
    assert_eq!((inputs(1_400), inputs(1_600)), (8, 16));
}

fn series(detector: &Detector, samples: &[Sample], model: Option<&Arc<Model>>, kills: &[usize]) -> (Outcome, Vec<u8>) {
    let signal = Signal { window: None, detectors: vec![detector.clone()] };
    let mut series = Series::new(&signal, "c");
    let equip = |series: &mut Series| series.equip("odd", model.map(|model| ("m".to_owned(), Arc::clone(model))));
    equip(&mut series);
    let mut outcome = Outcome::default();
    for (row, sample) in samples.iter().enumerate() {
        if kills.contains(&row) {
            series = Series::load(&signal, "c", Kept::Yes, &series.save()).expect("loads what was saved");
            assert_eq!(series.learners().collect::<Vec<_>>(), [("odd", model.map(|_| "m"))]);
            equip(&mut series);
        }
        series.take(&signal, Timestamp::from_micros(sample.index * MINUTE), sample.value, &mut outcome);
    }
    (outcome, series.save())
}

#[test]
fn a_model_finds_what_stays_within_the_limits() {
    let (study, _, knows) = two_models(3);
    let model = Arc::new(study.settled(knows).expect("a model"));
    let mut samples = swinging(600, 4);
    // It stands still for a while, in the middle of where it always is.
    (400..412).for_each(|row| samples[row].value = samples[399].value);
    let detector = detector(r#","falseAlarmEvery":"30d""#);
    let (outcome, _) = series(&detector, &samples, Some(&model), &[]);
    let at: Vec<i64> = outcome.findings.iter().map(|finding| finding.at.as_micros() / MINUTE).collect();
    assert!(at.iter().all(|minute| (400..425).contains(minute)) && !at.is_empty(), "{at:?}");
    let verdict = outcome.findings[0].verdict;
    assert!(verdict.score > 3.0 && verdict.low < verdict.high, "{verdict:?}");
    assert_eq!(outcome.samples.len(), 599, "every step that is over is kept to be learned from");
    assert_eq!(series(&detector, &samples, None, &[]).0.findings, [], "without a model or fallback nobody judges");
}

#[test]
fn the_fallback_judges_until_there_is_a_model() {
    let (study, _, knows) = two_models(3);
    let model = Arc::new(study.settled(knows).expect("a model"));
    let detector = detector(r#","fallback":{"kind":"limits","high":50},"falseAlarmEvery":"30d""#);
    let mut samples = swinging(300, 4);
    samples[200].value = 60.0;
    let kinds = |model| {
        let (outcome, _) = series(&detector, &samples, model, &[]);
        outcome.findings.iter().map(|finding| finding.verdict.score).collect::<Vec<f64>>()
    };
    assert_eq!(kinds(None), [0.2], "how far beyond the limit");
    assert!(kinds(Some(&model))[0] > 10.0, "how rare");
}

#[test]
fn a_model_of_another_shape_does_not_fit() {
    let (_, _, knows) = two_models(3);
    let Method::Learned(other) = detector(r#","season":"5h""#).method else { panic!("a learned detector") };
    assert!(!knows.fits(&other));
    let traits = knows.traits().clone();
    let wrong = Traits { knows_season: true, shape: Shape { season: 300 * MINUTE, ..traits.shape }, ..traits.clone() };
    assert_eq!(Model::new(wrong, knows.net().clone()), Err("layer 0 takes 8 numbers and gets 16".to_owned()));
    assert!(Model::new(Traits { scale: 0.0, ..traits }, knows.net().clone()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn kills_change_nothing(
        seed in any::<u64>(),
        kills in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        wild in proptest::collection::vec((any::<prop::sample::Index>(), -40.0_f64..40.0), 0..6),
        gaps in proptest::collection::vec((any::<prop::sample::Index>(), 1_i64..9), 0..4),
    ) {
        let (study, _, knows) = two_models(seed % 4);
        let model = Arc::new(study.settled(knows).expect("a model"));
        let mut samples = swinging(200, seed);
        wild.iter().for_each(|(place, value)| samples[place.index(200)].value = *value);
        for (place, gap) in &gaps {
            samples[place.index(200)..].iter_mut().for_each(|sample| sample.index += gap);
        }
        let kills: Vec<usize> = kills.iter().map(|kill| kill.index(200)).collect();
        let detector = detector(r#","fallback":{"kind":"robust","length":20},"falseAlarmEvery":"30d""#);
        for model in [None, Some(&model)] {
            let undisturbed = series(&detector, &samples, model, &[]);
            prop_assert_eq!(&undisturbed, &series(&detector, &samples, model, &kills));
        }
    }
}
