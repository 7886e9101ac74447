//! `edge-agent workflow run`: a document once, on a machine that is no node. The runner and the rooms are a node's own, over
//! a store that is gone afterwards.

mod desk;
mod watch;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use serde_json::Value;
use shared::{event::Event, problem::words, workflow::Workflow};

use super::{
    super::{Context, Failure, output, runs::input_of},
    read,
};
use crate::{config::Config, store::runs::RunDetail};
use desk::Desk;
use watch::{Answers, Ending};

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent workflow run hello.yaml --input '{\"name\": \"Mia\"}'
  edge-agent workflow run site/workflows/explain.yaml --input @finding.json --yes --broker mqtt://127.0.0.1:1883
  edge-agent workflow run watch.yaml --event '{\"type\": \"com.example.order\", \"data\": {\"id\": 7}}'

No agent is needed and nothing is left behind: runs and indexes lie in a temporary folder. Calls are performed as a node performs
them, and no policy is asked: the document and the machine are yours. Models, secrets and interface documents come from agent.toml
where there is one (--config); without it the built-in embedder and local/extract answer. Documents and cases come from the bundle
that FILE lies in (beside its `workflows` folder), workflows that it runs from its own folder. Waits take as long as they say.
Ctrl-C cancels the run.

On the way, to stderr: `> TASK  data in`, `< TASK  data out`, `! TASK  its error`, `- TASK` skipped or swept away, `?` what it waits for.
At the end, to stdout: the output; with --json everything, each task with its data.

Exit code: 0 the run completed, 1 it did not, 2 the document, the input or an option is broken, 130 it was interrupted.")]
pub(in super::super) struct Args {
    /// A workflow document.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The raw input as JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    input: String,
    /// An event for a task that listens: JSON with `type`, and `source`, `id`, `subject`, `data` as needed. May be given
    /// several times; the next is told when the run listens.
    #[arg(long = "event", value_name = "JSON")]
    events: Vec<String>,
    /// The broker that `publish` goes to; what `[broker]` in agent.toml says of user, password and CA holds for it.
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Let `run: shell`, `script` and `container` start processes, within the limits of `[run]`; as USER, or else as yourself.
    #[arg(long, value_name = "USER", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    allow_run: Option<String>,
    /// Approve whatever asks for approval.
    #[arg(long, conflicts_with = "no")]
    yes: bool,
    /// Reject whatever asks for approval.
    #[arg(long)]
    no: bool,
}

/// What is to be run.
struct Play {
    workflow: Arc<Workflow>,
    /// For `run: workflow`.
    others: Vec<Arc<Workflow>>,
    input: Value,
    events: Vec<Event>,
    answers: Answers,
    is_quiet: bool,
}

impl Play {
    fn of(args: &Args, workflow: Arc<Workflow>, is_quiet: bool) -> Result<Self, Failure> {
        let answers = match (args.yes, args.no) {
            (true, _) => Answers::Yes,
            (_, true) => Answers::No,
            _ => Answers::AtTheTerminal,
        };
        let others = others(&args.file, &workflow);
        let events = args.events.iter().enumerate().map(event).collect::<Result<_, _>>()?;
        Ok(Self { workflow, others, input: input_of(&args.input)?, events, answers, is_quiet })
    }
}

pub(in super::super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let workflow = Arc::new(read(&args.file)?);
    let play = Play::of(args, Arc::clone(&workflow), context.json)?;
    let config = configuration(&context.config_path)?;
    // What else there is to tell is told task by task.
    let log = tracing_subscriber::fmt().with_env_filter("edge_agent::action::mqtt=warn").with_writer(std::io::stderr);
    drop(log.without_time().with_target(false).with_level(false).with_ansi(false).try_init());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let told = runtime.block_on(async {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let desk = Desk::open(args, config.as_ref(), folder.path())?;
        watch::play(play, desk).await
    });
    // A question that nobody answered still reads the terminal.
    runtime.shutdown_background();
    let (detail, ending) = told?;
    finish(&args.file, &workflow, &detail, ending, context)
}

/// `agent.toml`, if there is one. One that was asked for must be there.
fn configuration(path: &Path) -> Result<Option<Config>, Failure> {
    if !path.exists() && path == Path::new("agent.toml") {
        return Ok(None);
    }
    Config::load(path).map(Some).map_err(|problems| Failure::Input(problems.to_string()))
}

/// The other workflows of the document's folder; what is broken there is not this run's matter.
fn others(file: &Path, own: &Workflow) -> Vec<Arc<Workflow>> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_other = |path: &PathBuf| {
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        is_yaml && !path.to_string_lossy().ends_with(edge_core::site::WORKFLOW_TEST)
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_other);
    let found = paths.filter_map(|path| read(&path).ok()).filter(|workflow| workflow.digest() != own.digest());
    found.map(Arc::new).collect()
}

/// An event of the command line; what is left out is made up.
fn event((index, text): (usize, &String)) -> Result<Event, Failure> {
    let broken = |why: String| Failure::Input(format!("--event {text}: {why}"));
    let no_json = |error| broken(format!("this is no JSON: {}", words::of_json(&error)));
    let mut value: Value = serde_json::from_str(text).map_err(no_json)?;
    let Value::Object(fields) = &mut value else { return Err(broken("expected an object with `type`".to_owned())) };
    let id = format!("event-{}", index + 1);
    for (name, made) in [("specversion", "1.0"), ("id", &id), ("source", "/command-line")] {
        fields.entry(name).or_insert_with(|| made.into());
    }
    serde_json::from_value(value).map_err(|error| broken(words::of_serde(&error.to_string())))
}

/// The output on stdout, or where in the document it went wrong.
fn finish(
    file: &Path,
    workflow: &Workflow,
    detail: &RunDetail,
    ending: Ending,
    context: &Context,
) -> Result<ExitCode, Failure> {
    if context.json {
        output::json(detail)?;
    } else if let Some(output) = &detail.output {
        output::json(output)?;
    }
    match ending {
        Ending::Interrupted => Ok(ExitCode::from(INTERRUPTED)),
        Ending::Unanswerable(question) => {
            Err(Failure::Input(format!("{question}, and there is no terminal to ask at: give --yes or --no")))
        }
        Ending::Itself if detail.summary.status == "completed" => Ok(ExitCode::SUCCESS),
        Ending::Itself => Err(Failure::Failed(anyhow::anyhow!(why(file, workflow, detail)))),
    }
}

/// What a run died of, with file, line and column of the task.
fn why(file: &Path, workflow: &Workflow, detail: &RunDetail) -> String {
    let error = detail.error.clone().unwrap_or_default();
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let kind = text("type").and_then(|kind| kind.rsplit('/').next()).unwrap_or("error");
    let said = text("detail").or_else(|| text("title")).unwrap_or_default();
    let status = error.get("status").map(|status| format!("{status} ")).unwrap_or_default();
    let message = format!("the run {}: {status}{kind}: {said}", detail.summary.status);
    let failed = detail.tasks.iter().rev().find(|task| task.error.is_some()).map(|task| task.reference.as_str());
    let pointer = text("instance").filter(|instance| instance.starts_with('/')).or(failed).unwrap_or_default();
    workflow.problem(&file.display().to_string(), pointer, message).to_string()
}

#[cfg(test)]
mod tests;
