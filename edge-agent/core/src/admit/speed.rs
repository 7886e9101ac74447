//! How fast a model answers, from the answers that it gave, and how long the next will take.

use std::time::Duration;

/// Tokens of a prompt below which its time says little of the speed.
const PROMPT_LEAST: u64 = 16;
/// The weight of the newest measurement in each mean: follows a change within a few answers and shrugs off one outlier.
const NEWEST: f64 = 0.25;

/// What was seen of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Tokens of the prompt that were read, without those that were known from before.
    pub prompt_tokens: u64,
    pub answer_tokens: u64,
    /// From the beginning to the first text.
    pub first: Duration,
    /// From the first text to the end.
    pub rest: Duration,
}

/// Exponential means over answers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Speed {
    /// Tokens of prompts a second.
    pub prompt: Option<f64>,
    /// Tokens of answers a second.
    pub decode: Option<f64>,
    /// Seconds to the first text.
    pub first: Option<f64>,
    /// Tokens of an answer.
    pub answer: Option<f64>,
    /// Seconds that loading took.
    pub load: Option<f64>,
}

impl Speed {
    /// An answer came.
    pub fn answered(&mut self, seen: &Seen) {
        let Seen { prompt_tokens, answer_tokens, first, rest } = *seen;
        mean(&mut self.first, first.as_secs_f64());
        if prompt_tokens >= PROMPT_LEAST && !first.is_zero() {
            mean(&mut self.prompt, prompt_tokens as f64 / first.as_secs_f64());
        }
        if answer_tokens > 0 {
            mean(&mut self.answer, answer_tokens as f64);
        }
        if answer_tokens > 1 && !rest.is_zero() {
            mean(&mut self.decode, (answer_tokens - 1) as f64 / rest.as_secs_f64());
        }
    }

    /// Loading the model took so long.
    pub fn loaded(&mut self, took: Duration) {
        mean(&mut self.load, took.as_secs_f64());
    }

    /// How long an answer to so many tokens will take, as long as answers usually are and no longer than `answer_max` tokens (none of a model
    /// that writes nothing); with loading when the model is not there. `None` before the first answer.
    #[must_use]
    pub fn takes(&self, prompt_tokens: u64, answer_max: u64, is_loaded: bool) -> Option<Duration> {
        let writing = if answer_max == 0 { 0.0 } else { self.answer?.min(answer_max as f64) / self.decode? };
        let seconds = prompt_tokens as f64 / self.prompt? + writing;
        let load = if is_loaded { 0.0 } else { self.load.unwrap_or(0.0) };
        Duration::try_from_secs_f64(seconds + load).ok()
    }
}

fn mean(of: &mut Option<f64>, newest: f64) {
    *of = Some(of.map_or(newest, |mean| mean + (newest - mean) * NEWEST));
}

/// How long one waits before whom so much work stands, of those who are served and of those who wait, where so many are served at the
/// same time.
#[must_use]
pub fn wait(busy: Duration, ahead: Duration, places: usize) -> Duration {
    (busy + ahead) / u32::try_from(places.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(prompt_tokens: u64, answer_tokens: u64, first_s: u64, rest_s: u64) -> Seen {
        let (first, rest) = (Duration::from_secs(first_s), Duration::from_secs(rest_s));
        Seen { prompt_tokens, answer_tokens, first, rest }
    }

    #[test]
    fn an_answer_takes_its_prompt_and_its_usual_length_at_the_speed_that_was_seen() {
        let mut speed = Speed::default();
        assert_eq!(speed.takes(100, 100, true), None, "nothing was seen yet");
        speed.loaded(Duration::from_secs(3));
        speed.answered(&seen(200, 41, 2, 4));
        assert_eq!((speed.prompt, speed.decode, speed.first), (Some(100.0), Some(10.0), Some(2.0)));
        assert_eq!(speed.takes(300, 20, true), Some(Duration::from_secs(5)), "300 at 100 a second, 20 at 10");
        assert_eq!(speed.takes(300, 1_000, true), Some(Duration::from_millis(7_100)), "as long as answers usually are");
        assert_eq!(speed.takes(300, 20, false), Some(Duration::from_secs(8)));
    }

    #[test]
    fn what_writes_nothing_takes_its_texts_at_the_speed_that_was_seen() {
        let mut speed = Speed::default();
        speed.answered(&seen(4, 0, 1, 0));
        assert_eq!(speed.takes(100, 0, true), None, "a few tokens say nothing");
        speed.answered(&seen(200, 0, 2, 0));
        speed.loaded(Duration::from_secs(3));
        assert_eq!(speed.takes(300, 0, true), Some(Duration::from_secs(3)));
        assert_eq!(speed.takes(300, 0, false), Some(Duration::from_secs(6)));
    }

    #[test]
    fn a_mean_follows_and_what_was_known_from_before_says_nothing_of_the_prompts_speed() {
        let mut speed = Speed::default();
        speed.answered(&seen(200, 41, 2, 4));
        speed.answered(&seen(3, 41, 1, 8));
        assert_eq!((speed.prompt, speed.decode, speed.first), (Some(100.0), Some(8.75), Some(1.75)));
        speed.answered(&seen(0, 0, 0, 0));
        assert_eq!((speed.prompt, speed.decode, speed.answer), (Some(100.0), Some(8.75), Some(41.0)));
    }

    #[test]
    fn one_waits_for_who_is_served_and_for_who_stands_before() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(seconds(4), seconds(6), 1), seconds(10));
        assert_eq!(wait(seconds(4), seconds(6), 2), seconds(5));
    }
}
