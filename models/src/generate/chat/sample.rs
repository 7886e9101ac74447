//! The choice of the next token from the logits.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Chooses tokens for one answer.
pub(super) struct Sampler {
    temperature: f32,
    top_p: f32,
    random: StdRng,
}

impl Sampler {
    pub(super) fn new(temperature: f32, top_p: f32, seed: u64) -> Self {
        Self { temperature, top_p, random: StdRng::seed_from_u64(seed) }
    }

    /// One of the tokens that `allowed` lets pass; `None` when it lets none pass.
    pub(super) fn choose(&mut self, logits: &[f32], allowed: &dyn Fn(u32) -> bool) -> Option<u32> {
        let candidates = logits.iter().copied().zip(0u32..).filter(|(logit, token)| !logit.is_nan() && allowed(*token));
        if self.temperature <= 0.0 {
            // On a tie the lesser token, as argmax does.
            return candidates.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, token)| token);
        }
        let mut candidates: Vec<(f32, u32)> = candidates.collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let highest = candidates.first()?.0;
        for (weight, _) in &mut candidates {
            *weight = ((*weight - highest) / self.temperature).exp();
        }
        let total: f32 = candidates.iter().map(|(weight, _)| weight).sum();
        let mut reached = 0.0;
        let kept = candidates.iter().take_while(|(weight, _)| {
            let is_kept = reached < self.top_p * total;
            reached += weight;
            is_kept
        });
        let kept: Vec<(f32, u32)> = kept.copied().collect();
        let kept = if kept.is_empty() { &candidates[..1] } else { &kept };
        let mut point = self.random.random::<f32>() * kept.iter().map(|(weight, _)| weight).sum::<f32>();
        for (weight, token) in kept {
            point -= weight;
            if point <= 0.0 {
                return Some(*token);
            }
        }
        kept.last().map(|(_, token)| *token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(temperature: f32, top_p: f32) -> Vec<usize> {
        let mut sampler = Sampler::new(temperature, top_p, 7);
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
        for (share, expected) in shares(1.0, 1.0).into_iter().zip([40, 30, 20, 10]) {
            assert!(share.abs_diff(expected) <= 2, "{share} {expected}");
        }
        assert_eq!(shares(0.0, 1.0), [100, 0, 0, 0]);
        assert_eq!(&shares(1.0, 0.6)[2..], [0, 0]);
        assert_eq!(shares(1.0, 0.0), [100, 0, 0, 0]);
        assert!(shares(0.3, 1.0)[0] > 60);
    }

    #[test]
    fn only_allowed_tokens_are_chosen_and_a_seed_repeats_the_choice() {
        let choose = |seed| Sampler::new(1.0, 1.0, seed).choose(&[0.0; 100], &|token| token % 2 == 1);
        assert_eq!(choose(1), choose(1));
        assert!((0..50).all(|seed| choose(seed).unwrap() % 2 == 1));
        assert_eq!(Sampler::new(1.0, 1.0, 1).choose(&[1.0, f32::NAN], &|token| token > 0), None);
    }
}
