//! `edge-agent run`: the agent in the foreground, until it is told to stop.

use std::{process::ExitCode, time::Duration};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::{Context, Failure, doctor};
use crate::agent;

/// How long what computes may hold up the end of the process.
const LEFT_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: a level, or targets with levels as in `info,edge_agent::feed=debug`.
    #[arg(long, default_value = "info,mqtt5=error", env = "SKERRY_LOG", value_name = "FILTER")]
    log: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let config = context.config()?;
    let filter =
        EnvFilter::try_new(&args.log).map_err(|error| Failure::Input(format!("--log {:?}: {error}", args.log)))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(4))
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context("cannot start the runtime")))?;
    let ended = std::thread::scope(|scope| {
        // Reads the heads of model files, which the start need not wait for.
        scope.spawn(|| doctor::cramped(&config, context).inspect(|problem| tracing::warn!("{problem}")));
        runtime.block_on(agent::run(config.clone()))
    });
    // A model that writes for nobody any more, or a look at many files: nothing of it is lost.
    runtime.shutdown_timeout(LEFT_WITHIN);
    ended?;
    Ok(ExitCode::SUCCESS)
}
