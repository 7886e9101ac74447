//! The only reader of the wall clock and of the system's randomness. Decisions get what it says as data.

use std::{sync::Mutex, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use shared::time::Timestamp;

/// Now, by the wall clock. The clock may be wrong or jump: never take a difference of two calls as a duration.
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Sixteen unpredictable bytes, to seed an id or a secret.
///
/// # Panics
/// When the system has no source of randomness: no secret made after that could be trusted.
#[must_use]
pub fn seed() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has a source of randomness");
    bytes
}

/// No wall clock that is right says an earlier time: this program was not there yet. Machines without a battery begin in 1970.
const NOT_BEFORE: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Where time comes from: the machine, or a simulation.
pub trait Source: Send + Sync + 'static {
    /// The wall clock, right or wrong.
    fn wall(&self) -> Timestamp;

    /// How long it is since some instant of this process: never goes back, whatever is done to the wall clock.
    fn passed(&self) -> Duration;

    /// Ends when so much time has passed.
    fn pass(&self, span: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clocks.
struct Machine(std::time::Instant);

impl Source for Machine {
    fn wall(&self) -> Timestamp {
        now()
    }

    fn passed(&self) -> Duration {
        self.0.elapsed()
    }

    fn pass(&self, span: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(span).boxed()
    }
}

/// The machine's clocks, from now on.
#[must_use]
pub fn machine() -> impl Source {
    Machine(std::time::Instant::now())
}

/// Time as the node's runs have it: the wall clock, except that it never goes back. It starts no earlier than the latest
/// instant that the store has recorded; while the wall clock lies behind (no battery, set back, 1970 at boot), it goes
/// on as fast as time really passes; once the wall clock is ahead, it follows.
pub struct Steady {
    source: Box<dyn Source>,
    /// An instant, and what `passed` said then.
    base: Mutex<(Timestamp, Duration)>,
}

impl Steady {
    /// By the machine's clocks; `recorded` is the latest instant that the store knows.
    #[must_use]
    pub fn after(recorded: Timestamp) -> Self {
        Self::by(machine(), recorded)
    }

    /// By other clocks.
    pub fn by(source: impl Source, recorded: Timestamp) -> Self {
        let base = Mutex::new((recorded, source.passed()));
        Self { source: Box::new(source), base }
    }

    /// Now, never before an earlier answer.
    ///
    /// # Panics
    /// When a thread panicked while it read the clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let mut base = self.base.lock().expect("no thread panicked with the clock");
        let passed = self.source.passed();
        let steady = base.0.plus(passed.saturating_sub(base.1));
        let wall = self.source.wall();
        if wall <= steady {
            return steady;
        }
        *base = (wall, passed);
        wall
    }

    /// The wall clock that this one follows.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.source.wall()
    }

    /// The wall clock, if it may be right.
    #[must_use]
    pub fn believed_wall(&self) -> Option<Timestamp> {
        Some(self.wall()).filter(|wall| *wall >= NOT_BEFORE)
    }

    /// Whether the wall clock lies behind, so that it may be set right at any moment.
    #[must_use]
    pub fn is_ahead_of_wall(&self) -> bool {
        self.now() > self.wall()
    }

    /// How long it is since some instant of this process: the one time that no setting of a clock changes.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.source.passed()
    }

    /// An instant of the wall clock in this time: as far ahead of now here as it is there.
    #[must_use]
    pub fn of_wall(&self, at: Timestamp) -> Timestamp {
        let now = self.now();
        now.plus_micros(at.as_micros().saturating_sub(self.wall().as_micros()))
    }

    /// Ends when so much time has passed.
    pub fn pass(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.source.pass(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: i64) -> Timestamp {
        Timestamp::from_millis(s * 1_000)
    }

    /// The wall clock and the time that passed, in seconds.
    #[derive(Clone, Default)]
    struct Hands(std::sync::Arc<Mutex<(i64, u64)>>);

    impl Source for Hands {
        fn wall(&self) -> Timestamp {
            seconds(self.0.lock().unwrap().0)
        }

        fn passed(&self) -> Duration {
            Duration::from_secs(self.0.lock().unwrap().1)
        }

        fn pass(&self, _: Duration) -> BoxFuture<'static, ()> {
            futures::future::pending().boxed()
        }
    }

    /// Sets the wall clock and lets time pass, by turns; both in seconds.
    fn times(recorded: i64, script: &[(i64, u64)]) -> Vec<i64> {
        let hands = Hands::default();
        let steady = Steady::by(hands.clone(), seconds(recorded));
        let tell = |(wall, passes): &(i64, u64)| {
            hands.0.lock().unwrap().0 = *wall;
            let told = steady.now().as_millis() / 1_000;
            hands.0.lock().unwrap().1 += passes;
            told
        };
        script.iter().map(tell).collect()
    }

    #[test]
    fn time_never_goes_back_and_never_stands_still() {
        assert_eq!(times(100, &[(200, 10), (210, 5), (215, 0)]), [200, 210, 215], "a clock that is right is told");
        assert_eq!(
            times(100, &[(0, 10), (10, 5), (15, 0)]),
            [100, 110, 115],
            "1970 at boot: on from what was recorded"
        );
        assert_eq!(times(0, &[(500, 10), (100, 10), (110, 0)]), [500, 510, 520], "set back: as fast as time passes");
        assert_eq!(times(100, &[(0, 10), (900, 10), (910, 0)]), [100, 900, 910], "set right again: it follows");
        let hourly = [(7_200, 10), (3_600, 10), (7_220, 10), (3_620, 10), (7_240, 0)];
        assert_eq!(times(0, &hourly), [7_200, 7_210, 7_220, 7_230, 7_240], "to and fro: nothing happens twice");
    }
}
