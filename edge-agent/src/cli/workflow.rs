//! `edge-agent workflow check`: what is wrong with a document, before it reaches a node; and `functions`: what it may call.

mod functions;

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
    /// What a workflow may call: arguments, types, and what each call gives.
    Functions(functions::Args),
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    match args {
        Args::Check { files } => check(files),
        Args::Functions(args) => functions::run(args, context),
    }
}

fn check(files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let mut broken = 0_usize;
    for path in files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let read = Workflow::link(&name, &text, &|wanted| read_beside(path, wanted));
        match read.and_then(|workflow| support::check(&name, &workflow).map(|()| workflow)) {
            Ok(workflow) => println!("{name}: good: {}", workflow.definition().qualified_name()),
            Err(problems) => {
                broken += 1;
                eprintln!("{problems}");
            }
        }
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// A file of the bundle that the document lies in: the folder that holds its `workflows`.
fn read_beside(document: &Path, wanted: &str) -> Option<String> {
    let is_workflows = |folder: &&Path| folder.file_name().is_some_and(|name| name == "workflows");
    let bundle = document.ancestors().find(is_workflows).and_then(Path::parent).or_else(|| document.parent())?;
    let safe: BundlePath = wanted.parse().ok()?;
    std::fs::read_to_string(bundle.join(safe.to_string())).ok()
}
