//! Hundreds of requests at models that do not fit together, some cancelled, some given up: each answer is the one that its client would
//! get alone, and the agent holds no more than before. `tests/bench/soak` asks thousands.

use tests::soak::soak;

const REQUESTS: usize = 300;

#[tokio::test]
async fn answers_are_nobody_elses_and_nothing_is_left_of_those_that_went_away() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = std::env::var("SKERRY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now.as_secs());
    let folder = tempfile::tempdir().expect("a folder");
    let report = soak(folder.path(), REQUESTS, seed).await;
    eprintln!("{}", report.told());
    report.must_hold();
}
