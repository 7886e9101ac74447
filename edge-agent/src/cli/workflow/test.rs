//! `edge-agent workflow test`: the cases beside a document, played with mocked calls and simulated time. Nothing of a node
//! is needed, and nothing is called.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use edge_core::{rehearse, site::WORKFLOW_TEST};
use serde::Serialize;
use shared::workflow::Workflow;

use super::{
    super::{Context, Failure, output},
    read, text,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The cases of explain.yaml stand in explain.test.yaml beside it:

  - name: a hot press is explained
    input: [{ value: 93.4, device: press-1 }]     # raw, as the run is given it
    mocks:                                        # by task, JSON pointer or function
      retrieve: { output: { passages: [] } }
      explain:                                    # a list: one call after the other
        - error: { type: communication }
        - { output: { text: look }, after: PT5S } # of the run's own, simulated time
    events: [{ type: com.example.ack }]           # what tasks that listen hear, in order
    expect:                                       # what is left out is not looked at
      path: [keep, look, explain, tell]           # all tasks; `visits` names some of them
      calls: { publish: [{ topic: alarms }] }     # inputs, each in part
      output: ${ .sent }                          # a condition, or the value itself
      error: timeout                              # the type, or its last word

Waits pass at once. Exit code 1: a case failed; 2: a document or its cases cannot be read.")]
pub(in super::super) struct Args {
    /// Workflow documents.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What came of a case, as `--json` prints it.
#[derive(Serialize)]
struct Told {
    file: String,
    case: String,
    passed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
}

pub(in super::super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let mut told = Vec::new();
    for file in super::documents(&args.files) {
        let workflow = Arc::new(read(file)?);
        told.extend(cases(file, &workflow)?.iter().map(|case| play(file, &workflow, case)));
    }
    let failed = told.iter().filter(|case| !case.passed).count();
    if context.json {
        output::json(&told)?;
    } else {
        told.iter().for_each(show);
        output::say(&format!("{} passed, {failed} failed", told.len() - failed));
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The cases beside a document.
fn cases(file: &Path, workflow: &Workflow) -> Result<Vec<rehearse::Case>, Failure> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let beside = file.with_file_name(format!("{stem}{WORKFLOW_TEST}"));
    let name = beside.display().to_string();
    if !beside.exists() {
        let message = format!("{} has no cases: expected them in {name}", file.display());
        return Err(Failure::Input(message));
    }
    let text = text(&beside).map_err(|problems| Failure::Input(problems.to_string()))?;
    rehearse::parse(&name, &text, workflow).map_err(|problems| Failure::Input(problems.to_string()))
}

fn play(file: &Path, workflow: &Arc<Workflow>, case: &rehearse::Case) -> Told {
    let differences = rehearse::judge(case, &rehearse::play(workflow, case));
    let (file, case) = (file.display().to_string(), case.name.clone());
    Told { file, case, passed: differences.is_empty(), differences }
}

fn show(told: &Told) {
    let word = if told.passed { "pass" } else { "FAIL" };
    output::say(&format!("{word}  {}: {}", told.file, told.case));
    for line in told.differences.iter().flat_map(|difference| difference.lines()) {
        output::say(&format!("      {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_of_the_demo_hold() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/press/site/workflows/explain.yaml");
        let workflow = Arc::new(read(&file).unwrap());
        let cases = cases(&file, &workflow).unwrap();
        assert!(cases.len() >= 3);
        for told in cases.iter().map(|case| play(&file, &workflow, case)) {
            assert!(told.passed, "{}: {}", told.case, told.differences.join("\n"));
        }
    }
}
