//! `edge-agent runs start | cancel | suspend | resume | retry`: what a person does to runs. The running agent asks who it is,
//! as it does for an approval, and tells the ledger.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Subcommand;
use serde_json::{Value, json};
use shared::{id::RunId, problem::words};

use super::super::{Context, Failure, approve, local::Local, output};

/// How often a run that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum Act {
    /// Start a workflow by hand.
    #[command(after_help = "\
Examples:
  edge-agent runs start plant/explain --input @finding.json --as \"Mia Keller\" --wait
  edge-agent runs start plant/tidy --as \"Mia Keller\"

Exit code with --wait: 0 when the run completed, 1 when it did not.")]
    Start(Start),
    /// Stop a run. What it asked for ends by itself; nothing more follows.
    Cancel(One),
    /// Let a run rest: nothing follows, no deadline runs, and events wait, until it is resumed. A `wait` goes on.
    Suspend(One),
    /// Let a run that rests go on.
    Resume(One),
    /// Try an ended run again: a new run takes over what came before one of its tasks.
    #[command(after_help = "\
Examples:
  edge-agent runs retry 01J8... --as \"Mia Keller\"                       from the task that failed
  edge-agent runs retry 01J8... --from /do/2/ask --as \"Mia Keller\"      from this one, as `edge-agent runs RUN` names it

Without --from a run that completed is done again from its first task, with all its effects.")]
    Retry(Retry),
}

/// Who it is. The person needs the role `operator` (`edge-agent approvers add NAME --role operator`).
#[derive(Debug, clap::Args)]
pub(super) struct Who {
    /// Your name; it goes into the ledger. You need the role `operator`: `edge-agent approvers add NAME --role operator`.
    #[arg(long = "as", id = "by", value_name = "NAME")]
    by: String,
    /// The first line of this file is your secret; `-` reads it from the input. Without it you are asked at the terminal.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Why, for whoever reads the ledger.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// `namespace/name`.
    #[arg(value_name = "WORKFLOW")]
    workflow: String,
    /// The raw input as JSON, or @FILE; {} without it.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    input: String,
    /// Wait until the run has ended, and print what it gave.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    #[arg(value_name = "RUN")]
    run: RunId,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, clap::Args)]
pub(super) struct Retry {
    #[arg(value_name = "RUN")]
    run: RunId,
    /// The place of the task to go on from.
    #[arg(long, value_name = "TASK")]
    from: Option<String>,
    #[command(flatten)]
    who: Who,
}

pub(super) fn run(act: &Act, context: &Context) -> Result<ExitCode, Failure> {
    let local = Local::find(&context.config()?)?;
    let (path, who, wish, wait) = match act {
        Act::Start(Start { workflow, input, wait, who }) => {
            let wish = json!({"workflow": workflow, "input": input_of(input)?});
            ("/api/v1/runs".to_owned(), who, wish, *wait)
        }
        Act::Cancel(One { run, who }) => (path_of(*run), who, json!({"act": "cancel"}), false),
        Act::Suspend(One { run, who }) => (path_of(*run), who, json!({"act": "suspend"}), false),
        Act::Resume(One { run, who }) => (path_of(*run), who, json!({"act": "resume"}), false),
        Act::Retry(Retry { run, from, who }) => (path_of(*run), who, json!({"act": "retry", "from": from}), false),
    };
    let mut body = wish;
    body["by"] = json!(who.by);
    body["secret"] = json!(approve::secret(who.secret_file.as_deref())?);
    body["comment"] = json!(who.comment);
    body["place"] = json!("command-line");
    let entry = local.post(&path, &body)?;
    if wait {
        return follow(&local, entry["run"].as_str().unwrap_or_default());
    }
    if context.json {
        output::json(&entry)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    output::say(&format!("Recorded: {} by {} as {}, at {}.", text("act"), text("by"), text("role"), text("at")));
    output::say(&format!("The run: edge-agent runs {}", text("run")));
    Ok(ExitCode::SUCCESS)
}

fn path_of(run: RunId) -> String {
    format!("/api/v1/runs/{run}")
}

/// JSON from the command line, or from a file when it begins with `@`.
pub(in super::super) fn input_of(given: &str) -> Result<Value, Failure> {
    let (text, from) = match given.strip_prefix('@') {
        None => (given.to_owned(), "--input".to_owned()),
        Some(file) => {
            let read = std::fs::read_to_string(file);
            (read.map_err(|error| Failure::Input(format!("cannot read {file}: {error}")))?, file.to_owned())
        }
    };
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let said = words::why_no_json(&error);
        Failure::Input(format!("{from}:{line}:{column}: this is no JSON: {said}"))
    })
}

/// Waits until a run has ended; prints its output or error.
fn follow(local: &Local, run: &str) -> Result<ExitCode, Failure> {
    loop {
        let found = local.get(&format!("/api/v1/runs/{run}"))?;
        let run = &found["run"];
        match run["status"].as_str() {
            Some("completed") => {
                output::json(&run["output"])?;
                return Ok(ExitCode::SUCCESS);
            }
            Some("faulted" | "cancelled") => {
                let text = |name: &str| run[name].as_str().unwrap_or_default();
                let place = Some(text("task")).filter(|task| !task.is_empty()).map(|task| format!(" at {task}"));
                let (id, status, note) = (text("run"), text("status"), text("note"));
                let message = format!("the run {id} {status}{}: {note}", place.unwrap_or_default());
                return Err(Failure::Failed(anyhow::anyhow!(message)));
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_json_or_a_file_of_it_and_what_is_not_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("in.json");
        std::fs::write(&file, "[1]").unwrap();
        assert_eq!(input_of("{\"a\": 2}").unwrap(), json!({"a": 2}));
        assert_eq!(input_of(&format!("@{}", file.display())).unwrap(), json!([1]));
        let told = |given: &str| input_of(given).unwrap_err().to_string();
        assert_eq!(told("{"), "--input:1:1: this is no JSON: it ends too early");
        assert_eq!(told("{\"a\" 1}"), "--input:1:6: this is no JSON: expected `:`");
        assert!(input_of("@/no/such").unwrap_err().to_string().starts_with("cannot read /no/such"));
    }
}
