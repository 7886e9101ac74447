//! The choice of the next token from the logits.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::generate::{Request, Sampling};

/// Tokens that a repetition is looked for in.
const RECENT_LEN: usize = 64;
/// A token this much less likely than the likeliest is never drawn: all of a vocabulary together have less than one chance in ten thousand.
const LEAST_WEIGHT: f32 = 1e-10;

/// Chooses tokens for one answer.
pub(super) struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    /// The last tokens, of the prompt too.
    recent: VecDeque<u32>,
    random: StdRng,
}

impl Sampler {
    pub(super) fn new(request: &Request) -> Self {
        let Sampling { temperature, top_k, top_p, min_p, repetition_penalty } = request.sampling;
        Self {
            temperature: temperature.unwrap_or(0.0),
            top_k: top_k.unwrap_or(0),
            top_p: top_p.unwrap_or(1.0),
            min_p: min_p.unwrap_or(0.0),
            repetition_penalty: repetition_penalty.unwrap_or(1.0),
            recent: VecDeque::new(),
            random: StdRng::seed_from_u64(request.seed),
        }
    }

    /// Remembers a token of the prompt or the answer.
    pub(super) fn saw(&mut self, token: u32) {
        if self.recent.len() == RECENT_LEN {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// One of the tokens that `allowed` lets pass; `None` when it lets none pass.
    pub(super) fn choose(&mut self, logits: &[f32], allowed: &dyn Fn(u32) -> bool) -> Option<u32> {
        let penalised = self.penalised(logits);
        let logits = penalised.as_deref().unwrap_or(logits);
        if self.temperature <= 0.0 {
            return likeliest(logits, allowed).map(|(_, token)| token);
        }
        let (highest, _) = likeliest(logits, allowed)?;
        let weight = |logit: f32| ((logit - highest) / self.temperature).exp();
        let all = logits.iter().zip(0u32..).map(|(logit, token)| (weight(*logit), token));
        // Comparing so leaves out what is not a number.
        let least = self.min_p.max(LEAST_WEIGHT);
        let mut candidates: Vec<(f32, u32)> =
            all.filter(|(weight, token)| *weight >= least && allowed(*token)).collect();
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if self.top_k > 0 {
            candidates.truncate(self.top_k);
        }
        let total: f32 = candidates.iter().map(|(weight, _)| weight).sum();
        let mut reached = 0.0;
        let is_kept = |(weight, _): &&(f32, u32)| {
            let is_kept = reached < self.top_p * total;
            reached += weight;
            is_kept
        };
        let kept = candidates.iter().take_while(is_kept).count().max(1);
        let kept = candidates.get(..kept)?;
        let mut point = self.random.random::<f32>() * kept.iter().map(|(weight, _)| weight).sum::<f32>();
        for (weight, token) in kept {
            point -= weight;
            if point <= 0.0 {
                return Some(*token);
            }
        }
        kept.last().map(|(_, token)| *token)
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

/// The highest logit of the tokens that may be chosen; on a tie the lesser token, as argmax does. `allowed` is asked only of what is
/// higher than what was found, because it may take its time.
pub(super) fn likeliest(logits: &[f32], allowed: &dyn Fn(u32) -> bool) -> Option<(f32, u32)> {
    let mut best: Option<(f32, u32)> = None;
    for (logit, token) in logits.iter().zip(0u32..) {
        let is_higher = best.is_none_or(|(highest, _)| *logit > highest);
        if is_higher && !logit.is_nan() && allowed(token) {
            best = Some((*logit, token));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(change: impl Fn(&mut Sampling)) -> Vec<usize> {
        let mut request = Request { seed: 7, ..Request::default() };
        request.sampling.temperature = Some(1.0);
        change(&mut request.sampling);
        let mut sampler = Sampler::new(&request);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            // Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1.
            let logits = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln);
            counts[sampler.choose(&logits, &|_| true).unwrap() as usize] += 1;
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
        let mut sampler = Sampler::new(&request);
        let logits = [3.0, 2.0, -1.0];
        assert_eq!(sampler.choose(&logits, &|_| true), Some(0));
        sampler.saw(0);
        sampler.saw(0);
        assert_eq!(sampler.choose(&logits, &|_| true), Some(1));
        sampler.saw(1);
        assert_eq!(sampler.choose(&logits, &|_| true), Some(0));
        assert_eq!(sampler.choose(&[-1.0, -3.0, -2.5], &|_| true), Some(0));
        (0..RECENT_LEN).for_each(|_| sampler.saw(2));
        assert_eq!(sampler.choose(&logits, &|_| true), Some(0));
    }

    #[test]
    fn only_allowed_tokens_are_chosen_and_a_seed_repeats_the_choice() {
        let sampling = Sampling { temperature: Some(1.0), ..Sampling::default() };
        let sampler = |seed| Sampler::new(&Request { sampling, seed, ..Request::default() });
        let choose = |seed| sampler(seed).choose(&[0.0; 100], &|token| token % 2 == 1);
        assert_eq!(choose(1), choose(1));
        assert!((0..50).all(|seed| choose(seed).unwrap() % 2 == 1));
        assert_eq!(sampler(1).choose(&[1.0, f32::NAN], &|token| token > 0), None);
    }
}
