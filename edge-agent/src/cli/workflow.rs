//! `edge-agent workflow check`: what is wrong with a document, before it reaches a node; and `functions`: what it may call.

mod functions;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use edge_core::engine::support;
use shared::workflow::Workflow;

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
        let read = Workflow::parse(&name, &text);
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
