//! Which models there are: those that Skerry knows, and the files that the configuration names; and whether they are what they should be.

use std::{fs, path::Path, process::ExitCode};

use models::{
    catalog::{Digests, Manifest},
    packed,
};
use serde::Serialize;
use serde_json::json;

use super::{
    super::{Context, Failure, output},
    known,
};
use crate::{
    agent,
    config::Config,
    inference::{config::Source, problems},
};

/// One line of the list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    /// Of all its files; nothing where they are not there and nobody knows.
    bytes: Option<u64>,
    /// Of its packed weights, if they are kept.
    #[serde(rename = "packedBytes", skip_serializing_if = "Option::is_none")]
    packed: Option<u64>,
    licence: String,
    here: bool,
    description: String,
}

pub(super) fn list(config: &Config, context: &Context) -> Result<ExitCode, Failure> {
    let all: Vec<_> = of_catalogue(config).chain(of_targets(config)).chain(of_encoders(config)).collect();
    if context.json {
        output::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |model: Listed| {
        let here = if model.here { "yes" } else { "no" };
        let size = model.bytes.map(|bytes| indicatif::HumanBytes(bytes).to_string()).unwrap_or_default();
        vec![model.name, size, model.licence, here.to_owned(), model.description]
    };
    let rows = all.into_iter().map(row).collect();
    output::table(&["model", "size", "licence", "here", "what it is"], rows, "No model is known.");
    println!("Built in and always there: the token-table embedder and the extractive answerer `local/extract`.");
    Ok(ExitCode::SUCCESS)
}

fn of_catalogue(config: &Config) -> impl Iterator<Item = Listed> {
    let folder = config.models_dir();
    Manifest::built_in().into_iter().map(move |model| Listed {
        bytes: Some(model.size()),
        packed: None,
        here: is_here(&model, &folder),
        name: model.name,
        licence: model.licence,
        description: model.description,
    })
}

fn of_targets(config: &Config) -> impl Iterator<Item = Listed> {
    config.targets.iter().filter_map(|target| {
        let Source::Gguf(model) = &target.source else { return None };
        let mut description = format!("chat model of [[targets]], {}", model.file.display());
        let packed = bytes(&packed::file_of(&config.weights_dir(), &model.file));
        if let Some(packed) = packed {
            description.push_str(&format!("; {} of packed weights", indicatif::HumanBytes(packed)));
        }
        Some(Listed { packed, ..named(target.name.clone(), &model.file, description) })
    })
}

fn of_encoders(config: &Config) -> impl Iterator<Item = Listed> {
    config.models.files().map(|(field, files)| {
        let description = format!("{field} of [models], {}", files.folder.display());
        named(field.to_owned(), &files.folder.join("model.safetensors"), description)
    })
}

/// One that the configuration names.
fn named(name: String, file: &Path, description: String) -> Listed {
    let bytes = bytes(file);
    Listed { name, bytes, packed: None, licence: String::new(), here: bytes.is_some(), description }
}

/// How long a file is that is there.
fn bytes(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().filter(fs::Metadata::is_file).map(|file| file.len())
}

/// Whether every file is there in its right length; the digests are `verify`'s business.
fn is_here(model: &Manifest, folder: &Path) -> bool {
    let folder = folder.join(&model.name);
    let is_whole = |path: &Path, size: u64| fs::metadata(folder.join(path)).is_ok_and(|found| found.len() == size);
    model.files.iter().all(|file| is_whole(Path::new(&file.path), file.size))
}

pub(super) fn verify(name: Option<&str>, config: &Config, context: &Context) -> Result<ExitCode, Failure> {
    let is_meant = |own: &str| name.is_none_or(|name| name == own);
    let mut report: Vec<(String, Vec<String>)> = Vec::new();
    // Nothing is remembered: each file is read.
    let digests = Digests::default();
    let problems = problems::of(&config.targets, &digests, problems::Look::Thorough);
    for model in of_targets(config).filter(|model| is_meant(&model.name)) {
        let own = problems.iter().filter(|problem| problem.target == model.name);
        let flaws = own.map(|problem| problem.found.clone()).collect();
        report.push((model.name, flaws));
    }
    for (field, files) in config.models.files().filter(|(field, _)| is_meant(field)) {
        let flaw = agent::check_encoder(field, files, &digests).err().map(|error| format!("{error:#}"));
        report.push((field.to_owned(), flaw.into_iter().collect()));
    }
    let wanted = match name {
        None => Manifest::built_in(),
        Some(_) if !report.is_empty() => Vec::new(),
        Some(name) => vec![known(name)?],
    };
    let folder = config.models_dir();
    for model in wanted.into_iter().filter(|model| name.is_some() || folder.join(&model.name).exists()) {
        let flaws = model.verify(&folder.join(&model.name)).map_err(|error| {
            Failure::Failed(anyhow::Error::new(error).context(format!("cannot verify {}", model.name)))
        })?;
        report.push((model.name, flaws.iter().map(ToString::to_string).collect()));
    }
    let good = report.iter().all(|(_, flaws)| flaws.is_empty());
    if context.json {
        output::json(&report.iter().map(|(name, flaws)| json!({ "name": name, "flaws": flaws })).collect::<Vec<_>>())?;
    } else {
        let told =
            |flaws: Vec<String>| if flaws.is_empty() { "as they should be".to_owned() } else { flaws.join("\n") };
        let rows = report.into_iter().map(|(name, flaws)| vec![name, told(flaws)]).collect();
        let none = "No model is on this machine: `edge-agent models pull MODEL` brings one.";
        output::table(&["model", "files"], rows, none);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
