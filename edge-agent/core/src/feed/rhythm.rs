//! When a feed is heard, so that its silence can be told from its usual pauses.

use std::time::Duration;

use shared::time::Timestamp;

/// A pause so many times as long as the longest that was usual lately is a silence.
const SILENCE_FACTOR: i64 = 10;
/// No pause shorter than this is a silence: a sensor may restart, a broker may be changed.
const SILENCE_MIN_US: i64 = 60_000_000;
/// What was usual is forgotten by this part of the time that passes. A burst of seconds leaves the hour between two bursts
/// what it is; a feed that has begun to speak each second is known by that within minutes.
const FORGOTTEN: i64 = 8;

/// A feed's latest message, and how long it pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    pub heard_at: Timestamp,
    /// The longest pause that was usual lately, in microseconds; 0 until there were two messages apart.
    pub pause_us: i64,
}

impl Rhythm {
    /// Of a feed that is heard for the first time.
    #[must_use]
    pub const fn first(at: Timestamp) -> Self {
        Self { heard_at: at, pause_us: 0 }
    }

    /// With a further message. A silence counts as the longest pause that is none, so that an outage of a day does not make
    /// the next one usual, and a feed that speaks once an hour is known after a few.
    #[must_use]
    pub fn heard(self, at: Timestamp) -> Self {
        let gap = at.as_micros().saturating_sub(self.heard_at.as_micros()).max(0);
        let pause_us = gap.min(self.silence_us()).max(self.pause_us - gap / FORGOTTEN);
        Self { heard_at: at, pause_us }
    }

    /// Whether the feed has fallen silent, when it was listened to since `from`.
    #[must_use]
    pub fn is_silent(self, from: Timestamp, now: Timestamp) -> bool {
        let begin = self.heard_at.max(from);
        self.pause_us > 0 && now.as_micros().saturating_sub(begin.as_micros()) > self.silence_us()
    }

    /// The longest usual pause.
    #[must_use]
    pub fn pause(self) -> Duration {
        Duration::from_micros(u64::try_from(self.pause_us).unwrap_or(0))
    }

    fn silence_us(self) -> i64 {
        self.pause_us.saturating_mul(SILENCE_FACTOR).max(SILENCE_MIN_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    /// What a feed is known by that was heard at these seconds.
    fn after(heard: impl IntoIterator<Item = i64>) -> Rhythm {
        let mut heard = heard.into_iter().map(|second| Timestamp::from_micros(second * S));
        let first = Rhythm::first(heard.next().expect("heard once"));
        heard.fold(first, Rhythm::heard)
    }

    fn is_silent_after(rhythm: Rhythm, seconds: i64) -> bool {
        rhythm.is_silent(Timestamp::from_micros(0), rhythm.heard_at.plus_micros(seconds * S))
    }

    #[test]
    fn a_steady_feed_is_silent_after_ten_of_its_pauses_and_never_within_a_minute() {
        let each_second = after(0..100);
        assert_eq!(each_second.pause(), Duration::from_secs(1));
        assert!(!is_silent_after(each_second, 60) && is_silent_after(each_second, 61));
        let each_quarter = after((0..20).map(|n| n * 900));
        assert!(!is_silent_after(each_quarter, 9_000) && is_silent_after(each_quarter, 9_001));
    }

    #[test]
    fn the_hour_between_two_bursts_is_no_silence() {
        let bursts = after((0..10).flat_map(|hour| (0..300).map(move |n| hour * 3_600 + n / 10)));
        assert!(!is_silent_after(bursts, 3_600), "{bursts:?}");
        assert!(is_silent_after(bursts, 12 * 3_600), "{bursts:?}");
    }

    #[test]
    fn after_an_outage_the_next_one_is_told_of_again() {
        let rhythm = after((0..100).chain((0..600).map(|n| 86_400 + n)));
        assert!(is_silent_after(rhythm, 61), "{rhythm:?}");
    }

    #[test]
    fn nothing_is_said_of_a_feed_whose_pauses_are_not_known_or_that_nobody_listened_to() {
        assert!(!is_silent_after(after([0]), 1_000_000));
        let rhythm = after(0..100);
        let now = Timestamp::from_micros(100_000 * S);
        assert!(!rhythm.is_silent(now.plus_micros(-30 * S), now), "the agent has just started");
        assert!(!rhythm.is_silent(Timestamp::from_micros(0), Timestamp::from_micros(0)), "the clock was set back");
    }
}
