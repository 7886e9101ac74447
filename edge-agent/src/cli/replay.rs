//! `edge-agent replay`: a recording as live readings, at QoS 1, each acknowledged.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Context, Failure, local::Local, output, small_runtime};
use crate::feed::{
    config::Broker,
    connection::Connection,
    replay::{Error, Speed, replay},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The recording is a CSV file with the columns `timestamp` and `value`. Each row is published as
{\"timestamp\": ..., \"value\": ..., \"seq\": ...}; what the broker does not acknowledge is sent again.")]
pub(super) struct Args {
    /// The recording.
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    /// The topic to publish to.
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    topic: String,
    /// `max`, `realtime`, or so many times as fast as it was recorded, such as `60x`.
    #[arg(long, default_value = "max", value_name = "SPEED")]
    speed: Speed,
    /// The broker, such as mqtt://127.0.0.1:1883; without it that of the node's configuration.
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
}

/// A topic to publish to, not a filter: the client would refuse it again and again.
fn topic(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['+', '#', '\0']) {
        return Err(format!("{text:?} is no topic to publish to: expected one without + and #"));
    }
    Ok(text.to_owned())
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let connection = connection(args, context)?;
    let bar = if context.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} acknowledged, {per_sec}, {eta} to go") {
        bar.set_style(style);
    }
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let started = std::time::Instant::now();
    let outcome = small_runtime()?.block_on(replay(&args.file, &args.topic, args.speed, &connection, progress));
    bar.finish_and_clear();
    let acknowledged = outcome.map_err(|error| match error {
        Error::Read { .. } | Error::Row { .. } => Failure::Input(format!("{:#}", anyhow::Error::new(error))),
        other => Failure::Failed(anyhow::Error::new(other)),
    })?;
    let seconds = started.elapsed().as_secs_f64();
    if context.json {
        output::json(&json!({ "acknowledged": acknowledged, "seconds": seconds }))?;
    } else {
        println!("{acknowledged} readings published to {} and acknowledged, in {seconds:.1} s.", args.topic);
    }
    Ok(ExitCode::SUCCESS)
}

/// The broker that was named, or the site's own, or the running agent's embedded one wherever it listens.
fn connection(args: &Args, context: &Context) -> Result<Connection, Failure> {
    if let Some(url) = &args.broker {
        return of(&Broker { url: Some(url.clone()), ..Broker::default() });
    }
    let config = context.config()?;
    if config.broker.url.is_some() {
        return of(&config.broker);
    }
    let status = Local::find(&config)?.get("/api/v1/status")?;
    let url = status["broker"].as_str().context("the agent did not say where its broker listens")?.to_owned();
    of(&Broker { url: Some(url), ..config.broker })
}

fn of(broker: &Broker) -> Result<Connection, Failure> {
    let connection = Connection::of(broker).map_err(|error| Failure::Input(error.to_string()))?;
    connection.ok_or_else(|| Failure::Input("no broker is named: expected --broker mqtt://host:port".to_owned()))
}
