//! The only reader of the wall clock and of the system's randomness. Decisions get what it says as data.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use shared::time::Timestamp;

/// Now, by the wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Unpredictable bytes, for a key or a secret.
///
/// # Panics
/// When the system has no source of randomness: no secret made after that could be trusted.
#[must_use]
pub fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).expect("the system has a source of randomness");
    bytes
}

/// A secret of 256 bits, as text that survives a shell and a URL.
#[must_use]
pub fn secret() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}
