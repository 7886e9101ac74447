//! Asks a node's models thousands of times, cancels some and gives up others, and tells what came of it; ends with an error if something did
//! not hold.

use clap::Parser;
use tests::soak;

/// Requests at models of which not all fit together, with cancellations and time-outs by chance.
#[derive(Parser)]
#[command(name = "soak")]
struct Options {
    /// How many.
    #[arg(default_value_t = 10_000)]
    requests: usize,
    /// What chance goes by.
    #[arg(default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() {
    let Options { requests, seed } = Options::parse();
    let folder = tempfile::tempdir().expect("a folder");
    let report = soak::soak(folder.path(), requests, seed).await;
    println!("{}", report.told());
    report.must_hold();
}
