//! `edge-agent runs`: what workflows did, task by task, and why they wait; and what people do to them.

mod steer;

use std::process::ExitCode;

use anyhow::Context as _;
use edge_core::engine::history::{Act, TaskView};
use rusqlite::Connection;
use shared::{id::RunId, time::Timestamp, wire::v1::RunSummary};

use super::{
    Context, Failure, output,
    workflow::draw::{Format, drawing},
};
use crate::store::runs;
pub(super) use steer::input_of;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  edge-agent runs                          the newest runs
  edge-agent runs --status waiting         those that wait for a person, a time, or the link
  edge-agent runs --since 2h --about press-1    what changed in the last two hours about press-1
  edge-agent runs 01J8...                  one run, task by task, with what went in and came out
  edge-agent runs 01J8... --draw           the workflow with the path that the run took, as Mermaid
  edge-agent runs 01J8... --draw=svg > run.svg"
)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Option<steer::Act>,
    /// One run; without it the newest are listed.
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Only runs in this status.
    #[arg(long, value_name = "STATUS", value_parser = runs::STATUSES)]
    status: Option<String>,
    /// Only runs of this workflow, `namespace/name`.
    #[arg(long, value_name = "WORKFLOW")]
    workflow: Option<String>,
    /// Draw the workflow with the path that the run took.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "mermaid", requires = "run")]
    draw: Option<Format>,
    /// Only runs that changed since then: an instant, or an age such as 30m, 2h or 7d.
    #[arg(long, value_name = "INSTANT|AGE", value_parser = since)]
    since: Option<Timestamp>,
    /// Only runs about this, in part: a device, a channel, an id.
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    if let Some(act) = &args.act {
        return steer::run(act, context);
    }
    let connection = context.store()?;
    match &args.run {
        Some(run) if args.draw.is_some() => draw(&connection, run, args.draw.unwrap_or(Format::Mermaid)),
        Some(run) => show(&connection, run, context),
        None => list(&connection, args, context),
    }
}

fn list(connection: &Connection, args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let filter = runs::Filter {
        status: args.status.clone(),
        workflow: args.workflow.clone(),
        since: args.since,
        subject: args.about.clone(),
        limit: args.limit.into(),
    };
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
    output::table(&["run", "workflow", "status", "about", "note", "changed"], rows, none(args));
    Ok(ExitCode::SUCCESS)
}

/// What is said where there is none.
const fn none(args: &Args) -> &'static str {
    let Args { status, workflow, since, about, .. } = args;
    let is_any = status.is_none() && workflow.is_none() && since.is_none() && about.is_none();
    if is_any { "There are no runs." } else { "There is no such run." }
}

/// An instant, or how long ago it was.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let expected = || format!("{text:?} is no instant: expected 2026-01-31T08:00:00Z, or an age such as 30m, 2h or 7d");
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let count: i64 = text.strip_suffix(unit).and_then(|count| count.parse().ok()).ok_or_else(expected)?;
    let micros = count.checked_mul(seconds * 1_000_000).filter(|micros| *micros >= 0).ok_or_else(expected)?;
    Ok(crate::clock::now().plus_micros(-micros))
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
    let rows = detail.tasks.iter().flat_map(rows_of).collect();
    output::table(&["task", "calls", "status", "in", "out"], rows, "It has not begun.");
    println!("What it left in the ledger: edge-agent ledger list --run {id}");
    Ok(ExitCode::SUCCESS)
}

/// A task, and below it what its agent did.
fn rows_of(task: &TaskView) -> Vec<Vec<String>> {
    let outcome = match (&task.output, &task.error) {
        (Some(output), _) => short(&output.to_string()),
        (None, Some(error)) => error.detail.clone().or_else(|| error.title.clone()).unwrap_or_default(),
        (None, None) => String::new(),
    };
    let function = task.function.clone().unwrap_or_default();
    let own =
        vec![task.place.clone(), function, task.status.name().to_owned(), short(&task.input.to_string()), outcome];
    let act = |act: &Act| {
        let (what, with, came) = act.words();
        vec![String::new(), what, String::new(), short(&with), short(&came)]
    };
    std::iter::once(own).chain(task.acts.iter().map(act)).collect()
}

/// The beginning of a text, in one line.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    let line = text.replace('\n', " ");
    match line.char_indices().nth(CHARS_MAX - 1) {
        Some((at, _)) if line[at..].chars().nth(1).is_some() => format!("{}…", &line[..at]),
        _ => line,
    }
}

fn head(run: &RunSummary) {
    println!("run       {}", run.run);
    println!("workflow  {} {}, bundle {}", run.workflow, run.version, run.bundle.short());
    println!("status    {}{}", run.status, run.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default());
    println!("label     {}", serde_json::to_string(&run.label).unwrap_or_default());
    println!("from      {} to {}", run.started, run.ended.map_or_else(|| "now".to_owned(), |ended| ended.to_string()));
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn no_runs_at_all_are_told_apart_from_none_that_fit() {
        let said = |given: &[&str]| {
            let command = Args::augment_args(clap::Command::new("runs")).no_binary_name(true);
            none(&Args::from_arg_matches(&command.get_matches_from(given)).expect("arguments"))
        };
        assert_eq!(said(&["--limit", "3"]), "There are no runs.");
        for given in [["--status", "waiting"], ["--since", "2h"], ["--about", "press-1"], ["--workflow", "a/b"]] {
            assert_eq!(said(&given), "There is no such run.");
        }
    }

    #[test]
    fn a_cell_has_one_line_that_is_not_too_long() {
        assert_eq!(short("a\nb"), "a b");
        assert_eq!(short(&"é".repeat(160)), "é".repeat(160));
        assert_eq!(short(&"é".repeat(161)), format!("{}…", "é".repeat(159)));
    }

    #[test]
    fn since_is_an_instant_or_an_age() {
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Timestamp::from_micros(1_000_000)));
        let hours = crate::clock::now().since(since("2h").unwrap()).as_secs();
        assert!((7_199..7_260).contains(&hours), "{hours}");
        for wrong in ["", "2", "h", "-2h", "2w", "9223372036854775807d", "2é"] {
            assert!(since(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
    }
}
