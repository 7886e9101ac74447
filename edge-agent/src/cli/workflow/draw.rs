//! `edge-agent workflow draw`: a document as a flowchart or a picture, with the path of a run over it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::ValueEnum;
use shared::{
    id::RunId,
    workflow::{Workflow, definition::Definition, draw},
};

use super::{
    super::{Context, Failure, output},
    read,
};
use crate::store::runs;

/// What a drawing is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum Format {
    /// A flowchart in text, which Git forges and editors show.
    Mermaid,
    /// A picture that any browser shows.
    Svg,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  edge-agent workflow draw explain.yaml                              a Mermaid flowchart, to paste into a page
  edge-agent workflow draw explain.yaml --out explain.svg            a picture
  edge-agent workflow draw explain.yaml --run 01J8... --out run.svg   with the path of that run over it

`edge-agent runs RUN --draw` needs no file: it draws the version that the run keeps.")]
pub(in super::super) struct Args {
    /// A workflow document.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Written in this; without it the ending of --out decides, and Mermaid where there is none.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Over it the path of this run, from the store of this node.
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    /// Into this file and not to the terminal.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(in super::super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let workflow = read(&args.file)?;
    let path = args.run.map(|run| path_of(run, &workflow, &args.file, context)).transpose()?;
    let format = args.format.map_or_else(|| of_ending(args.out.as_deref()), Ok)?;
    let drawing = drawing(workflow.definition(), path.as_ref(), format);
    match &args.out {
        None => output::say(drawing.trim_end()),
        Some(file) => std::fs::write(file, drawing).with_context(|| format!("cannot write {}", file.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the file's ending says.
fn of_ending(out: Option<&Path>) -> Result<Format, Failure> {
    let ending = out.and_then(Path::extension).map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("svg") => Ok(Format::Svg),
        None | Some("" | "md" | "mmd" | "mermaid" | "txt") => Ok(Format::Mermaid),
        Some(other) => Err(Failure::Input(format!(
            "--out: a drawing is not written as .{other}: expected .svg, .mmd, .mermaid, .md or .txt, or say --format"
        ))),
    }
}

/// The path of a run, if it went through this very document.
fn path_of(run: RunId, workflow: &Workflow, file: &Path, context: &Context) -> Result<draw::Path, Failure> {
    let kept = runs::path(&context.store()?, run).context("cannot read the run")?;
    let (kept, path) = kept.ok_or_else(|| Failure::NotFound(format!("there is no run {run}")))?;
    if kept.digest() != workflow.digest() {
        return Err(Failure::Input(format!(
            "{} is not what run {run} went through, which keeps {} {}: `edge-agent runs {run} --draw` draws that",
            file.display(),
            kept.definition().qualified_name(),
            kept.definition().document.version
        )));
    }
    Ok(path)
}

/// The drawing, complete in itself.
pub(in super::super) fn drawing(definition: &Definition, path: Option<&draw::Path>, format: Format) -> String {
    match format {
        Format::Mermaid => draw::mermaid(definition, path),
        Format::Svg => draw::svg(definition, path, draw::Style::Standalone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_the_file_says_what_is_drawn() {
        for (file, format) in [
            (None, Format::Mermaid),
            (Some("run.svg"), Format::Svg),
            (Some("a/RUN.SVG"), Format::Svg),
            (Some("run.mmd"), Format::Mermaid),
            (Some("run"), Format::Mermaid),
            (Some("run.md"), Format::Mermaid),
        ] {
            assert_eq!(of_ending(file.map(Path::new)).unwrap(), format, "{file:?}");
        }
        let told = of_ending(Some(Path::new("run.png"))).unwrap_err().to_string();
        assert!(told.starts_with("--out: a drawing is not written as .png: expected .svg"), "{told}");
    }
}
