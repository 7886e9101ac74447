//! `edge-agent approve`: what waits for a person, and a person's answer. The answer is bound to the digest of what was shown,
//! and the person shows who they are with their secret.

use std::{
    io::{BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};
use shared::{digest::Digest, id::ApprovalId};

use super::{Context, Failure, local::Local, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent approve                                        what waits
  edge-agent approve 01J8...                                the exact proposal
  edge-agent approve 01J8... --yes --as \"Mia Keller\"        approve it
  edge-agent approve 01J8... --no --as \"Mia Keller\" --comment \"pump is needed until six\"

You are asked for your secret, the one that `edge-agent approvers add` printed; a program gives --secret-file.")]
pub(super) struct Args {
    /// The approval; without it, all that wait are listed.
    #[arg(value_name = "ID")]
    id: Option<ApprovalId>,
    /// Approve what is proposed.
    #[arg(long, requires_all = ["id", "by"], conflicts_with = "no")]
    yes: bool,
    /// Reject what is proposed.
    #[arg(long, requires_all = ["id", "by"])]
    no: bool,
    /// The name of the person who answers; it goes into the ledger.
    #[arg(long = "as", id = "by", value_name = "NAME")]
    by: Option<String>,
    /// The first line of this file is your secret; `-` reads it from the input. Without it you are asked at the terminal.
    #[arg(long, value_name = "FILE", requires = "by")]
    secret_file: Option<PathBuf>,
    /// Why, for whoever reads the ledger; of a case that an agent handed over, the answer.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// The digest of what you saw; without it the proposal as it stands is shown and answered.
    #[arg(long, value_name = "DIGEST")]
    shown: Option<Digest>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let local = Local::find(&context.config()?)?;
    let Some(id) = args.id else { return list(&local, context) };
    let approval = local.get(&format!("/api/v1/approvals/{id}"))?;
    if !args.yes && !args.no {
        return show(&approval, context);
    }
    let shown = args.shown.map_or_else(|| approval["shown"].clone(), |shown| json!(shown));
    if !context.json {
        show(&approval, context)?;
    }
    let verdict = if args.yes { "approved" } else { "rejected" };
    let secret = secret(args.secret_file.as_deref())?;
    let answer = json!({
        "verdict": verdict, "by": args.by, "secret": secret, "comment": args.comment, "shown": shown,
        "place": "command-line",
    });
    let recorded = local.post(&format!("/api/v1/approvals/{id}"), &answer)?;
    if context.json {
        output::json(&recorded)?;
    } else {
        let text = |key: &str| recorded[key].as_str().unwrap_or_default();
        println!(
            "Recorded: {} by {} as {}, {}, at {}.",
            text("verdict"),
            text("by"),
            text("role"),
            text("place"),
            text("at")
        );
        println!("Shown was {}. The run has the answer, and goes on unless it is suspended.", text("shown"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The person's secret: from a file, or asked for without showing it.
pub(super) fn secret(file: Option<&Path>) -> Result<String, Failure> {
    if let Some(file) = file {
        return first_line(file);
    }
    let terminal = console::Term::stderr();
    if !std::io::stdin().is_terminal() || !terminal.is_term() {
        let message = "no terminal to ask for your secret: give --secret-file FILE, or - for the input";
        return Err(Failure::Input(message.to_owned()));
    }
    let failed =
        |error: std::io::Error| Failure::Failed(anyhow::Error::new(error).context("cannot ask for the secret"));
    terminal.write_str("Your secret: ").map_err(failed)?;
    terminal.read_secure_line().map_err(failed)
}

/// The first line of a file, or of the input when it is called `-`.
pub(super) fn first_line(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    if file == Path::new("-") {
        let read = std::io::stdin().lock().read_line(&mut text);
        read.map_err(|error| Failure::Input(format!("the secret cannot be read from the input: {error}")))?;
    } else {
        let read = private::read(file, private::Origin::Given);
        text = read.map_err(|error| Failure::Input(format!("no secret: {:#}", anyhow::Error::new(error))))?;
    }
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn list(local: &Local, context: &Context) -> Result<ExitCode, Failure> {
    let waiting = local.get("/api/v1/approvals")?;
    if context.json {
        output::json(&waiting)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let rows = waiting
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            vec![
                text(one, "approval"),
                text(one, "role"),
                text(one, "title"),
                text(one, "asked"),
                text(one, "deadline"),
            ]
        })
        .collect();
    output::table(&["approval", "asks", "what", "since", "until"], rows, "Nothing waits for a person.");
    Ok(ExitCode::SUCCESS)
}

fn show(approval: &Value, context: &Context) -> Result<ExitCode, Failure> {
    if context.json {
        output::json(approval)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", approval["title"].as_str().unwrap_or_default());
    println!(
        "for {}, run {}, digest {}",
        approval["role"].as_str().unwrap_or_default(),
        approval["run"].as_str().unwrap_or_default(),
        approval["shown"].as_str().unwrap_or_default()
    );
    output::json(&approval["proposal"])?;
    Ok(ExitCode::SUCCESS)
}
