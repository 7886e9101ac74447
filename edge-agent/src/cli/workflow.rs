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

use anyhow::Context as _;
use clap::Subcommand;
use edge_core::engine::support;
use shared::{bundle::path::BundlePath, workflow::Workflow};

use super::{Context, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Read workflow documents and say what is wrong with them, with line and column.
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
        Args::Check { files } => check(files),
        Args::Draw(args) => draw::run(args, context),
        Args::Test(args) => test::run(args, context),
        Args::Run(args) => run::run(args, context),
        Args::Functions(args) => functions::run(args, context),
    }
}

fn check(files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let mut broken = 0_usize;
    for path in files {
        match read(path) {
            Ok(workflow) => println!("{}: good: {}", path.display(), workflow.definition().qualified_name()),
            Err(Failure::Input(problems)) => {
                broken += 1;
                eprintln!("{problems}");
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) })
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

/// A document that a node could take.
fn read(path: &Path) -> Result<Workflow, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let read = Workflow::link(&name, &text, &|wanted| read_beside(path, wanted));
    read.and_then(|workflow| support::check(&name, &workflow).map(|()| workflow))
        .map_err(|problems| Failure::Input(problems.to_string()))
}
