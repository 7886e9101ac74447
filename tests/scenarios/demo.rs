//! The demo is a promise of its own: it returns 0 only if all that it tells was really observed.

use std::time::Duration;

use tests::{binaries, process};

#[tokio::test]
async fn the_demo_observes_its_whole_story() {
    let mut demo = binaries::command("demo");
    // The binaries are there already; Cargo's name in the environment would make the demo build them again.
    demo.env_remove("CARGO");
    let said = process::run(demo.arg("--once").current_dir(binaries::checkout()), Duration::from_secs(420)).await;
    assert_eq!(said.code(), 0, "{}\n{}", said.out, said.err);
}
