//! What a node works by: a bundle's folder, read and checked whole. Either all of it is good or none of it is taken.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use edge_core::{
    feed::Feeds,
    guard::policy::Policies,
    site::{self, Kind, Rules},
};
use shared::{
    bundle::{manifest, path::BundlePath},
    digest::Digest,
    policy::PolicySet,
    problem::{Problem, Problems},
    workflow::Workflow,
};

/// A bundle that was found good.
pub struct Site {
    /// The digest of the bundle's manifest.
    pub digest: Digest,
    pub folder: PathBuf,
    pub feeds: Feeds,
    pub workflows: Vec<Arc<Workflow>>,
    pub policies: Arc<PolicySet>,
    /// What `guard` checks under a name.
    pub guards: Arc<Policies>,
}

impl Site {
    /// No feed, no workflow, the default policy: what a node works by before it was given anything.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            digest: Digest::of(b""),
            folder: PathBuf::new(),
            feeds: Feeds::default(),
            workflows: Vec::new(),
            policies: Arc::new(PolicySet::default_rules()),
            guards: Arc::default(),
        }
    }

    /// Reads a bundle's folder.
    ///
    /// # Errors
    /// Every mistake in every file.
    pub fn load(folder: &Path) -> Result<Self, Problems> {
        let files = list(folder)?;
        let digest = local_digest(folder, &files)?;
        let (mut texts, mut problems) = (Vec::new(), Vec::new());
        for (path, bytes) in &files {
            let kind = match Kind::of(path) {
                Ok(
                    kind @ (Kind::Feeds | Kind::Workflow | Kind::Policy | Kind::Guard | Kind::Function | Kind::Schema),
                ) => kind,
                Err(problem) if path.starts_with("workflows/") || path.starts_with("policies/") => {
                    problems.push(problem);
                    continue;
                }
                // Documents and cases are read by the memory; what lies elsewhere is nobody's.
                _ => continue,
            };
            let read = kind.admit(path, *bytes).and_then(|()| read_text(folder, path));
            match read {
                Ok(text) => texts.push((path.clone(), text)),
                Err(problem) => problems.push(problem),
            }
        }
        let rules = Rules::read(&texts);
        problems.extend(rules.as_ref().err().into_iter().flat_map(|found| found.0.clone()));
        match rules {
            Ok(Rules { feeds, workflows, policies, guards }) if problems.is_empty() => {
                let policies = Arc::new(policies.unwrap_or_else(PolicySet::default_rules));
                Ok(Self { digest, folder: folder.to_owned(), feeds, workflows, policies, guards: Arc::new(guards) })
            }
            _ => Err(Problems(problems)),
        }
    }
}

/// Every file of the folder with its size: relative path with `/`, links not followed, names that begin with a dot left out.
fn list(folder: &Path) -> Result<BTreeMap<String, u64>, Problems> {
    fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, u64>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                walk(&entry.path(), &format!("{path}/"), files)?;
            } else if kind.is_file() {
                files.insert(path, entry.metadata()?.len());
            }
        }
        Ok(())
    }
    let mut files = BTreeMap::new();
    let whole = folder.display().to_string();
    walk(folder, "", &mut files).map_err(|error| {
        one(
            &whole,
            format!(
                "cannot be read as a bundle's folder ({error}); expected feeds.yaml, workflows/, policies/, documents/"
            ),
        )
    })?;
    if files.is_empty() {
        return Err(one(&whole, "holds no file; expected feeds.yaml, workflows/, policies/, documents/".to_owned()));
    }
    Ok(files)
}

/// The digest that the folder has as a bundle, whatever its name and version are.
fn local_digest(folder: &Path, files: &BTreeMap<String, u64>) -> Result<Digest, Problems> {
    let mut listed = Vec::new();
    for (path, bytes) in files {
        let safe: BundlePath =
            path.parse().map_err(|error: shared::bundle::path::Error| one(path, error.to_string()))?;
        let digest =
            models::catalog::digest_of_file(&folder.join(path)).map_err(|error| one(path, error.to_string()))?;
        listed.push(manifest::File { path: safe, digest, bytes: *bytes });
    }
    let manifest = manifest::Manifest::new("local", 1, listed).map_err(|error| one("", error.to_string()))?;
    Ok(manifest.digest())
}

fn read_text(folder: &Path, path: &str) -> Result<String, Problem> {
    let content =
        std::fs::read(folder.join(path)).map_err(|error| problem(path, "", format!("cannot be read: {error}")))?;
    site::text(path, &content).map(str::to_owned)
}

fn problem(file: &str, field: &str, message: String) -> Problem {
    Problem { file: file.to_owned(), line: None, column: None, field: field.to_owned(), message }
}

fn one(file: &str, message: String) -> Problems {
    Problems(vec![problem(file, "", message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let full = dir.path().join(path);
            std::fs::create_dir_all(full.parent().expect("a parent")).expect("folders");
            std::fs::write(full, text).expect("written");
        }
        dir
    }

    const WORKFLOW: &str =
        "document: { dsl: '1.0.3', namespace: plant, name: a, version: '1.0.0' }\ndo:\n  - one: { set: { x: 1 } }\n";

    #[test]
    fn a_good_folder_is_read_whole_and_its_digest_follows_its_bytes() {
        let dir = folder(&[("workflows/a.yaml", WORKFLOW), ("documents/manuals/m.md", "# M\n")]);
        let site = Site::load(dir.path()).expect("good");
        assert_eq!(site.workflows.len(), 1);
        let before = site.digest;
        std::fs::write(dir.path().join("documents/manuals/m.md"), "# N\n").expect("written");
        assert_ne!(Site::load(dir.path()).expect("good").digest, before);
    }

    #[test]
    fn every_broken_file_is_named_at_once() {
        let broken = WORKFLOW.replace("set:", "sett:");
        let dir = folder(&[
            ("workflows/a.yaml", &broken),
            ("policies/p.cedar", "permit (principal"),
            ("feeds.yaml", "feeds: 7\n"),
        ]);
        let text = Site::load(dir.path()).err().expect("refused").to_string();
        for file in ["workflows/a.yaml:3", "policies/p.cedar:1", "feeds.yaml:1"] {
            assert!(text.contains(file), "{file} is not named in:\n{text}");
        }
    }

    #[test]
    fn two_workflows_of_one_name_are_refused() {
        let dir = folder(&[("workflows/a.yaml", WORKFLOW), ("workflows/b.yaml", WORKFLOW)]);
        let text = Site::load(dir.path()).err().expect("refused").to_string();
        assert!(text.contains("workflows/b.yaml") && text.contains("plant/a"), "{text}");
    }
}
