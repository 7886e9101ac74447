//! An answer that fits a JSON schema whatever the model's weights: of all tokens only those are chosen that lead on to a value that fits,
//! and what can only come in one way is not computed token by token but taken in at once.

use std::ops::ControlFlow;

use llguidance::Matcher;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Characters, grammar::Hints, number::Numbers, sample::Sampler, tokens::Tokens};
use crate::{
    Error,
    decoder::{Decoder, Session},
    generate::Finish,
};

/// Ways to an end that are tried.
const WAYS: u64 = 24;
/// Digits that bring any number to a multiple of what a schema may ask for.
const MULTIPLE_DIGITS: usize = 4;
/// Characters that an end may take.
const END_BYTES_MAX: usize = 8_192;

/// Writes one answer.
pub(super) struct Guide<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) tokens: &'a Tokens,
    pub(super) hints: &'a Hints,
    pub(super) matcher: Matcher,
    pub(super) session: &'a mut Session,
    /// The tokens that the session holds or is about to: those of the prompt, then of the answer.
    pub(super) held: &'a mut Vec<u32>,
    pub(super) sampler: &'a mut Sampler,
    pub(super) send: &'a mut dyn FnMut(&str) -> ControlFlow<Finish>,
}

/// What became of an answer.
pub(super) struct Guided {
    pub(super) finish: Finish,
    pub(super) tokens_out: usize,
}

/// The answer on its way.
#[derive(Default)]
struct Written {
    characters: Characters,
    numbers: Numbers,
    tokens: usize,
    /// Of those that wait to be taken in, how many went out.
    waiting: usize,
}

impl Guide<'_> {
    /// Writes until the value is whole. When `most` tokens are written, or the receiver wants no more, it ends; in the first case the value is
    /// brought to an end in as few characters as are found.
    pub(super) fn write(mut self, mut logits: Vec<f32>, most: usize) -> Result<Guided, Error> {
        let mut written = Written::default();
        // Chosen or forced, and not yet taken in.
        let mut waiting = Vec::new();
        loop {
            waiting.extend(self.matcher.consume_ff_tokens());
            let fresh = waiting.len().saturating_sub(written.waiting);
            if let ControlFlow::Break(finish) = self.emit(&mut written, &waiting[waiting.len() - fresh..]) {
                return Ok(Guided { finish, tokens_out: written.tokens });
            }
            written.waiting = waiting.len();
            if self.matcher.is_stopped() {
                return self.stopped(&written);
            }
            if written.tokens >= most {
                return self.end(written);
            }
            let digits = if written.numbers.is_full() { self.last_digits() } else { None };
            if let Some(digits) = digits {
                self.matcher.consume_tokens(&digits).map_err(lost)?;
                waiting.extend(digits);
                continue;
            }
            if !waiting.is_empty() {
                logits = self.decoder.forward(self.session, &waiting)?;
                self.held.append(&mut waiting);
                written.waiting = 0;
            }
            let token = self.choose(&logits, &written)?;
            self.matcher.consume_token(token).map_err(lost)?;
            self.sampler.saw(token);
            if self.tokens.is_end(token) {
                return self.stopped(&written);
            }
            waiting.push(token);
        }
    }

    fn stopped(&self, written: &Written) -> Result<Guided, Error> {
        match self.matcher.get_error() {
            Some(error) => Err(lost(error)),
            None => Ok(Guided { finish: Finish::Stop, tokens_out: written.tokens }),
        }
    }

    fn choose(&mut self, logits: &[f32], written: &Written) -> Result<u32, Error> {
        let mask = self.matcher.compute_mask().map_err(lost)?;
        let count = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        let is_allowed = |token: u32| token < count && mask.is_allowed(token);
        let tokens = self.tokens;
        let short =
            self.sampler.choose(logits, &|token| is_allowed(token) && written.numbers.take(tokens.bytes(token)));
        // Where the schema asks for a longer number than is usual, it gets it.
        let chosen = short.or_else(|| self.sampler.choose(logits, &is_allowed));
        chosen.ok_or_else(|| {
            Error::request("the model gives no numbers for what fits the schema: its weights are broken")
        })
    }

    /// The fewest digits after which a number may end, where it may not end here: one that must be a multiple would otherwise go on
    /// until it is one by chance.
    fn last_digits(&mut self) -> Option<Vec<u32>> {
        let mask = self.matcher.compute_mask().ok()?;
        if mask.iter().any(|token| self.tokens.bytes(token).iter().all(|byte| !byte.is_ascii_digit())) {
            return None;
        }
        let digits: Vec<u32> = (b'0'..=b'9').filter_map(|digit| self.hints.letters[usize::from(digit)]).collect();
        let mut matcher = self.matcher.deep_clone();
        // Each round looks one digit further.
        let mut ways = vec![Vec::new()];
        for _ in 0..MULTIPLE_DIGITS {
            let mut next = Vec::new();
            for way in ways {
                matcher.consume_tokens(&way).ok()?;
                for digit in &digits {
                    if matcher.try_consume_tokens(&[*digit]).ok()? == 0 {
                        continue;
                    }
                    let longer = [&way[..], &[*digit]].concat();
                    let is_end = matcher.is_accepting().ok()?
                        || [b',', b'}', b']']
                            .iter()
                            .filter_map(|byte| self.hints.letters[usize::from(*byte)])
                            .any(|token| matcher.validate_tokens(&[token]).is_ok_and(|count| count == 1));
                    if is_end {
                        return Some(longer);
                    }
                    matcher.rollback(1).ok()?;
                    next.push(longer);
                }
                matcher.rollback(way.len()).ok()?;
            }
            ways = next;
        }
        None
    }

    fn emit(&mut self, written: &mut Written, tokens: &[u32]) -> ControlFlow<Finish> {
        for token in tokens {
            let bytes = self.tokens.bytes(*token);
            written.tokens += 1;
            written.numbers.push(bytes);
            let text = written.characters.push(bytes);
            if !text.is_empty() {
                (self.send)(&text)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Brings the value to an end without the model: brackets and quotes close as soon as they may, and where neither may, a way is guessed;
    /// the shortest of some.
    fn end(mut self, mut written: Written) -> Result<Guided, Error> {
        let mut best: Option<Vec<u32>> = None;
        for seed in 0..WAYS {
            let limit = best.as_ref().map_or(END_BYTES_MAX, |best| self.bytes(best).saturating_sub(1));
            let found = self.way(StdRng::seed_from_u64(seed), written.numbers, limit);
            best = found.or(best);
        }
        let Some(best) = best else {
            let most = written.tokens;
            return Err(Error::request(format!(
                "max_tokens or the context ended after {most} tokens, and no short end was found that fits the schema: \
                 expected more room, or a schema with smaller values"
            )));
        };
        let finish = match self.emit(&mut written, &best) {
            ControlFlow::Continue(()) => Finish::Length,
            ControlFlow::Break(finish) => finish,
        };
        Ok(Guided { finish, tokens_out: written.tokens })
    }

    fn bytes(&self, tokens: &[u32]) -> usize {
        tokens.iter().map(|token| self.tokens.bytes(*token).len()).sum()
    }

    /// One way to an end of at most so many bytes.
    fn way(&self, mut random: StdRng, mut numbers: Numbers, limit: usize) -> Option<Vec<u32>> {
        let mut matcher = self.matcher.deep_clone();
        let (mut way, mut len) = (Vec::new(), 0);
        while len <= limit {
            let forced = matcher.consume_ff_tokens();
            len += self.bytes(&forced);
            forced.iter().for_each(|token| numbers.push(self.tokens.bytes(*token)));
            way.extend(forced);
            let is_whole = matcher.is_stopped() || matcher.is_accepting().ok()?;
            if is_whole {
                return (matcher.get_error().is_none() && len <= limit).then_some(way);
            }
            let mask = matcher.compute_mask().ok()?;
            let letter = |byte: u8| self.hints.letters[usize::from(byte)].filter(|token| mask.is_allowed(*token));
            let closing: &[u8] = if numbers.is_text() { b"\"" } else { b"}]\"" };
            let closing = closing.iter().find_map(|byte| letter(*byte));
            if closing.is_none() && numbers.is_text() && !self.hints.texts.is_empty() && random.random_bool(0.3) {
                let text = &self.hints.texts[random.random_range(0..self.hints.texts.len())];
                let count = matcher.try_consume_tokens(text).ok()?;
                way.extend(&text[..count]);
                len += count;
                if count > 0 {
                    continue;
                }
            }
            let token = closing.or_else(|| {
                // A backslash only begins what takes longer.
                let all: Vec<u32> = (b'!'..=255).filter(|byte| *byte != b'\\').filter_map(letter).collect();
                match all.len() {
                    0 => letter(b' ').or_else(|| mask.iter().find(|token| !self.tokens.is_end(*token))),
                    count => Some(all[random.random_range(0..count)]),
                }
            })?;
            matcher.consume_token(token).ok()?;
            len += self.tokens.bytes(token).len();
            numbers.push(self.tokens.bytes(token));
            way.push(token);
        }
        None
    }
}

fn lost(error: impl std::fmt::Display) -> Error {
    let reason = error.to_string();
    Error::request(format!("schema: the answer cannot be held to it: {}", reason.lines().next().unwrap_or_default()))
}
