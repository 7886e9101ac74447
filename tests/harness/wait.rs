//! Waiting for something to become true, with a bound. The only place where a test lets time pass.

use std::time::{Duration, Instant};

/// Short enough that no test is slow for it, long enough to leave the processors to what is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until there is an answer.
///
/// # Panics
/// When the bound is over; `what` completes the sentence "waited .. for".
pub async fn until<T>(what: &str, bound: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks until the answer has stayed the same for so long, and gives it.
///
/// # Panics
/// When it still changes after the bound.
pub async fn settled<T: PartialEq + std::fmt::Debug>(
    what: &str,
    still: Duration,
    bound: Duration,
    mut ask: impl AsyncFnMut() -> T,
) -> T {
    let start = Instant::now();
    let mut last = ask().await;
    let mut since = Instant::now();
    while since.elapsed() < still {
        assert!(start.elapsed() < bound, "waited {bound:?} for {what} to settle; it is now at {last:?}");
        tokio::time::sleep(PAUSE).await;
        let now = ask().await;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
