//! The only reader of the wall clock and of the system's randomness. Decisions get what it says as data.

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
