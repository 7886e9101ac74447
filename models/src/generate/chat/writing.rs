//! An answer on its way: the tokens so far, what of them the model has taken in, and how likely each was.

use super::{Chat, Sampler, room::Claim, sample::Allowed};
use crate::{
    Error,
    decoder::{Session, Writer},
    generate::{Request, TokenLogprob},
};

/// A prompt that was read.
pub(super) struct Begun {
    pub(super) prompt: Vec<u32>,
    /// How many of its tokens a kept session held.
    pub(super) reused: usize,
    pub(super) session: Session,
    pub(super) claim: Claim,
    /// Of the token that follows.
    pub(super) logits: Vec<f32>,
}

pub(super) struct Writing<'a> {
    pub(super) chat: &'a Chat,
    pub(super) sampler: Sampler,
    session: Session,
    claim: Claim,
    _writer: Writer<'a>,
    /// The tokens of the prompt, then of the answer; the session has the first of them.
    held: Vec<u32>,
    logits: Vec<f32>,
    tokens_in: usize,
    tokens_reused: usize,
    /// How many alternatives are told of each token.
    top: Option<usize>,
    logprobs: Vec<TokenLogprob>,
}

impl<'a> Writing<'a> {
    /// After a prompt.
    pub(super) fn new(chat: &'a Chat, request: &Request, sampler: Sampler, begun: Begun) -> Self {
        let Begun { prompt, reused: tokens_reused, session, claim, logits } = begun;
        let (tokens_in, top) = (prompt.len(), request.logprobs);
        let _writer = chat.decoder.writer();
        let logprobs = Vec::new();
        Self { chat, sampler, session, claim, _writer, held: prompt, logits, tokens_in, tokens_reused, top, logprobs }
    }

    /// How many tokens the prompt has.
    pub(super) const fn tokens_in(&self) -> usize {
        self.tokens_in
    }

    /// How many tokens of the prompt were read before.
    pub(super) const fn tokens_reused(&self) -> usize {
        self.tokens_reused
    }

    /// How many tokens the answer has.
    pub(super) fn tokens_out(&self) -> usize {
        self.held.len() - self.tokens_in
    }

    /// The tokens of the answer.
    pub(super) fn written(&self) -> &[u32] {
        &self.held[self.tokens_in..]
    }

    /// A token that may be chosen, after what was written is taken in; `None` when there is none. It is not written yet.
    pub(super) fn choose(&mut self, allowed: Allowed<'_>) -> Result<Option<u32>, Error> {
        let waiting = &self.held[self.session.len()..];
        if !waiting.is_empty() {
            self.chat.place.extend(&mut self.claim, self.held.len());
            let wanted = match allowed {
                // How likely a token was is told beside all others.
                Allowed::Bits(bits) if self.top.is_none() => Some(bits),
                _ => None,
            };
            self.logits = self.chat.decoder.forward_to(&mut self.session, waiting, wanted)?;
        }
        Ok(self.sampler.choose(&self.logits, allowed))
    }

    /// Another of the tokens that the last was chosen of, which did not fit.
    pub(super) fn choose_other(&mut self, than: u32) -> Option<u32> {
        self.sampler.choose_other(&self.logits, than)
    }

    /// Writes a token that was chosen from the logits.
    pub(super) fn push_chosen(&mut self, token: u32) {
        self.sampler.saw(token);
        self.held.push(token);
        if let Some(top) = self.top {
            let likely = likelihoods(&self.logits, token, top);
            let bytes = |token: u32| self.chat.tokens.bytes(token).to_vec();
            let top = likely.1.into_iter().map(|(token, logprob)| (bytes(token), logprob)).collect();
            self.logprobs.push(TokenLogprob { bytes: bytes(token), logprob: likely.0, top });
        }
    }

    /// Writes the only token that could be chosen.
    pub(super) fn push_only(&mut self, token: u32) {
        self.sampler.saw(token);
        self.push_forced(&[token]);
    }

    /// Writes tokens that nobody chose.
    pub(super) fn push_forced(&mut self, tokens: &[u32]) {
        self.held.extend(tokens);
        if self.top.is_some() {
            let told = |token: &u32| TokenLogprob {
                bytes: self.chat.tokens.bytes(*token).to_vec(),
                logprob: 0.0,
                top: Vec::new(),
            };
            self.logprobs.extend(tokens.iter().map(told));
        }
    }

    /// Takes back all tokens of the answer after the first so many.
    pub(super) fn cut(&mut self, tokens: usize) {
        let len = self.tokens_in + tokens;
        self.held.truncate(len);
        self.session.truncate(len);
        self.logprobs.truncate(tokens);
    }

    /// Keeps the session for the next prompt. Gives how likely the tokens were.
    pub(super) fn finish(mut self) -> Vec<TokenLogprob> {
        self.held.truncate(self.session.len());
        self.chat.place.keep(self.held, self.session, self.claim);
        self.logprobs
    }
}

/// The logarithm of a token's probability, and the likeliest tokens with theirs.
fn likelihoods(logits: &[f32], token: u32, top: usize) -> (f32, Vec<(u32, f32)>) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).filter(|e| e.is_finite()).sum();
    let log = |logit: f32| (f64::from(logit - highest) - sum.ln()) as f32;
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
    for (logit, token) in logits.iter().zip(0u32..) {
        if best.len() == top && best.last().is_none_or(|(_, least)| logit <= least) {
            continue;
        }
        let at = best.partition_point(|(_, other)| other >= logit);
        best.insert(at, (token, *logit));
        best.truncate(top);
    }
    let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    (log(own), best.into_iter().map(|(token, logit)| (token, log(logit))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_told_as_logarithms_the_likeliest_first() {
        let logits = [0.1f32, 0.4, 0.2, 0.3].map(|share| share.ln() + 3.0);
        let (own, top) = likelihoods(&logits, 2, 3);
        assert!((own - 0.2f32.ln()).abs() < 1e-6);
        assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 3, 2]);
        assert!((top[0].1 - 0.4f32.ln()).abs() < 1e-6);
        assert_eq!(likelihoods(&logits, 0, 0).1, []);
    }
}
