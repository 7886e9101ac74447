//! The command line: what a person can ask of a node. Tables for people, `--json` for programs.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or broken input, 3 not found, 4 the agent is not running.

mod approve;
mod approvers;
mod ask;
mod confined;
mod detectors;
mod docs;
mod doctor;
mod enroll;
mod ledger;
mod local;
mod models;
mod output;
mod person;
mod quarantine;
mod read_document;
mod replay;
mod run;
mod runs;
mod workflow;
mod write_prompts;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use rusqlite::Connection;

use crate::{config::Config, store};

/// The edge agent: sensor feeds in, decisions and actions out, with or without the link to the cloud.
#[derive(Debug, Parser)]
#[command(
    name = "edge-agent",
    version,
    max_term_width = 110,
    after_help = "\
Begin here:
  edge-agent doctor --config agent.toml      is this machine ready, and if not, what to do
  edge-agent run --config agent.toml         run the agent
  edge-agent runs --config agent.toml        what its workflows did"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// The node's configuration.
    #[arg(long, global = true, default_value = "agent.toml", env = "SKERRY_CONFIG", value_name = "FILE")]
    config: PathBuf,

    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until it is told to stop (SIGTERM or Ctrl-C).
    Run(run::Args),
    /// Join a fleet with a token that its operator made.
    Enroll(enroll::Args),
    /// Ask the node's documents, and have the answer with where it stands.
    Ask(ask::Args),
    /// Add, search, remove and list the node's documents.
    #[command(subcommand)]
    Docs(docs::Args),
    /// List, pull, verify, measure and remove local models.
    #[command(subcommand)]
    Models(models::Args),
    /// Publish a recorded CSV as live readings.
    Replay(replay::Args),
    /// Show what workflows did and why they wait; start, cancel, suspend, resume and retry runs.
    Runs(runs::Args),
    /// Show what waits for a person, and answer it.
    Approve(approve::Args),
    /// List, add and remove the people who may answer on this node.
    #[command(subcommand)]
    Approvers(approvers::Args),
    /// Show the models that detectors have learned, and which of them judge.
    #[command(subcommand)]
    Detectors(detectors::Args),
    /// Show the messages that did not fit their feed, and why.
    #[command(subcommand)]
    Quarantine(quarantine::Args),
    /// Check this node and say what to do about what is wrong.
    Doctor(doctor::Args),
    /// Read and verify the node's ledger.
    #[command(subcommand)]
    Ledger(ledger::Args),
    /// Check, draw, test and run workflow documents, and show what they may call.
    #[command(subcommand)]
    Workflow(workflow::Args),
    #[command(hide = true)]
    ReadDocument(read_document::Args),
    #[command(hide = true)]
    WritePrompts,
}

/// Why a command did not do what was asked; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// What the person gave is broken: a file, an option.
    #[error("{0}")]
    Input(String),
    #[error("{0}")]
    NotFound(String),
    #[error("the agent does not answer at {address}: is it running? (start it with `edge-agent run`)")]
    NotRunning { address: String },
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Failure {
    fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Input(_) => 2,
            Self::NotFound(_) => 3,
            Self::NotRunning { .. } => 4,
        })
    }
}

/// What every command gets.
struct Context {
    config_path: PathBuf,
    json: bool,
}

impl Context {
    fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.config_path).map_err(|problems| Failure::Input(problems.to_string()))
    }

    /// What the agent has stored, to read; it may be running.
    fn store(&self) -> Result<Connection, Failure> {
        let path = self.config()?.store_path();
        if !path.exists() {
            let message = format!(
                "there is no data yet: {} is made when the agent first runs (start it with `edge-agent run`)",
                path.display()
            );
            return Err(Failure::NotFound(message));
        }
        Ok(store::open_read_only(&path).map_err(anyhow::Error::new)?)
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Run(_)) {
        output::end_when_unread();
    }
    // TLS wants one provider of cryptography for the process; a second call in a room changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let context = Context { config_path: cli.config, json: cli.json };
    match dispatch(cli.command, &context) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("edge-agent: {}", output::shown(&failure.to_string()));
            failure.code()
        }
    }
}

fn dispatch(command: Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::run(&args, context),
        Command::Enroll(args) => enroll::run(&args, context),
        Command::Replay(args) => replay::run(&args, context),
        Command::Runs(args) => runs::run(&args, context),
        Command::Ask(args) => ask::run(&args, context),
        Command::Docs(args) => docs::run(&args, context),
        Command::Models(args) => models::run(&args, context),
        Command::Approve(args) => approve::run(&args, context),
        Command::Approvers(args) => approvers::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Detectors(args) => detectors::run(&args, context),
        Command::Quarantine(args) => quarantine::run(&args, context),
        Command::Ledger(args) => ledger::run(&args, context),
        Command::Workflow(args) => workflow::run(&args, context),
        Command::ReadDocument(args) => read_document::run(&args),
        Command::WritePrompts => write_prompts::run(),
    }
}

/// A runtime for a command that only makes a few requests.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context("cannot start the runtime")))
}
