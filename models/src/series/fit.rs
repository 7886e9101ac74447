//! Training: Adam (Kingma and Ba, 2015) on batches in an order from the seed, until the error on examples that are not
//! learned from falls no more (early stopping), or a limit is reached. The same examples and seed give the same weights,
//! bit for bit, on every processor: all of it is IEEE sums, products, quotients and roots in one order.

use super::net::{Layer, Net, Pass};

/// Numbers of all examples together: 256 MiB.
const NUMBERS_MAX: usize = 64 << 20;
const MEAN_KEPT: f32 = 0.9;
const SQUARE_KEPT: f32 = 0.999;

/// Rows of numbers: what goes in, and what should come out.
#[derive(Debug, Clone, Copy)]
pub struct Examples<'a> {
    pub inputs: &'a [f32],
    pub targets: &'a [f32],
}

/// What the net looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Widths {
    pub inputs: usize,
    /// Of the layers between, from the input to the output.
    pub inner: Vec<usize>,
    pub outputs: usize,
    /// Whether a layer goes straight from the input to the output.
    pub is_straight: bool,
}

/// How to learn.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub seed: u64,
    /// Rounds through all examples, at most.
    pub rounds_max: usize,
    /// Ends after so many rounds in which the error on the held-out examples did not fall.
    pub patience: usize,
    /// Examples that are learned from together.
    pub batch: usize,
    /// How far one step goes at first; it is halved when the error does not fall.
    pub rate: f32,
    /// Errors beyond this pull no harder than this (Huber, 1964): an odd day in the history teaches little.
    pub huber: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 1, rounds_max: 60, patience: 8, batch: 32, rate: 0.005, huber: 2.0 }
    }
}

/// The mean error after a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    pub learned: f64,
    pub held_out: f64,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The error on the held-out examples fell no more.
    Settled,
    /// All rounds were made.
    Rounds,
    /// The caller said so.
    Stopped,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// As after the best round.
    pub net: Net,
    /// The round before the first is the net that has learned nothing.
    pub rounds: Vec<Round>,
    pub best: usize,
    pub end: End,
}

/// The examples do not fit the net.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "a net of {inputs} to {outputs} numbers cannot learn from {found_inputs} and {found_targets} numbers: expected rows of as many"
    )]
    Rows { inputs: usize, outputs: usize, found_inputs: usize, found_targets: usize },
    #[error("an example holds what is no number")]
    NotFinite,
    #[error("{found} numbers to learn from are too many: expected at most {NUMBERS_MAX}")]
    TooMany { found: usize },
}

/// Learns from `learned_from`; `held_out` says when to stop. `go_on` is asked before each batch.
///
/// # Errors
/// When the examples do not fit the widths.
pub fn fit(
    widths: &Widths,
    learned_from: Examples<'_>,
    held_out: Examples<'_>,
    settings: &Settings,
    mut go_on: impl FnMut() -> bool,
) -> Result<Fitted, Error> {
    let rows = check(widths, learned_from)?;
    check(widths, held_out)?;
    let mut dice = Dice(settings.seed);
    let mut net = begun(widths, &mut dice);
    let mut slopes = Net::zeros(widths.inputs, &widths.inner, widths.outputs, widths.is_straight);
    let mut steps = Adam::of(&mut net, settings.rate);
    let (mut pass, mut order) = (Pass::default(), (0..rows).collect::<Vec<usize>>());
    let first = Round {
        learned: error(&net, widths, learned_from, settings, &mut pass),
        held_out: error(&net, widths, held_out, settings, &mut pass),
    };
    let (mut rounds, mut best, mut kept) = (vec![first], 0, net.clone());
    let end = 'rounds: loop {
        if rounds.len() > settings.rounds_max {
            break End::Rounds;
        }
        shuffle(&mut order, &mut dice);
        let mut sum = 0.0;
        for batch in order.chunks(settings.batch.max(1)) {
            if !go_on() {
                break 'rounds End::Stopped;
            }
            for row in batch {
                let (input, target) = learned_from.row(widths, *row);
                net.forward(input, &mut pass);
                let (error, pull) = huber(&pass.output, target, settings.huber);
                sum += error;
                net.backward(input, &pull, &mut pass, &mut slopes);
            }
            steps.step(&mut net, &mut slopes, batch.len());
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of examples")]
        let learned = sum / rows as f64;
        let round = Round { learned, held_out: error(&net, widths, held_out, settings, &mut pass) };
        rounds.push(round);
        if round.held_out < rounds[best].held_out {
            (best, kept) = (rounds.len() - 1, net.clone());
        }
        let waited = rounds.len() - 1 - best;
        if waited >= settings.patience {
            break End::Settled;
        }
        if waited > 0 && waited.is_multiple_of(3) {
            steps.rate /= 2.0;
        }
    };
    Ok(Fitted { net: kept, rounds, best, end })
}

impl<'a> Examples<'a> {
    fn row(self, widths: &Widths, row: usize) -> (&'a [f32], &'a [f32]) {
        let of = |numbers: &'a [f32], width: usize| &numbers[row * width..(row + 1) * width];
        (of(self.inputs, widths.inputs), of(self.targets, widths.outputs))
    }
}

fn check(widths: &Widths, examples: Examples<'_>) -> Result<usize, Error> {
    let (inputs, outputs) = (widths.inputs, widths.outputs);
    let (found_inputs, found_targets) = (examples.inputs.len(), examples.targets.len());
    if found_inputs.saturating_add(found_targets) > NUMBERS_MAX {
        return Err(Error::TooMany { found: found_inputs.saturating_add(found_targets) });
    }
    let rows = found_inputs.checked_div(inputs).unwrap_or(0);
    if rows == 0
        || outputs == 0
        || widths.inner.contains(&0)
        || rows * inputs != found_inputs
        || rows * outputs != found_targets
    {
        return Err(Error::Rows { inputs, outputs, found_inputs, found_targets });
    }
    if examples.inputs.iter().chain(examples.targets).any(|number| !number.is_finite()) {
        return Err(Error::NotFinite);
    }
    Ok(rows)
}

/// Inner layers begin at random, the last and the straight one with nothing: at first the net says zero.
fn begun(widths: &Widths, dice: &mut Dice) -> Net {
    let mut net = Net::zeros(widths.inputs, &widths.inner, widths.outputs, widths.is_straight);
    let last = net.layers.len() - 1;
    for Layer { inputs, weights, .. } in &mut net.layers[..last] {
        #[expect(clippy::cast_precision_loss, reason = "a width")]
        let reach = (3.0 / *inputs as f32).sqrt();
        weights.iter_mut().for_each(|weight| *weight = reach * (2.0 * dice.unit() - 1.0));
    }
    net
}

/// The mean error of all outputs of a row, and its slopes.
fn huber(output: &[f32], target: &[f32], reach: f32) -> (f64, Vec<f32>) {
    let mut sum = 0.0;
    #[expect(clippy::cast_precision_loss, reason = "a width")]
    let count = output.len() as f32;
    let pull = output.iter().zip(target).map(|(said, is)| {
        let off = said - is;
        let near = off.clamp(-reach, reach);
        sum += f64::from(near * (off - near / 2.0));
        near / count
    });
    let pull = pull.collect();
    (sum / f64::from(count), pull)
}

#[expect(clippy::cast_precision_loss, reason = "a count of examples")]
fn error(net: &Net, widths: &Widths, examples: Examples<'_>, settings: &Settings, pass: &mut Pass) -> f64 {
    let rows = examples.inputs.len() / widths.inputs;
    let errors = (0..rows).map(|row| {
        let (input, target) = examples.row(widths, row);
        net.forward(input, pass);
        huber(&pass.output, target, settings.huber).0
    });
    errors.sum::<f64>() / rows as f64
}

/// Means of each slope and of its square, forgotten slowly.
struct Adam {
    means: Vec<f32>,
    squares: Vec<f32>,
    mean_left: f32,
    square_left: f32,
    rate: f32,
}

impl Adam {
    fn of(net: &mut Net, rate: f32) -> Self {
        let count = net.numbers().count();
        Self { means: vec![0.0; count], squares: vec![0.0; count], mean_left: 1.0, square_left: 1.0, rate }
    }

    /// One step down the slopes of a batch, which are forgotten.
    fn step(&mut self, net: &mut Net, slopes: &mut Net, batch: usize) {
        self.mean_left *= MEAN_KEPT;
        self.square_left *= SQUARE_KEPT;
        let (mean_known, square_known) = (1.0 - self.mean_left, 1.0 - self.square_left);
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let count = batch as f32;
        let memory = self.means.iter_mut().zip(&mut self.squares);
        for ((number, slope), (mean, square)) in net.numbers().zip(slopes.numbers()).zip(memory) {
            let down = std::mem::take(slope) / count;
            *mean = MEAN_KEPT * *mean + (1.0 - MEAN_KEPT) * down;
            *square = SQUARE_KEPT * *square + (1.0 - SQUARE_KEPT) * down * down;
            *number -= self.rate * (*mean / mean_known) / ((*square / square_known).sqrt() + 1e-8);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    const fn unit(&mut self) -> f32 {
        (self.roll() >> 40) as f32 / (1_u32 << 24) as f32
    }
}

/// Fisher and Yates.
fn shuffle(order: &mut [usize], dice: &mut Dice) {
    for last in (1..order.len()).rev() {
        #[expect(clippy::cast_possible_truncation, reason = "below a length")]
        order.swap(last, (dice.roll() % (last as u64 + 1)) as usize);
    }
}
