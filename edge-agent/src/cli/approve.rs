//! `edge-agent approve`: what waits for a person, and a person's answer. The answer is bound to the digest of what was shown.

use std::process::ExitCode;

use serde_json::{Value, json};
use shared::{digest::Digest, id::ApprovalId};

use super::{Context, Failure, local::Local, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent approve                                        what waits
  edge-agent approve 01J8...                                the exact proposal
  edge-agent approve 01J8... --yes --as \"Mia Keller\"        approve it
  edge-agent approve 01J8... --no --as \"Mia Keller\" --comment \"pump is needed until six\"")]
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
    /// Why, for whoever reads the ledger.
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
    let answer = json!({ "verdict": verdict, "by": args.by, "comment": args.comment, "shown": shown });
    let outcome = local.post(&format!("/api/v1/approvals/{id}"), &answer)?;
    if context.json {
        output::json(&outcome)?;
    } else {
        println!("{verdict} as {}; the run goes on.", args.by.as_deref().unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
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
