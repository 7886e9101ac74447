//! `edge-agent workflow check`: what is wrong with a document, before it reaches a node; `draw`: what it looks like;
//! `test`: whether it does what was meant; `run`: once, here; and `functions`: what it may call.

pub(super) mod draw;
mod functions;
mod run;
mod test;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use edge_core::engine::support;
use shared::{
    bundle::path::BundlePath,
    problem::{Problem, Problems, text_of},
    workflow::Workflow,
};

use super::{Context, Failure, output};

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Read workflow documents and say what is wrong with them, with line and column; with --json as a list of problems.
    Check {
        /// YAML files in the Open Workflow DSL 1.0.3.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Draw a workflow document, with the path that a run took.
    Draw(draw::Args),
    /// Play the cases beside workflow documents, with mocked calls and simulated time.
    Test(test::Args),
    /// Run a workflow document once, here: no agent is needed.
    Run(run::Args),
    /// What a workflow may call: arguments, types, and what each call gives.
    Functions(functions::Args),
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    match args {
        Args::Check { files } => check(files, context),
        Args::Draw(args) => draw::run(args, context),
        Args::Test(args) => test::run(args, context),
        Args::Run(args) => run::run(args, context),
        Args::Functions(args) => functions::run(args, context),
    }
}

/// Every document is looked at, whatever is wrong with the others.
fn check(files: &[PathBuf], context: &Context) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    for path in documents(files) {
        match document(path) {
            Ok(_) if context.json => {}
            Ok(workflow) => println!("{}: good: {}", path.display(), workflow.definition().qualified_name()),
            Err(Problems(problems)) => found.extend(problems),
        }
    }
    if context.json {
        output::json(&found)?;
    } else {
        found.iter().for_each(|problem| eprintln!("{problem}"));
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// The documents among these files: `workflows/*.yaml` names their cases, too, which are looked at when they are played.
fn documents(files: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    let is_cases = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let document =
            name.strip_suffix(edge_core::site::WORKFLOW_TEST).map(|name| path.with_file_name(format!("{name}.yaml")));
        document.is_some_and(|document| files.contains(&document))
    };
    files.iter().filter(move |path| !is_cases(path))
}

/// The folder of the bundle that the document lies in: the one that holds its `workflows`.
fn bundle_of(document: &Path) -> Option<&Path> {
    let is_workflows = |folder: &&Path| folder.file_name().is_some_and(|name| name == "workflows");
    document.ancestors().find(is_workflows).and_then(Path::parent)
}

/// A file of the bundle that the document lies in, or else of the folder that it lies in.
fn read_beside(document: &Path, wanted: &str) -> Option<String> {
    let bundle = bundle_of(document).or_else(|| document.parent())?;
    let safe: BundlePath = wanted.parse().ok()?;
    std::fs::read_to_string(bundle.join(safe.to_string())).ok()
}

/// A document that a node could take, or all that is wrong with it.
fn document(path: &Path) -> Result<Workflow, Problems> {
    let name = path.display().to_string();
    support::read(&name, &text(path)?, &|wanted| read_beside(path, wanted))
}

/// The same for whoever can do nothing without it.
fn read(path: &Path) -> Result<Workflow, Failure> {
    document(path).map_err(|problems| Failure::Input(problems.to_string()))
}

/// The text of a file that a person names.
fn text(path: &Path) -> Result<String, Problems> {
    let problem = |place: Option<(u32, u32)>, message: String| {
        let (line, column) = place.unzip();
        Problems(vec![Problem { file: path.display().to_string(), line, column, field: String::new(), message }])
    };
    let bytes = std::fs::read(path).map_err(|error| problem(None, format!("this cannot be read: {error}")))?;
    let text = text_of(&bytes).map_err(|place| problem(Some(place), "expected text in UTF-8".to_owned()))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
