//! How a target has done lately: a circuit breaker and the speed of its answers. Pure; the time comes in.

use std::time::Duration;

use edge_core::route::Health;
use shared::time::Timestamp;

/// The shortest rest, whatever the target says.
const REST_MIN: Duration = Duration::from_secs(1);
/// How long a target rests after its first failure; doubles with each more.
const REST_FIRST: Duration = Duration::from_secs(5);
/// The longest rest, so that a provider that is back is used again within minutes.
const REST_MAX: Duration = Duration::from_secs(120);
/// A speed older than this says nothing any more: otherwise one slow answer could shut a target out for ever.
const SPEED_AGE_MAX: Duration = Duration::from_secs(300);

/// What is remembered of one target.
#[derive(Debug, Clone, Default)]
pub struct Record {
    failures: u32,
    down: Option<(Timestamp, String)>,
    speed: Option<(Duration, Timestamp)>,
}

impl Record {
    /// An answer came after `took`.
    pub fn answered(&mut self, took: Duration, now: Timestamp) {
        self.failures = 0;
        self.down = None;
        // An exponential mean with weight 1/4: follows a change within a few calls and shrugs off one outlier.
        let mean = self.expected(now).map_or(took, |mean| (mean * 3 + took) / 4);
        self.speed = Some((mean, now));
    }

    /// No answer came. `rest` is how long the target itself asked to be left alone.
    pub fn failed(&mut self, reason: String, rest: Option<Duration>, now: Timestamp) {
        let backoff = REST_FIRST.saturating_mul(1 << self.failures.min(10)).min(REST_MAX);
        self.failures = self.failures.saturating_add(1);
        // "Retry after 0 s" must not make the route try it again within the same call.
        self.down = Some((now.plus(rest.unwrap_or(backoff).max(REST_MIN)), reason));
    }

    /// Something says that the target may be back: the next call may try it.
    pub fn hope(&mut self, now: Timestamp) {
        if let Some((until, _)) = &mut self.down {
            *until = now.min(*until);
        }
    }

    /// Whether calls may try it now.
    #[must_use]
    pub fn health(&self, now: Timestamp) -> Health {
        match &self.down {
            None => Health::Up,
            Some((until, reason)) if now < *until => Health::Down { until: *until, reason: reason.clone() },
            Some(_) => Health::Probing,
        }
    }

    /// How long an answer is likely to take.
    #[must_use]
    pub fn expected(&self, now: Timestamp) -> Option<Duration> {
        self.speed.filter(|(_, at)| now.since(*at) <= SPEED_AGE_MAX).map(|(mean, _)| mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_target_rests_longer_after_each_failure_and_is_up_again_after_an_answer() {
        let mut record = Record::default();
        record.failed("refused".to_owned(), None, at(0));
        assert_eq!(record.health(at(4)), Health::Down { until: at(5), reason: "refused".to_owned() });
        assert_eq!(record.health(at(5)), Health::Probing);
        record.failed("refused".to_owned(), None, at(5));
        assert_eq!(record.health(at(14)), Health::Down { until: at(15), reason: "refused".to_owned() });
        for _ in 0..40 {
            record.failed("refused".to_owned(), None, at(100));
        }
        assert_eq!(record.health(at(220)), Health::Probing, "never longer than the longest rest");
        record.answered(Duration::from_secs(1), at(220));
        assert_eq!(record.health(at(220)), Health::Up);
    }

    #[test]
    fn a_target_that_names_its_rest_gets_it() {
        let mut record = Record::default();
        record.failed("rate limit".to_owned(), Some(Duration::from_secs(42)), at(0));
        assert_eq!(record.health(at(41)), Health::Down { until: at(42), reason: "rate limit".to_owned() });
        record.hope(at(10));
        assert_eq!(record.health(at(10)), Health::Probing);
    }

    #[test]
    fn a_speed_is_a_mean_that_is_forgotten_with_age() {
        let mut record = Record::default();
        assert_eq!(record.expected(at(0)), None);
        record.answered(Duration::from_secs(4), at(0));
        record.answered(Duration::from_secs(8), at(1));
        assert_eq!(record.expected(at(1)), Some(Duration::from_secs(5)));
        assert_eq!(record.expected(at(302)), None);
    }
}
