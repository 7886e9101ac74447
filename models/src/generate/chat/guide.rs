//! An answer that fits a JSON schema whatever the model's weights: of all tokens only those are chosen that lead on to a value that fits,
//! and what can only come in one way is not computed token by token but taken in at once.

use std::ops::ControlFlow;

use llguidance::Matcher;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use toktrie::SimpleVob;

use super::{
    Characters,
    grammar::Hints,
    number::{MULTIPLE_DIGITS, Numbers},
    sample::Allowed,
    writing::Writing,
};
use crate::{Error, generate::Finish};

/// Ways to an end that are tried.
const WAYS: u64 = 24;
/// Tokens that are tried in all, about: where the end is long anyway, a few of them say little.
const STEPS_MAX: u64 = 1_000;
/// Ways that share the states of the schema's patterns, of which there is a limit: what one finds out the next need not.
const WAYS_TOGETHER: u64 = 8;
/// Where fewer than one token in so many fits, those are found out before the model's logits, of which then few are computed.
const NARROW: usize = 8;
/// Tokens that are drawn and tried in a text before those that fit are found out, which takes as long as a hundred draws.
const TRIES: usize = 8;
/// Characters that an end may take.
const END_BYTES_MAX: usize = 8_192;

/// Writes one value.
pub(super) struct Guide<'a, 'b> {
    pub(super) hints: &'a Hints,
    pub(super) matcher: Matcher,
    pub(super) writing: &'a mut Writing<'b>,
    pub(super) send: &'a mut dyn FnMut(&str) -> ControlFlow<Finish>,
}

/// The value on its way.
struct Written {
    characters: Characters,
    numbers: Numbers,
    /// Whether few tokens fitted in a text when it was last found out.
    is_narrow: bool,
}

impl Written {
    fn new(digits_max: u8) -> Self {
        Self { characters: Characters::default(), numbers: Numbers::new(digits_max), is_narrow: false }
    }

    /// Whether the next token is in a text that most tokens fit in.
    const fn is_free(&self) -> bool {
        self.numbers.is_text() && !self.is_narrow
    }
}

/// Why no more is written.
enum Stop {
    Receiver(Finish),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Guide<'_, '_> {
    /// Writes until the value is whole. When the answer has `most` tokens, or the receiver wants no more, it ends; in the first case the
    /// value is brought to an end in as few characters as are found.
    pub(super) fn write(mut self, most: usize) -> Result<Finish, Error> {
        match self.write_value(most) {
            Ok(finish) | Err(Stop::Receiver(finish)) => Ok(finish),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    fn write_value(&mut self, most: usize) -> Result<Finish, Stop> {
        let mut written = Written::new(self.hints.digits_max);
        loop {
            let forced = self.matcher.consume_ff_tokens();
            self.writing.push_forced(&forced);
            self.emit(&mut written, &forced)?;
            if self.matcher.is_stopped() {
                return self.stopped();
            }
            if self.writing.tokens_out() >= most {
                return self.end(written);
            }
            let digits = if written.numbers.is_full() { self.last_digits() } else { None };
            if let Some(digits) = digits {
                self.matcher.consume_tokens(&digits).map_err(lost)?;
                self.writing.push_forced(&digits);
                self.emit(&mut written, &digits)?;
                continue;
            }
            if written.is_free()
                && let Some(token) = self.choose_freely(&written)?
            {
                self.writing.push_chosen(token);
                self.emit(&mut written, &[token])?;
                continue;
            }
            let mask = self.mask(&written)?;
            if written.numbers.is_text() {
                written.is_narrow = mask.num_set() * NARROW < mask.len();
            }
            let only = only(&mask);
            let token = match only {
                Some(token) => token,
                None => self.choose(&mask)?,
            };
            self.matcher.consume_token(token).map_err(lost)?;
            if self.writing.chat.tokens.is_end(token) {
                return self.stopped();
            }
            match only {
                Some(_) => self.writing.push_only(token),
                None => self.writing.push_chosen(token),
            }
            self.emit(&mut written, &[token])?;
        }
    }

    fn stopped(&self) -> Result<Finish, Stop> {
        match self.matcher.get_error() {
            Some(error) => Err(lost(error).into()),
            None => Ok(Finish::Stop),
        }
    }

    /// Chooses of all tokens, and takes in what was chosen if it may come next, or what is chosen instead: so it is as likely as if it had been
    /// chosen of those that may, which need not be found out.
    fn choose_freely(&mut self, written: &Written) -> Result<Option<u32>, Error> {
        let mut chosen = self.writing.choose(Allowed::All)?;
        for tried in 1..=TRIES {
            let Some(token) = chosen else { break };
            let tokens = &self.writing.chat.tokens;
            let may_be = !tokens.is_end(token) && written.numbers.take(tokens.bytes(token));
            if may_be && self.matcher.try_consume_tokens(&[token]).map_err(lost)? == 1 {
                return Ok(Some(token));
            }
            chosen = if tried < TRIES { self.writing.choose_other(token) } else { None };
        }
        Ok(None)
    }

    /// The tokens that may come next.
    fn mask(&mut self, written: &Written) -> Result<SimpleVob, Error> {
        let mut mask = self.matcher.compute_mask().map_err(lost)?;
        let tokens = &self.writing.chat.tokens;
        // The end that a vocabulary without one was given.
        (tokens.len()..mask.len()).for_each(|token| mask.set(token, false));
        let is_long = |token: &u32| !written.numbers.take(tokens.bytes(*token));
        let long: Vec<u32> = match written.numbers.is_text() {
            // Within a text a token makes a number longer only when it leaves the text first.
            true => {
                self.hints.leaving.iter().copied().filter(|token| mask.is_allowed(*token) && is_long(token)).collect()
            }
            false => mask.iter().filter(is_long).collect(),
        };
        if long.is_empty() {
            return Ok(mask);
        }
        let mut short = mask.clone();
        long.into_iter().for_each(|token| short.disallow_token(token));
        // Where the schema asks for a longer number than is usual, it gets it.
        Ok(if short.is_zero() { mask } else { short })
    }

    fn choose(&mut self, mask: &SimpleVob) -> Result<u32, Error> {
        self.writing
            .choose(Allowed::Bits(mask.as_slice()))?
            .ok_or_else(|| Error::broken("the model gives no numbers for what fits the schema: its weights are broken"))
    }

    /// The fewest digits after which a number may end, where it may not end here: one that must be a multiple would otherwise go on
    /// until it is one by chance.
    fn last_digits(&mut self) -> Option<Vec<u32>> {
        let mask = self.matcher.compute_mask().ok()?;
        let tokens = &self.writing.chat.tokens;
        if mask.iter().any(|token| tokens.bytes(token).iter().all(|byte| !byte.is_ascii_digit())) {
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

    fn emit(&mut self, written: &mut Written, tokens: &[u32]) -> Result<(), Stop> {
        for token in tokens {
            let bytes = self.writing.chat.tokens.bytes(*token);
            written.numbers.push(bytes);
            let text = written.characters.push(bytes);
            if let ControlFlow::Break(finish) = (self.send)(&text) {
                return Err(Stop::Receiver(finish));
            }
        }
        Ok(())
    }

    /// Brings the value to an end without the model: brackets and quotes close as soon as they may, and where neither may, a way is guessed;
    /// the shortest of some.
    fn end(&mut self, mut written: Written) -> Result<Finish, Stop> {
        let mut best: Option<Vec<u32>> = None;
        let mut matcher = self.matcher.deep_clone();
        for seed in 0..WAYS {
            if best.as_ref().is_some_and(|best| best.len() as u64 * seed > STEPS_MAX) {
                break;
            }
            if seed > 0 && seed % WAYS_TOGETHER == 0 {
                matcher = self.matcher.deep_clone();
            }
            // Nothing to say: looking takes a while where values are large, and who asked may have gone.
            if let ControlFlow::Break(finish) = (self.send)("") {
                return Err(Stop::Receiver(finish));
            }
            let limit = best.as_ref().map_or(END_BYTES_MAX, |best| self.bytes(best).saturating_sub(1));
            let found = self.way(matcher.clone(), StdRng::seed_from_u64(seed), written.numbers, limit);
            best = found.or(best);
        }
        let Some(best) = best else {
            let most = self.writing.tokens_out();
            let error = format!(
                "max_tokens or the context ended after {most} tokens, and no short end was found that fits the schema: \
                 expected more room, or a schema with smaller values"
            );
            return Err(Error::request(error).into());
        };
        self.writing.push_forced(&best);
        self.emit(&mut written, &best)?;
        Ok(Finish::Length)
    }

    fn bytes(&self, tokens: &[u32]) -> usize {
        tokens.iter().map(|token| self.writing.chat.tokens.bytes(*token).len()).sum()
    }

    /// The token of a byte, if it may come next. Single tokens are tried, because a mask looks at the whole vocabulary.
    fn letter(&self, matcher: &mut Matcher, byte: u8) -> Option<u32> {
        let token = self.hints.letters[usize::from(byte)]?;
        matcher.validate_tokens(&[token]).is_ok_and(|count| count == 1).then_some(token)
    }

    /// A byte that may come next, a space only if nothing else may.
    fn any_letter(&self, matcher: &mut Matcher, random: &mut StdRng) -> Option<u32> {
        // A backslash only begins what takes longer.
        let mut all: Vec<u8> = (b'!'..=255).filter(|byte| *byte != b'\\').collect();
        while !all.is_empty() {
            let byte = all.swap_remove(random.random_range(0..all.len()));
            if let Some(token) = self.letter(matcher, byte) {
                return Some(token);
            }
        }
        self.letter(matcher, b' ')
    }

    /// One way to an end of at most so many bytes.
    fn way(&self, mut matcher: Matcher, mut random: StdRng, mut numbers: Numbers, limit: usize) -> Option<Vec<u32>> {
        let (mut way, mut len) = (Vec::new(), 0);
        while len <= limit {
            let forced = matcher.consume_ff_tokens();
            len += self.bytes(&forced);
            forced.iter().for_each(|token| numbers.push(self.writing.chat.tokens.bytes(*token)));
            way.extend(forced);
            let is_whole = matcher.is_stopped() || matcher.is_accepting().ok()?;
            if is_whole {
                return (matcher.get_error().is_none() && len <= limit).then_some(way);
            }
            let closing: &[u8] = if numbers.is_text() { b"\"" } else { b"}]\"" };
            let closing = closing.iter().find_map(|byte| self.letter(&mut matcher, *byte));
            if closing.is_none() && numbers.is_text() && !self.hints.texts.is_empty() && random.random_bool(0.3) {
                let text = &self.hints.texts[random.random_range(0..self.hints.texts.len())];
                let count = matcher.try_consume_tokens(text).ok()?;
                way.extend(&text[..count]);
                len += count;
                if count > 0 {
                    continue;
                }
            }
            let token = match closing.or_else(|| self.any_letter(&mut matcher, &mut random)) {
                Some(token) => token,
                None => matcher.compute_mask().ok()?.iter().find(|token| !self.writing.chat.tokens.is_end(*token))?,
            };
            matcher.consume_token(token).ok()?;
            len += self.writing.chat.tokens.bytes(token).len();
            numbers.push(self.writing.chat.tokens.bytes(token));
            way.push(token);
        }
        None
    }
}

/// The token of a mask that has one.
fn only(mask: &SimpleVob) -> Option<u32> {
    let mut words = mask.as_slice().iter().zip(0u32..).filter(|(word, _)| **word != 0);
    match (words.next(), words.next()) {
        (Some((word, at)), None) if word.is_power_of_two() => Some(at * u32::BITS + word.trailing_zeros()),
        _ => None,
    }
}

/// What a request is told when its grammar gives up.
pub(super) fn lost(error: impl std::fmt::Display) -> Error {
    let reason = error.to_string();
    Error::request(format!("schema: the answer cannot be held to it: {}", reason.lines().next().unwrap_or_default()))
}
