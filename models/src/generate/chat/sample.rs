//! The choice of the next token from the logits.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    generate::{Request, Sampling},
    lanes::{Compute, Lanes, Processor, ROWS, exp, largest},
};

/// Tokens that a repetition is looked for in.
const RECENT_LEN: usize = 64;
/// A token this much less likely than the likeliest is never drawn: all of a vocabulary together have less than one chance in ten thousand.
const LEAST_WEIGHT: f32 = 1e-10;

/// Tokens that are weighed side by side: as many as a word of [`Allowed`] has bits.
const SIDE: usize = 32;
/// Candidates that are put in order first, when only the likeliest are kept.
const SORTED_MIN: usize = 64;

/// Which tokens may be chosen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Allowed<'a> {
    All,
    /// Those whose bit is set, 32 in a word.
    Bits(&'a [u32]),
}

impl Allowed<'_> {
    /// The logits of the tokens from `at * SIDE` on, least where none may be chosen.
    #[inline(always)]
    fn logits(self, at: usize, logits: &[f32]) -> Option<[f32; SIDE]> {
        let bits = match self {
            Self::All => u32::MAX,
            Self::Bits(bits) => bits.get(at).copied().unwrap_or(0),
        };
        match logits.first_chunk::<SIDE>() {
            _ if bits == 0 => None,
            Some(logits) if bits == u32::MAX => Some(*logits),
            Some(logits) => {
                let mut some = *logits;
                for (lane, logit) in some.iter_mut().enumerate() {
                    *logit = if bits >> lane & 1 == 1 { *logit } else { f32::NEG_INFINITY };
                }
                Some(some)
            }
            None => {
                let mut few = [f32::NEG_INFINITY; SIDE];
                few.iter_mut().zip(logits).enumerate().for_each(|(lane, (to, logit))| {
                    if bits >> lane & 1 == 1 {
                        *to = *logit;
                    }
                });
                Some(few)
            }
        }
    }
}

/// Chooses tokens for one answer.
pub(super) struct Sampler {
    processor: Processor,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    /// The last tokens, of the prompt too.
    recent: VecDeque<u32>,
    random: StdRng,
    weights: Weights,
    candidates: Vec<(f32, u32)>,
    /// Of a greedy choice: the bits of the tokens that were not chosen since, 32 in a word.
    untried: Vec<u32>,
}

/// How likely each token is beside the likeliest, which has 1; 0 for those that are not drawn.
#[derive(Default)]
struct Weights {
    /// Of tokens side by side; those that are not here are not drawn.
    each: Vec<[f32; SIDE]>,
    /// Where each begins, by the number of those before, and their sum.
    sums: Vec<(usize, f32)>,
}

impl Sampler {
    pub(super) fn new(request: &Request, processor: Processor) -> Self {
        let Sampling { temperature, top_k, top_p, min_p, repetition_penalty } = request.sampling;
        Self {
            processor,
            temperature: temperature.unwrap_or(0.0),
            top_k: top_k.unwrap_or(0),
            top_p: top_p.unwrap_or(1.0),
            min_p: min_p.unwrap_or(0.0),
            repetition_penalty: repetition_penalty.unwrap_or(1.0),
            recent: VecDeque::new(),
            random: StdRng::seed_from_u64(request.seed),
            weights: Weights::default(),
            candidates: Vec::new(),
            untried: Vec::new(),
        }
    }

    /// Remembers a token of the prompt or the answer.
    pub(super) fn saw(&mut self, token: u32) {
        if self.recent.len() == RECENT_LEN {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// One of the tokens that may be chosen; `None` when none has a logit that is a number.
    pub(super) fn choose(&mut self, logits: &[f32], allowed: Allowed<'_>) -> Option<u32> {
        let penalised = self.penalised(logits);
        let logits = penalised.as_deref().unwrap_or(logits);
        let (highest, token) = self.processor.compute(Likeliest { logits, allowed })?;
        if self.temperature <= 0.0 {
            self.untried.clear();
            return Some(token);
        }
        let (temperature, least) = (self.temperature, self.min_p.max(LEAST_WEIGHT));
        let to = &mut self.weights;
        self.processor.compute(Weigh { logits, allowed, highest, temperature, least, to });
        if self.top_k > 0 || self.top_p < 1.0 { self.draw_likely() } else { self.draw_any() }
    }

    /// Another token, of all, than the one that was chosen last and those before it since [`Sampler::choose`]: each as likely as if they had never
    /// been there. `None` where none is left, and where of the likeliest alone is drawn: without those they would be others.
    pub(super) fn choose_other(&mut self, logits: &[f32], than: u32) -> Option<u32> {
        if self.temperature <= 0.0 {
            return self.next_likely(logits, than);
        }
        if self.top_k > 0 || self.top_p < 1.0 || self.min_p > LEAST_WEIGHT {
            return None;
        }
        let (at, lane) = (than as usize / SIDE, than as usize % SIDE);
        let Weights { each, sums } = &mut self.weights;
        let place = sums.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        each[place][lane] = 0.0;
        sums[place].1 = each[place].iter().sum();
        self.draw_any()
    }

    fn next_likely(&mut self, logits: &[f32], than: u32) -> Option<u32> {
        self.untried.resize(logits.len().div_ceil(SIDE), u32::MAX);
        *self.untried.get_mut(than as usize / SIDE)? &= !(1 << (than as usize % SIDE));
        let penalised = self.penalised(logits);
        let (logits, allowed) = (penalised.as_deref().unwrap_or(logits), Allowed::Bits(&self.untried));
        self.processor.compute(Likeliest { logits, allowed }).map(|(_, token)| token)
    }

    fn draw_any(&mut self) -> Option<u32> {
        let Weights { each, sums } = &self.weights;
        let total: f64 = sums.iter().map(|(_, sum)| f64::from(*sum)).sum();
        let mut point = self.random.random::<f64>() * total;
        let mut last = None;
        for ((at, sum), weights) in sums.iter().zip(each) {
            if point > f64::from(*sum) {
                point -= f64::from(*sum);
                continue;
            }
            for (weight, lane) in weights.iter().zip(0..).filter(|(weight, _)| **weight > 0.0) {
                point -= f64::from(*weight);
                last = u32::try_from(at * SIDE + lane).ok();
                if point <= 0.0 {
                    return last;
                }
            }
        }
        // What rounding left over falls to the last that has a weight.
        last.or_else(|| self.last_weighed())
    }

    fn last_weighed(&self) -> Option<u32> {
        let Weights { each, sums } = &self.weights;
        let all = sums.iter().zip(each).rev();
        all.flat_map(|((at, _), weights)| weights.iter().rposition(|weight| *weight > 0.0).map(|lane| at * SIDE + lane))
            .next()
            .and_then(|token| u32::try_from(token).ok())
    }

    /// Draws of the likeliest only.
    fn draw_likely(&mut self) -> Option<u32> {
        let Self { weights: Weights { each, sums }, candidates, top_k, top_p, .. } = self;
        candidates.clear();
        for ((at, _), weights) in sums.iter().zip(each) {
            let found = weights.iter().zip((at * SIDE) as u32..).filter(|(weight, _)| **weight > 0.0);
            candidates.extend(found.map(|(weight, token)| (*weight, token)));
        }
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if *top_k > 0 && *top_k < candidates.len() {
            candidates.select_nth_unstable_by(*top_k - 1, order);
            candidates.truncate(*top_k);
        }
        let sum = |some: &[(f32, u32)]| some.iter().map(|(weight, _)| f64::from(*weight)).sum::<f64>();
        let enough = f64::from(*top_p) * sum(candidates);
        let (mut kept, mut sorted, mut reached) = (0, 0, 0.0);
        while kept < candidates.len() && (kept == 0 || reached < enough) {
            if kept == sorted {
                // A vocabulary is seldom needed to its end.
                let next = (4 * sorted).clamp(SORTED_MIN.min(candidates.len()), candidates.len());
                if next < candidates.len() {
                    candidates[sorted..].select_nth_unstable_by(next - sorted, order);
                }
                candidates[sorted..next].sort_unstable_by(order);
                sorted = next;
            }
            reached += f64::from(candidates[kept].0);
            kept += 1;
        }
        let kept = &candidates[..kept];
        let mut point = self.random.random::<f64>() * sum(kept);
        let drawn = kept.iter().find(|(weight, _)| {
            point -= f64::from(*weight);
            point <= 0.0
        });
        drawn.or(kept.last()).map(|(_, token)| *token)
    }

    /// The logits with those of recent tokens made less likely, as the CTRL paper has it: <https://arxiv.org/abs/1909.05858>, section 4.1.
    fn penalised(&self, logits: &[f32]) -> Option<Vec<f32>> {
        if self.repetition_penalty == 1.0 || self.repetition_penalty <= 0.0 {
            return None;
        }
        let mut penalised = logits.to_vec();
        for token in &self.recent {
            let at = *token as usize;
            // From the logit as it was, so that a token that came often is not made less likely each time.
            if let (Some(to), Some(from)) = (penalised.get_mut(at), logits.get(at)) {
                *to = if *from > 0.0 { from / self.repetition_penalty } else { from * self.repetition_penalty };
            }
        }
        Some(penalised)
    }
}

/// Finds the highest logit of the tokens that may be chosen; on a tie the lesser token, as argmax does.
struct Likeliest<'a> {
    logits: &'a [f32],
    allowed: Allowed<'a>,
}

impl Compute for Likeliest<'_> {
    type Output = Option<(f32, u32)>;

    #[inline(always)]
    fn on<L: Lanes>(self, _lanes: L) -> Self::Output {
        let mut best: Option<(f32, usize)> = None;
        for (at, logits) in self.logits.chunks(SIDE).enumerate() {
            let Some(logits) = self.allowed.logits(at, logits) else { continue };
            let mut halves = [f32::NEG_INFINITY; ROWS];
            for half in logits.as_chunks::<ROWS>().0 {
                for lane in 0..ROWS {
                    halves[lane] = if half[lane] > halves[lane] { half[lane] } else { halves[lane] };
                }
            }
            // Comparing so leaves out what is not a number.
            let highest = largest(halves);
            if highest > best.map_or(f32::NEG_INFINITY, |(highest, _)| highest) {
                let lane = logits.iter().position(|logit| *logit == highest).unwrap_or(0);
                best = Some((highest, at * SIDE + lane));
            }
        }
        best.and_then(|(highest, token)| Some((highest, u32::try_from(token).ok()?)))
    }
}

/// Weighs the tokens that may be chosen.
struct Weigh<'a> {
    logits: &'a [f32],
    allowed: Allowed<'a>,
    highest: f32,
    temperature: f32,
    least: f32,
    to: &'a mut Weights,
}

impl Compute for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(self, _lanes: L) {
        let Weights { each, sums } = self.to;
        each.clear();
        sums.clear();
        for (at, logits) in self.logits.chunks(SIDE).enumerate() {
            let Some(logits) = self.allowed.logits(at, logits) else { continue };
            let mut weights = [0.0f32; SIDE];
            for (weight, logit) in weights.iter_mut().zip(&logits) {
                let found = exp((logit - self.highest) / self.temperature);
                *weight = if found >= self.least { found } else { 0.0 };
            }
            let mut halves = [0.0f32; ROWS];
            for half in weights.as_chunks::<ROWS>().0 {
                for lane in 0..ROWS {
                    halves[lane] += half[lane];
                }
            }
            let sum: f32 = halves.iter().sum();
            if sum > 0.0 {
                each.push(weights);
                sums.push((at, sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(change: impl Fn(&mut Sampling)) -> Vec<usize> {
        let mut request = Request { seed: 7, ..Request::default() };
        request.sampling.temperature = Some(1.0);
        change(&mut request.sampling);
        let mut sampler = Sampler::new(&request, Processor::detect());
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            // Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1.
            let logits = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln);
            counts[sampler.choose(&logits, Allowed::All).unwrap() as usize] += 1;
        }
        counts.iter().map(|count| (count + 50) / 100).collect()
    }

    #[test]
    fn tokens_come_as_often_as_their_probability_says() {
        let check = |change: &dyn Fn(&mut Sampling), expected: [usize; 4]| {
            let shares = shares(change);
            let is_near = shares.iter().zip(expected).all(|(share, expected)| share.abs_diff(expected) <= 2);
            assert!(is_near, "{shares:?} {expected:?}");
        };
        check(&|_| (), [40, 30, 20, 10]);
        check(&|sampling| sampling.temperature = Some(0.0), [100, 0, 0, 0]);
        check(&|sampling| sampling.temperature = Some(0.5), [53, 30, 13, 3]);
        check(&|sampling| sampling.top_p = Some(0.6), [57, 43, 0, 0]);
        check(&|sampling| sampling.top_p = Some(0.0), [100, 0, 0, 0]);
        check(&|sampling| sampling.top_k = Some(3), [44, 33, 22, 0]);
        check(&|sampling| sampling.top_k = Some(1), [100, 0, 0, 0]);
        check(&|sampling| sampling.min_p = Some(0.6), [57, 43, 0, 0]);
        check(&|sampling| (sampling.top_k, sampling.min_p) = (Some(2), Some(0.3)), [57, 43, 0, 0]);
    }

    #[test]
    fn a_token_that_came_lately_is_less_likely() {
        let sampling = Sampling { repetition_penalty: Some(2.0), ..Sampling::default() };
        let request = Request { sampling, ..Request::default() };
        let mut sampler = Sampler::new(&request, Processor::detect());
        let logits = [3.0, 2.0, -1.0];
        assert_eq!(sampler.choose(&logits, Allowed::All), Some(0));
        sampler.saw(0);
        sampler.saw(0);
        assert_eq!(sampler.choose(&logits, Allowed::All), Some(1));
        sampler.saw(1);
        assert_eq!(sampler.choose(&logits, Allowed::All), Some(0));
        assert_eq!(sampler.choose(&[-1.0, -3.0, -2.5], Allowed::All), Some(0));
        (0..RECENT_LEN).for_each(|_| sampler.saw(2));
        assert_eq!(sampler.choose(&logits, Allowed::All), Some(0));
    }

    #[test]
    fn only_allowed_tokens_are_chosen_and_a_seed_repeats_the_choice() {
        let sampling = Sampling { temperature: Some(1.0), ..Sampling::default() };
        let sampler = |seed| Sampler::new(&Request { sampling, seed, ..Request::default() }, Processor::detect());
        let choose = |seed| sampler(seed).choose(&[0.0; 100], Allowed::Bits(&[0xaaaa_aaaa; 4]));
        assert_eq!(choose(1), choose(1));
        assert!((0..50).all(|seed| choose(seed).unwrap() % 2 == 1));
        let drawn: std::collections::BTreeSet<u32> = (0..2_000).filter_map(choose).collect();
        assert_eq!(drawn.len(), 50, "those beyond the last whole word too");
        assert_eq!(sampler(1).choose(&[1.0, f32::NAN], Allowed::Bits(&[2])), None);
        assert_eq!(sampler(1).choose(&[1.0, 2.0], Allowed::Bits(&[0])), None);
    }

    #[test]
    fn what_is_drawn_instead_is_as_likely_as_if_nothing_else_had_been_there() {
        let sampling = Sampling { temperature: Some(1.0), ..Sampling::default() };
        let mut sampler = Sampler::new(&Request { sampling, seed: 3, ..Request::default() }, Processor::detect());
        let mut counts = [0usize; 40];
        for _ in 0..10_000 {
            // Of forty tokens those at 1, 34 and 39 fit, as 0.1, 0.2 and 0.3 of all.
            let mut shares = [0.4 / 37.0; 40];
            (shares[1], shares[34], shares[39]) = (0.1f32, 0.2, 0.3);
            let mut drawn = sampler.choose(&shares.map(f32::ln), Allowed::All);
            while let Some(token) = drawn.filter(|token| ![1, 34, 39].contains(token)) {
                drawn = sampler.choose_other(&shares.map(f32::ln), token);
            }
            counts[drawn.unwrap() as usize] += 1;
        }
        let percent = [1, 34, 39].map(|token| (counts[token] + 50) / 100);
        let is_near = percent.iter().zip([17, 33, 50]).all(|(found, expected)| found.abs_diff(expected) <= 2);
        assert!(is_near, "{percent:?}");
        let logits = [1.0, f32::NEG_INFINITY];
        assert_eq!(sampler.choose(&logits, Allowed::All), Some(0));
        assert_eq!(sampler.choose_other(&logits, 0), None, "none is left");
        sampler.top_k = 1;
        let logits = [1.0, 2.0, 1.5];
        assert_eq!((sampler.choose(&logits, Allowed::All), sampler.choose_other(&logits, 1)), (Some(1), None));
        (sampler.temperature, sampler.repetition_penalty) = (0.0, 2.0);
        // The likeliest, then the next, twice over: what was tried is forgotten with the next token.
        for _ in 0..2 {
            assert_eq!(sampler.choose(&logits, Allowed::All), Some(1));
            assert_eq!((sampler.choose_other(&logits, 1), sampler.choose_other(&logits, 2)), (Some(2), Some(0)));
            assert_eq!(sampler.choose_other(&logits, 0), None);
        }
        sampler.saw(1);
        assert_eq!((sampler.choose(&logits, Allowed::All), sampler.choose_other(&logits, 2)), (Some(2), Some(0)));
    }

    proptest! {
        #[test]
        fn all_processors_choose_what_a_plain_search_and_sort_choose(
            logits in proptest::collection::vec(-9.0f32..9.0, 1..300),
            bits in proptest::collection::vec(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 10),
            (temperature, top_k, top_p) in (0.0f32..2.0, 0usize..90, 0.0f32..1.2),
            seed in any::<u64>(),
        ) {
            let allowed = |token: &usize| bits[token / 32] >> (token % 32) & 1 == 1;
            let mut order: Vec<usize> = (0..logits.len()).filter(allowed).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
            let choose = |processor, sampling| {
                let request = Request { sampling, seed, ..Request::default() };
                Sampler::new(&request, processor).choose(&logits, Allowed::Bits(&bits))
            };
            let greedy = choose(Processor::Plain, Sampling::default());
            prop_assert_eq!(greedy.map(|token| token as usize), order.first().copied());
            let sampling = Sampling {
                temperature: Some(temperature),
                top_k: Some(top_k),
                top_p: Some(top_p),
                ..Sampling::default()
            };
            let drawn = choose(Processor::Plain, sampling).map(|token| token as usize);
            for processor in Processor::all() {
                prop_assert_eq!(choose(processor, sampling).map(|token| token as usize), drawn);
            }
            // The weights of those before it leave some of the share that is kept.
            let weight = |token: &usize| (f64::from(logits[*token] - logits[order[0]]) / f64::from(temperature)).exp();
            let most = if top_k == 0 { order.len() } else { top_k.min(order.len()) };
            let total: f64 = order[..most].iter().map(weight).sum();
            if let Some(drawn) = drawn {
                let place = order.iter().position(|token| *token == drawn).unwrap();
                let before: f64 = order[..place].iter().map(weight).sum();
                prop_assert!(place < most && (place == 0 || before < f64::from(top_p) * total + 1e-3 * total));
            }
        }
    }
}
