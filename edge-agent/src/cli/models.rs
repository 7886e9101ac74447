//! `edge-agent models`: which models Skerry knows, which are on this machine, and getting them there.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use models::catalog::Manifest;
use serde_json::json;

use super::{Context, Failure, output};
use crate::inference::pull;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// List the models that Skerry knows, and whether they are on this machine.
    List,
    /// Bring a model's files to this machine; what was begun is resumed, and every file is checked by its digest.
    Pull {
        /// A name from `models list`.
        #[arg(value_name = "MODEL")]
        name: String,
        /// Take the files from this folder instead of the hub.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Check the digest of every file of the models on this machine.
    Verify {
        /// Only this model.
        #[arg(value_name = "MODEL")]
        name: Option<String>,
    },
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let folder = context.config()?.models_dir();
    match args {
        Args::List => list(&folder, context),
        Args::Pull { name, from } => pull(&known(name)?, from.as_deref(), &folder, context),
        Args::Verify { name } => {
            let wanted = name.as_deref().map(known).transpose()?;
            verify(wanted.map_or_else(Manifest::built_in, |one| vec![one]), name.is_some(), &folder, context)
        }
    }
}

fn known(name: &str) -> Result<Manifest, Failure> {
    let all = Manifest::built_in();
    let names: Vec<_> = all.iter().map(|model| model.name.clone()).collect();
    all.into_iter()
        .find(|model| model.name == name)
        .ok_or_else(|| Failure::NotFound(format!("no model is called {name:?}; known: {}", names.join(", "))))
}

/// Whether every file is there in its right length; the digests are `verify`'s business.
fn is_here(model: &Manifest, folder: &Path) -> bool {
    let folder = folder.join(&model.name);
    model
        .files
        .iter()
        .all(|file| std::fs::metadata(folder.join(&file.path)).is_ok_and(|found| found.len() == file.size))
}

fn list(folder: &Path, context: &Context) -> Result<ExitCode, Failure> {
    let all = Manifest::built_in();
    if context.json {
        let values: Vec<_> = all
            .iter()
            .map(|model| {
                json!({ "name": model.name, "bytes": model.size(), "licence": model.licence, "here": is_here(model, folder),
                        "description": model.description })
            })
            .collect();
        output::json(&values)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = all
        .iter()
        .map(|model| {
            let here = if is_here(model, folder) { "yes" } else { "no" };
            let size = indicatif::HumanBytes(model.size()).to_string();
            vec![model.name.clone(), size, model.licence.clone(), here.to_owned(), model.description.clone()]
        })
        .collect();
    output::table(&["model", "size", "licence", "here", "what it is"], rows, "No model is known.");
    println!("Built in and always there: the token-table embedder and the extractive answerer `local/extract`.");
    Ok(ExitCode::SUCCESS)
}

fn pull(model: &Manifest, from: Option<&Path>, folder: &Path, context: &Context) -> Result<ExitCode, Failure> {
    let folder = folder.join(&model.name);
    let bar = if context.json { ProgressBar::hidden() } else { ProgressBar::new(model.size()) };
    if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    let source = from.map_or(pull::From::Hub, pull::From::Folder);
    let mut progress = |seen: pull::Progress<'_>| {
        bar.set_length(seen.size);
        bar.set_message(seen.file.display().to_string());
        bar.set_position(seen.done);
    };
    let outcome = super::small_runtime()?.block_on(pull::pull(model, source, &folder, &mut progress));
    bar.finish_and_clear();
    outcome
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context(format!("cannot pull {}", model.name))))?;
    if context.json {
        output::json(&json!({ "name": model.name, "folder": folder }))?;
    } else {
        println!("{} is in {}, every digest right.", model.name, folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(wanted: Vec<Manifest>, named: bool, folder: &Path, context: &Context) -> Result<ExitCode, Failure> {
    let mut report = Vec::new();
    for model in wanted {
        let place = folder.join(&model.name);
        if !named && !place.exists() {
            continue;
        }
        let flaws = model.verify(&place).map_err(|error| {
            Failure::Failed(anyhow::Error::new(error).context(format!("cannot verify {}", model.name)))
        })?;
        report.push((model.name, flaws.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    let good = report.iter().all(|(_, flaws)| flaws.is_empty());
    if context.json {
        output::json(&report.iter().map(|(name, flaws)| json!({ "name": name, "flaws": flaws })).collect::<Vec<_>>())?;
    } else {
        let rows = report
            .into_iter()
            .map(|(name, flaws)| {
                vec![name, if flaws.is_empty() { "every digest is right".to_owned() } else { flaws.join("\n") }]
            })
            .collect();
        output::table(
            &["model", "files"],
            rows,
            "No model is on this machine: `edge-agent models pull MODEL` brings one.",
        );
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
