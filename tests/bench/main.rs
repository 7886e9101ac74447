//! Measures one edge agent as its users run it: release binary, its own process, QoS 1 over loopback, everything durable.
//!
//! Each figure is the median of several runs. Latency is the agent's own histogram of publish to detector: the publisher
//! puts its clock into the payload, and both clocks are the same machine's.

mod figures;
mod load;

use std::{path::Path, time::Duration};

use clap::Parser;
use tests::agent::{Agent, Setup};

/// Throughput, latency, memory, start-up time and size of the edge agent.
#[derive(Parser)]
#[command(name = "bench")]
struct Options {
    /// How often each figure is measured; the median is told.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Messages of a throughput run.
    #[arg(long, default_value_t = 200_000)]
    messages: usize,
    /// Rates, in messages a second, at which latency and memory are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    rates: Vec<u32>,
    /// How long each rate is held, in seconds.
    #[arg(long, default_value_t = 15)]
    hold_s: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let mut figures = figures::Figures::default();
    let binary = tests::binaries::folder().join("edge-agent");
    let bytes = std::fs::metadata(&binary).expect("the binary was built").len();
    figures.add("size of the stripped binary", "MB", bytes as f64 / 1e6);
    for _ in 0..options.runs {
        let folder = tempfile::tempdir().expect("a folder");
        let site = tests::agent::site("tests/scenarios/sites/bench", folder.path());
        measure(&options, &mut figures, folder.path(), &site).await;
    }
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.table());
    }
}

async fn measure(options: &Options, figures: &mut figures::Figures, folder: &Path, site: &Path) {
    let started = load::start_to_first_message(folder, site).await;
    figures.add("process start to first message handled", "ms", started.as_secs_f64() * 1e3);

    let mut agent = Agent::new(folder, &Setup::new("bench", site));
    agent.start().await;
    let idle = load::memory_when_settled(&mut agent).await;
    figures.add("memory, idle", "MB", idle);

    for rate in &options.rates {
        let held = load::hold(&mut agent, *rate, Duration::from_secs(options.hold_s)).await;
        figures.add(&format!("latency p50 at {rate}/s"), "ms", held.p50_ms);
        figures.add(&format!("latency p99 at {rate}/s"), "ms", held.p99_ms);
        figures.add(&format!("memory at {rate}/s"), "MB", held.memory_mb);
    }
    let rate = load::flood(&mut agent, options.messages).await;
    figures.add("messages a second, publish to detector, QoS 1 durable", "1/s", rate);
    agent.stop().await;
}
