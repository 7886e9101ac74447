//! `edge-agent runs`: what workflows did, task by task, and why they wait.

use std::process::ExitCode;

use anyhow::Context as _;
use rusqlite::Connection;
use shared::{id::RunId, wire::v1::RunSummary};

use super::{
    Context, Failure, output,
    workflow::draw::{Format, drawing},
};
use crate::store::runs;

const STATUSES: [&str; 7] = ["pending", "running", "waiting", "parked", "completed", "faulted", "cancelled"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent runs                          the newest runs
  edge-agent runs --status waiting         those that wait for a person, a time, or the link
  edge-agent runs 01J8...                  one run, task by task, with what went in and came out
  edge-agent runs 01J8... --draw           the workflow with the path that the run took, as Mermaid
  edge-agent runs 01J8... --draw=svg > run.svg")]
pub(super) struct Args {
    /// One run; without it the newest are listed.
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Only runs in this status.
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    status: Option<String>,
    /// Only runs of this workflow, `namespace/name`.
    #[arg(long, value_name = "WORKFLOW")]
    workflow: Option<String>,
    /// Draw the workflow with the path that the run took.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "mermaid", requires = "run")]
    draw: Option<Format>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let connection = context.store()?;
    match &args.run {
        Some(run) if args.draw.is_some() => draw(&connection, run, args.draw.unwrap_or(Format::Mermaid)),
        Some(run) => show(&connection, run, context),
        None => list(&connection, args, context),
    }
}

fn list(connection: &Connection, args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let filter = runs::Filter { status: args.status.clone(), workflow: args.workflow.clone(), limit: args.limit };
    let found = runs::list(connection, &filter).context("cannot list the runs")?;
    if context.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = found
        .iter()
        .map(|run| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            vec![
                run.run.to_string(),
                run.workflow.clone(),
                run.status.clone(),
                text(&run.subject),
                text(&run.note),
                run.updated.to_string(),
            ]
        })
        .collect();
    output::table(&["run", "workflow", "status", "about", "note", "changed"], rows, "There is no such run.");
    Ok(ExitCode::SUCCESS)
}

fn draw(connection: &Connection, run: &str, format: Format) -> Result<ExitCode, Failure> {
    let id = parse(run)?;
    let found = runs::path(connection, id).context("cannot read the run")?;
    let (workflow, path) = found.ok_or_else(|| Failure::NotFound(format!("there is no run {id}")))?;
    output::say(drawing(workflow.definition(), Some(&path), format).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn parse(run: &str) -> Result<RunId, Failure> {
    run.parse().map_err(|error: shared::id::ParseError| Failure::Input(error.to_string()))
}

fn show(connection: &Connection, run: &str, context: &Context) -> Result<ExitCode, Failure> {
    let id = parse(run)?;
    let Some(detail) = runs::detail(connection, id).context("cannot read the run")? else {
        return Err(Failure::NotFound(format!("there is no run {id}")));
    };
    if context.json {
        output::json(&detail)?;
        return Ok(ExitCode::SUCCESS);
    }
    head(&detail.summary);
    let short = |value: &serde_json::Value| {
        const CHARS_MAX: usize = 160;
        let text = value.to_string();
        if text.chars().count() > CHARS_MAX { text.chars().take(CHARS_MAX - 1).chain(['…']).collect() } else { text }
    };
    let rows = detail
        .tasks
        .iter()
        .map(|task| {
            let status = serde_json::to_value(task.status).ok().and_then(|status| status.as_str().map(str::to_owned));
            let outcome = match (&task.output, &task.error) {
                (Some(output), _) => short(output),
                (None, Some(error)) => error.detail.clone().or_else(|| error.title.clone()).unwrap_or_default(),
                (None, None) => String::new(),
            };
            vec![
                task.place.clone(),
                task.function.clone().unwrap_or_default(),
                status.unwrap_or_default(),
                short(&task.input),
                outcome,
            ]
        })
        .collect();
    output::table(&["task", "calls", "status", "in", "out"], rows, "It has not begun.");
    println!("What it left in the ledger: edge-agent ledger list --run {id}");
    Ok(ExitCode::SUCCESS)
}

fn head(run: &RunSummary) {
    println!("run       {}", run.run);
    println!("workflow  {} {}, bundle {}", run.workflow, run.version, run.bundle.short());
    println!("status    {}{}", run.status, run.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default());
    println!("label     {}", serde_json::to_string(&run.label).unwrap_or_default());
    println!("from      {} to {}", run.started, run.ended.map_or_else(|| "now".to_owned(), |ended| ended.to_string()));
}
