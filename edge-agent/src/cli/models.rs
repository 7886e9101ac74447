//! `edge-agent models`: which models Skerry knows, which are on this machine, getting them there and taking them away, and how fast they are.

mod bench;
mod inventory;
mod remove;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use models::catalog::{HUB, Manifest};
use serde_json::json;

use shared::digest::Digest;

use super::{Context, Failure, output};
use crate::{
    config::Config,
    inference::{
        config::{Gguf, Hub, Source},
        pull,
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// List the models that Skerry knows and those that the configuration names, and whether they are on this machine.
    List,
    /// Bring a model's files to this machine; what was begun is resumed, and every file is checked by its digest.
    #[command(after_help = PULL_HELP)]
    Pull(Pull),
    /// Measure a model on this machine: loading, prompt and answer, memory.
    #[command(after_help = BENCH_HELP)]
    Bench(bench::Args),
    /// Take a model's files from this machine; refused for what the configuration uses, unless forced.
    Remove(remove::Args),
    /// Check the models on this machine, those that the configuration names among them: every digest, and whether a chat model can be read.
    Verify {
        /// Only this model: a name from `models list`, which may be one of [[targets]] or [models].
        #[arg(value_name = "MODEL")]
        name: Option<String>,
    },
}

/// What to bring, and from where.
#[derive(Debug, clap::Args)]
pub(super) struct Pull {
    /// A name from `models list`, or a target of kind gguf with `repo` and `digest`, such as local/qwen3.
    #[arg(value_name = "MODEL", required_unless_present = "repo")]
    name: Option<String>,
    /// Take the files from this folder instead of the hub.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// A chat model of the hub that Skerry does not know: its repository.
    #[arg(long, value_name = "OWNER/NAME", conflicts_with = "name", requires_all = ["file", "digest"])]
    repo: Option<String>,
    /// The GGUF file in the repository.
    #[arg(long, value_name = "FILE", requires = "repo")]
    file: Option<PathBuf>,
    /// What the file must be; the hub shows it as SHA256 on the file's page.
    #[arg(long, value_name = "sha256:..", requires = "repo")]
    digest: Option<Digest>,
    /// A branch, tag or commit of the repository.
    #[arg(long, value_name = "REVISION", requires = "repo")]
    revision: Option<String>,
    /// Where the hub is.
    #[arg(long, value_name = "URL", default_value = HUB, env = "SKERRY_MODEL_HUB")]
    hub: String,
}

const PULL_HELP: &str = "\
Examples:
  edge-agent models pull all-minilm-l6-v2
  edge-agent models pull --repo Qwen/Qwen3-0.6B-GGUF --file Qwen3-0.6B-Q8_0.gguf --digest sha256:..
  edge-agent models pull local/qwen3        the `repo`, `file` and `digest` of that target in agent.toml";

const BENCH_HELP: &str = "\
Examples:
  edge-agent models bench local/qwen3
  edge-agent models bench Qwen3-0.6B-Q8_0.gguf --prompt 256 --answer 128 --threads 2
  edge-agent models bench all-minilm-l6-v2      an embedder

The tokens mean nothing: the speed does not depend on them. What the model takes is planned first, and one that does not fit is refused.";

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let config = context.config()?;
    let folder = config.models_dir();
    if let Args::Pull(asked) = args
        && asked.from.is_none()
    {
        check_hub(&asked.hub)?;
    }
    match args {
        Args::List => inventory::list(&config, context),
        Args::Pull(asked) => match (&asked.name, wanted(asked, &config)?) {
            (_, Some((wanted, folder))) => pull_file(&wanted, asked, &folder, context),
            (name, None) => {
                let model = known(name.as_deref().unwrap_or_default())?.from_hub(&asked.hub);
                pull(&model, asked.from.as_deref(), &folder, context)
            }
        },
        Args::Bench(asked) => bench::run(asked, &config, context),
        Args::Remove(asked) => remove::run(asked, &config, context),
        Args::Verify { name } => inventory::verify(name.as_deref(), &config, context),
    }
}

/// # Errors
/// When the hub is none that files can be asked of.
fn check_hub(hub: &str) -> Result<(), Failure> {
    let is_web = reqwest::Url::parse(hub).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if is_web {
        Ok(())
    } else {
        Err(Failure::Input(format!("--hub or SKERRY_MODEL_HUB: {hub:?}; expected an address such as {HUB}")))
    }
}

fn known(name: &str) -> Result<Manifest, Failure> {
    let all = Manifest::built_in();
    let names: Vec<_> = all.iter().map(|model| model.name.clone()).collect();
    all.into_iter()
        .find(|model| model.name == name)
        .ok_or_else(|| Failure::NotFound(format!("no model is called {name:?}; known: {}", names.join(", "))))
}

/// The file that a repository or a target names, and the folder that it goes to; `None`: a model that Skerry knows.
fn wanted(asked: &Pull, config: &Config) -> Result<Option<(pull::HubFile, PathBuf)>, Failure> {
    let hub = asked.hub.clone();
    if let (Some(repo), Some(path), Some(digest)) = (&asked.repo, &asked.file, asked.digest) {
        let repo = Hub::new(repo, asked.revision.as_deref()).map_err(|wrong| Failure::Input(format!("--{wrong}")))?;
        let is_inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_inside || path.as_os_str().is_empty() {
            let message =
                format!("--file: {} leads out of the repository; expected such as model.gguf", path.display());
            return Err(Failure::Input(message));
        }
        let folder = config.models_dir().join(&repo.repo);
        return Ok(Some((pull::HubFile { hub, repo, path: path.clone(), digest }, folder)));
    }
    let Some(target) = config.targets.iter().find(|target| Some(&target.name) == asked.name.as_ref()) else {
        return Ok(None);
    };
    let Source::Gguf(Gguf { file, digest: Some(digest), hub: Some(repo), .. }) = &target.source else {
        let message = format!(
            "the target {} does not say where its model comes from: expected `repo` and `digest` beside `file`",
            target.name
        );
        return Err(Failure::Input(message));
    };
    let (folder, path) = (file.parent().unwrap_or(Path::new(".")), file.file_name().unwrap_or_default());
    let wanted = pull::HubFile { hub, repo: repo.clone(), path: path.into(), digest: *digest };
    Ok(Some((wanted, folder.to_owned())))
}

fn pull_file(wanted: &pull::HubFile, asked: &Pull, folder: &Path, context: &Context) -> Result<ExitCode, Failure> {
    let bar = bar(context, 0);
    let source = asked.from.as_deref().map_or(pull::From::Hub, pull::From::Folder);
    let mut progress = |seen: pull::Progress<'_>| show(&bar, &seen);
    let outcome = super::small_runtime()?.block_on(pull::pull_file(wanted, source, folder, &mut progress));
    bar.finish_and_clear();
    let what = wanted.path.display();
    outcome.map_err(|error| Failure::Failed(anyhow::Error::new(error).context(format!("cannot pull {what}"))))?;
    let file = folder.join(&wanted.path);
    if context.json {
        output::json(&json!({ "file": file, "digest": wanted.digest, "repo": wanted.repo.repo }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} is here and is what its digest says.", file.display());
    if asked.repo.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let full = std::path::absolute(&file).unwrap_or(file);
    if wanted.path.extension().is_none_or(|ending| ending != "gguf") {
        if wanted.path.file_name().is_some_and(|name| name == "model.safetensors") {
            let folder = full.parent().unwrap_or(&full).display().to_string();
            println!(
                "With config.json and tokenizer.json beside it, as what embeds, ranks or classifies in agent.toml:\n"
            );
            println!("[models]\nreranker = {{ folder = {folder:?}, digest = \"{}\" }}", wanted.digest);
        }
        return Ok(ExitCode::SUCCESS);
    }
    println!("As a target in agent.toml:\n");
    let name = wanted.path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase().replace(' ', "-");
    println!("[[targets]]\nname = \"local/{name}\"\nkind = \"gguf\"\nfile = {:?}", full.display().to_string());
    println!("digest = \"{}\"\nrepo = \"{}\"", wanted.digest, wanted.repo.repo);
    println!("revision = \"{}\"", wanted.repo.revision);
    Ok(ExitCode::SUCCESS)
}

fn bar(context: &Context, size: u64) -> ProgressBar {
    let bar = if context.json { ProgressBar::hidden() } else { ProgressBar::new(size) };
    match ProgressStyle::with_template("{msg:28} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(bar: &ProgressBar, seen: &pull::Progress<'_>) {
    bar.set_length(seen.size);
    bar.set_message(seen.file.display().to_string());
    bar.set_position(seen.done);
}

fn pull(model: &Manifest, from: Option<&Path>, folder: &Path, context: &Context) -> Result<ExitCode, Failure> {
    let folder = folder.join(&model.name);
    let bar = bar(context, model.size());
    let source = from.map_or(pull::From::Hub, pull::From::Folder);
    let mut progress = |seen: pull::Progress<'_>| show(&bar, &seen);
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
