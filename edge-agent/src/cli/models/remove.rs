//! `edge-agent models remove`: takes a model's files from this machine, unless somebody needs them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use models::{catalog::Manifest, packed};
use serde_json::json;

use super::super::{Context, Failure, output};
use crate::{
    config::{Config, models::Files},
    inference::{
        config::{Source, Target},
        files,
    },
};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// A name from `models list`, a target of kind gguf, a repository that was pulled (OWNER/NAME), or a GGUF file.
    #[arg(value_name = "NAME")]
    name: String,
    /// Also when the configuration uses it.
    #[arg(long)]
    force: bool,
}

/// What is to go.
#[derive(Debug, PartialEq, Eq)]
struct Doomed {
    /// A file, or a folder with all that is in it.
    path: PathBuf,
    /// What of the configuration needs it.
    used_by: Vec<String>,
}

pub(super) fn run(args: &Args, config: &Config, context: &Context) -> Result<ExitCode, Failure> {
    let Doomed { path, used_by } = find(&args.name, config)?;
    if !used_by.is_empty() && !args.force {
        let message = format!(
            "{} is in use by {} in the configuration: take that away first, or give --force",
            args.name,
            used_by.join(", ")
        );
        return Err(Failure::Input(message));
    }
    let (count, bytes) = size(&path).with_context(|| format!("cannot look at {}", path.display()))?;
    let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    removed.with_context(|| format!("cannot remove {}", path.display()))?;
    prune(&path, &config.models_dir());
    // What is kept of the others is still theirs; they are asked whether they are there, and these are not.
    let weights = config.weights_dir();
    let packed = packed::sweep(&weights, &files(&config.targets))
        .with_context(|| format!("cannot remove packed weights from {}", weights.display()))?;
    if context.json {
        let told = json!({ "removed": path, "files": count, "bytes": bytes, "packedBytes": packed, "usedBy": used_by });
        output::json(&told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (size, many) = (indicatif::HumanBytes(bytes), if count == 1 { "" } else { "s" });
    output::say(&format!("{} is gone: {size} in {count} file{many} are free.", path.display()));
    if packed > 0 {
        output::say(&format!("So are {} of packed weights.", indicatif::HumanBytes(packed)));
    }
    for user in used_by {
        output::say(&format!("{user} has lost its model; a running agent keeps what it has loaded."));
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str, config: &Config) -> Result<Doomed, Failure> {
    let folder = config.models_dir();
    let own = config.targets.iter().find(|target| target.name == name);
    let path = match own.map(|target| &target.source) {
        Some(Source::Gguf(model)) => model.file.clone(),
        Some(Source::Provider(_)) => {
            return Err(Failure::Input(format!("{name} is at a provider: nothing of it is on this machine")));
        }
        None if Manifest::built_in().iter().any(|model| model.name == name) => folder.join(name),
        // A repository lies under its name; nothing else of the folder's is reached by one.
        None if is_repository(name) && folder.join(name).is_dir() => folder.join(name),
        None if Path::new(name).is_file() => of_models(name, &folder)?,
        None => {
            if let Some((field, files)) = config.models.files().find(|(field, _)| *field == name) {
                let folder = files.folder.display();
                return Err(Failure::Input(format!(
                    "the {field} lies in a folder of its own, which was not pulled: take `{field}` out of [models] and delete {folder}"
                )));
            }
            let message = format!(
                "{name:?} is no model on this machine: `edge-agent models list` and the targets of the configuration tell what is"
            );
            return Err(Failure::NotFound(message));
        }
    };
    if !path.exists() {
        return Err(Failure::NotFound(format!("{name} is not on this machine: there is no {}", path.display())));
    }
    let mut used_by: Vec<_> =
        config.targets.iter().filter(|target| uses(target, &path)).map(|t| t.name.clone()).collect();
    let catalog = config.models.of_catalog().filter(|embedder| folder.join(embedder) == path);
    used_by.extend(catalog.map(|name| format!("embedder {name}")));
    let of_files = |files: &Files| is_within(&files.folder, &path);
    used_by.extend(config.models.files().filter(|(_, files)| of_files(files)).map(|(field, _)| field.to_owned()));
    Ok(Doomed { path, used_by })
}

fn is_repository(name: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
    name.split_once('/').is_some_and(|(owner, name)| is_word(owner) && is_word(name) && !name.contains('/'))
}

/// A file that is a model: nobody removes something else by a slip.
fn of_models(name: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(name);
    let is_gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let is_inside =
        path.canonicalize().ok().zip(folder.canonicalize().ok()).is_some_and(|(path, folder)| path.starts_with(folder));
    if is_gguf || is_inside {
        return Ok(path);
    }
    Err(Failure::Input(format!("{name} is no model: expected a GGUF file, or one in {}", folder.display())))
}

/// Whether the target's file is this one, or lies in this folder.
fn uses(target: &Target, path: &Path) -> bool {
    matches!(&target.source, Source::Gguf(model) if is_within(&model.file, path))
}

fn is_within(inner: &Path, outer: &Path) -> bool {
    let (inner, outer) = (inner.canonicalize(), outer.canonicalize());
    inner.ok().zip(outer.ok()).is_some_and(|(inner, outer)| inner.starts_with(outer))
}

/// Files and bytes of a file or folder.
fn size(path: &Path) -> io::Result<(u64, u64)> {
    // A link is removed, not what it leads to.
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok((1, metadata.len()));
    }
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(path)? {
        let (more_files, more_bytes) = size(&entry?.path())?;
        files += more_files;
        bytes += more_bytes;
    }
    Ok((files, bytes))
}

/// Removes the folders above that are empty now, up to that of the models.
fn prune(path: &Path, models: &Path) {
    for folder in path.ancestors().skip(1).take_while(|folder| *folder != models && folder.starts_with(models)) {
        // It is not empty, and that is that.
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        let text = "name = \"a\"\njurisdiction = \"CH\"\n[models]\nembedder = \"all-minilm-l6-v2\"\n[[targets]]\nname = \"local/a\"\n\
                    kind = \"gguf\"\nfile = \"data/models/o/n/m.gguf\"\n";
        for (path, bytes) in [
            ("data/models/o/n/m.gguf", 10),
            ("data/models/o/n/other.gguf", 20),
            ("data/models/p/q/r.gguf", 30),
            ("data/models/all-minilm-l6-v2/config.json", 5),
            ("letter.txt", 7),
        ] {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, vec![0; bytes]).expect("written");
        }
        fs::write(folder.join("agent.toml"), text.replace("[models]", "data_dir = \"data\"\n[models]"))
            .expect("written");
        Config::load(&folder.join("agent.toml")).expect("valid")
    }

    fn remove(folder: &Path, name: &str, force: bool) -> Result<ExitCode, Failure> {
        let context = Context { config_path: folder.join("agent.toml"), json: true };
        run(&Args { name: name.to_owned(), force }, &context.config()?, &context)
    }

    #[test]
    fn what_is_in_use_stays_unless_it_is_forced() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path());
        let packed = packed::file_of(&config.weights_dir(), &folder.path().join("data/models/o/n/m.gguf"));
        fs::create_dir(config.weights_dir()).expect("made");
        fs::write(&packed, [0; 9]).expect("written");
        for (name, user) in
            [("local/a", "local/a"), ("o/n", "local/a"), ("all-minilm-l6-v2", "embedder all-minilm-l6-v2")]
        {
            let refused = remove(folder.path(), name, false).expect_err("in use").to_string();
            assert!(refused.contains(&format!("is in use by {user}")), "{refused}");
        }
        remove(folder.path(), "p/q", false).expect("nobody uses it");
        assert!(packed.exists(), "it is another model's");
        remove(folder.path(), "local/a", true).expect("forced");
        assert!(!folder.path().join("data/models/o/n/m.gguf").exists());
        assert!(folder.path().join("data/models/o/n/other.gguf").exists(), "the target's file alone");
        assert!(!packed.exists(), "its packed weights go with it");
        remove(folder.path(), "all-minilm-l6-v2", true).expect("forced");
        assert!(!folder.path().join("data/models/all-minilm-l6-v2").exists());
    }

    #[test]
    fn a_repository_goes_with_its_empty_folders_and_nothing_else_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path());
        assert_eq!(size(&folder.path().join("data/models/p")).expect("it is there"), (1, 30));
        remove(folder.path(), "p/q", false).expect("nobody uses it");
        assert!(!folder.path().join("data/models/p").exists() && folder.path().join("data/models/o").exists());
        let letter = folder.path().join("letter.txt").display().to_string();
        for (name, told) in [
            (letter.as_str(), "is no model: expected a GGUF file"),
            ("no/such", "is no model on this machine"),
            ("../letter.txt", "is no model on this machine"),
            ("..", "is no model on this machine"),
        ] {
            let refused = find(name, &config).expect_err("refused").to_string();
            assert!(refused.contains(told), "{name}: {refused}");
        }
        assert!(folder.path().join("letter.txt").exists());
    }
}
