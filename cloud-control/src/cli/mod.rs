//! The command line: `serve` is the control plane; everything else talks to one that serves.

mod access;
mod approvals;
mod audit;
mod bundle;
mod client;
mod nodes;
mod serve;
mod table;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use shared::wire::v1::Refusal;

/// The control plane of Skerry: enrols gateways, rolls bundles out, brings questions to people, keeps the audit archive.
///
/// Start it with `cloud-control serve`. Every other command talks to a control plane that serves: on the same machine find
/// it with --data-dir, from elsewhere with --url and --ca. Who you are is your operator's secret, in SKERRY_CONTROL_SECRET
/// or a file.
#[derive(Debug, Parser)]
#[command(name = "cloud-control", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON for programs instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, for the reason that is printed
  2  the command line is wrong
  3  the control plane refused
  4  the control plane cannot be reached, or does not know the secret
  5  looked at and found wanting: a ledger with a fault, a rollout that was not taken

To begin with:
  cloud-control serve --data-dir control              (prints the secret of the operator `admin`, once)
  export SKERRY_CONTROL_DATA_DIR=$PWD/control SKERRY_CONTROL_SECRET=...
  cloud-control token create --group plant            (give it to `edge-agent enroll` on the gateway)
  cloud-control bundle push site/ --group plant --wait 60s
  cloud-control nodes list";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane until it is told to stop (Ctrl-C, SIGTERM).
    Serve(serve::Serve),
    /// Join tokens: each lets one node enrol once.
    #[command(subcommand)]
    Token(access::Token),
    /// Operators: named people (or programs) with a secret and roles.
    #[command(subcommand)]
    Operators(access::Operators),
    /// Bundles: push a folder to a group of nodes, look at what was pushed, go back.
    #[command(subcommand)]
    Bundle(bundle::Bundle),
    /// The fleet.
    #[command(subcommand)]
    Nodes(nodes::Nodes),
    /// Questions from workflows that wait for a person.
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    /// The audit archive: every node's ledger, and the proof that nothing is missing or changed.
    #[command(subcommand)]
    Audit(audit::Audit),
}

/// Which control plane, and who asks.
#[derive(Debug, Clone, Args)]
struct Connection {
    /// The data folder of a control plane on this machine; gives --url and --ca.
    #[arg(long, env = "SKERRY_CONTROL_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the control plane is, such as https://control.example:7443.
    #[arg(long, env = "SKERRY_CONTROL_URL")]
    url: Option<String>,
    /// The certificate of its authority (`ca.pem` in its data folder); no other server is talked to.
    #[arg(long, env = "SKERRY_CONTROL_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your operator's secret. Better in the environment or a file than on the command line.
    #[arg(long, env = "SKERRY_CONTROL_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// A file that holds your operator's secret.
    #[arg(long, env = "SKERRY_CONTROL_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Usage(String),
    #[error("the control plane refuses: {}", .0.message)]
    Refused(Refusal),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Wanting(String),
}

impl Failure {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Wanting(_) => 5,
        }
    }
}

/// What the user sees, in the form that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Serve(_)) {
        table::end_when_unread();
    }
    let form = if cli.json { Form::Json } else { Form::Table };
    let log = tracing_subscriber::EnvFilter::try_from_env("SKERRY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(log).with_ansi(colours).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command, form)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(command: Command, form: Form) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve.run(form).await,
        Command::Token(token) => token.run(form).await,
        Command::Operators(operators) => operators.run(form).await,
        Command::Bundle(bundle) => bundle.run(form).await,
        Command::Nodes(nodes) => nodes.run(form).await,
        Command::Approvals(approvals) => approvals.run(form).await,
        Command::Audit(audit) => audit.run(form).await,
    }
}

/// A duration such as `90s`, `10m`, `24h` or `7d`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is not a duration: expected a number and s, m, h or d, such as 10m");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    Ok(std::time::Duration::from_secs(number.saturating_mul(seconds)))
}

/// An error and its sources in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(std::time::Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(std::time::Duration::from_secs(7_200)));
        for bad in ["", "s", "10", "1w", "-1s", "1µ"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
