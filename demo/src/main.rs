//! `cargo demo`: a plant, three agents and a control plane on this machine, and a story told with them.

mod content;
mod plant;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Only the simulated plant, against brokers that are already there.
    Plant(plant::run::Options),
    /// Only the bundle directory of one group, to look at or to start an agent with.
    Content(content::Options),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Some(Part::Plant(options)) => plant::run::run(&options).await,
        Some(Part::Content(options)) => content::run(&options),
        None => Ok(()),
    }
}
