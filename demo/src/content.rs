//! What each group of the demo runs: the common folder with the group's own laid over it, which makes one bundle.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

/// Write a group's bundle directory, as the demo pushes it.
#[derive(Debug, Args)]
pub struct Options {
    /// hamburg, basel or houston.
    group: String,
    /// A folder that does not exist yet.
    out: PathBuf,
}

/// Assembles one group's bundle.
///
/// # Errors
/// When there is no such group or the folder is already there.
pub fn run(options: &Options) -> anyhow::Result<()> {
    assemble(&options.group, &options.out)
}

/// Puts the bundle of `group` into `out`, which must not exist.
///
/// # Errors
/// When a folder cannot be read or written.
pub fn assemble(group: &str, out: &Path) -> anyhow::Result<()> {
    let content = Path::new(env!("CARGO_MANIFEST_DIR")).join("content");
    let own = content.join(group);
    anyhow::ensure!(own.is_dir(), "there is no group {group:?}: expected hamburg, basel or houston");
    fs::create_dir(out).with_context(|| format!("cannot make {}", out.display()))?;
    copy(&content.join("common"), out)?;
    copy(&own, out)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::{
        label::{DataClass, Label},
        policy::{Action, PolicySet, Request, Target, TargetKind},
    };

    use super::*;

    fn files(folder: &Path, ending: &str) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|found| found == ending) {
                files.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
        files
    }

    fn may_go_to_the_cloud(group: &str, origin: &str, class: DataClass, personal: bool) -> Result<(), Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle");
        assemble(group, &bundle).unwrap();
        let set = PolicySet::parse(&files(&bundle.join("policies"), "cedar")).unwrap();
        let target = Target { jurisdiction: Some("US".to_owned()), ..Target::new(TargetKind::Cloud, "cloud/large") };
        let label = Label { class, origins: [origin.to_owned()].into(), personal };
        let request = Request {
            action: Action::Infer,
            workflow: "quality/record-review".to_owned(),
            agent: None,
            target,
            label,
            node_jurisdiction: origin.to_owned(),
        };
        set.decide(&request).map(|_| ()).map_err(|refusal| refusal.rules)
    }

    #[test]
    fn swiss_records_of_persons_stay_while_notes_of_machines_may_go() {
        assert_eq!(may_go_to_the_cloud("basel", "CH", DataClass::Internal, false), Ok(()));
        let refused = may_go_to_the_cloud("basel", "CH", DataClass::Restricted, true);
        assert_eq!(refused, Err(vec!["swiss-records-stay".to_owned()]));
    }

    #[test]
    fn persons_of_every_site_stay_on_their_side() {
        for (group, origin) in [("basel", "CH"), ("hamburg", "DE"), ("houston", "US")] {
            assert!(may_go_to_the_cloud(group, origin, DataClass::Internal, true).is_err(), "{group}");
            assert!(may_go_to_the_cloud(group, origin, DataClass::Internal, false).is_ok(), "{group}");
        }
    }

    #[test]
    fn every_workflow_passes_the_check() {
        let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("content/common/workflows");
        let workflows = files(&common, "yaml");
        assert_eq!(workflows.len(), 2);
        for (file, yaml) in workflows {
            if let Err(problems) = shared::workflow::Workflow::parse(&file, &yaml) {
                panic!("{problems}");
            }
        }
    }

    #[test]
    fn a_bundle_is_assembled_once_and_only_for_a_group_that_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("bundle");
        assemble("hamburg", &out).unwrap();
        for file in ["feeds.yaml", "workflows/machine-fault.yaml", "documents/manuals/pumps.md", "cases/records.jsonl"]
        {
            assert!(out.join(file).is_file(), "{file}");
        }
        assert!(assemble("hamburg", &out).is_err());
        assert!(assemble("atlantis", &folder.path().join("third")).is_err());
    }
}
