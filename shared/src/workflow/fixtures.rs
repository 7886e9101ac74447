//! The public documents of the language, read and written out again. They lie beside the checkout, not in it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{read_definition, source};

/// The YAML files of a folder beside the checkout; `None`, said on the terminal, where it is absent.
pub(super) fn documents(folder: &str) -> Option<Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    let Ok(entries) = std::fs::read_dir(&root) else {
        println!("skipped: {} is not there", root.display());
        return None;
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    Some(paths.iter().map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect())
}

fn survives_a_round_trip(folder: &str) {
    let Some(documents) = documents(folder) else { return };
    assert!(!documents.is_empty(), "no document in {folder}");
    for (name, text) in documents {
        let definition = read_definition(&name, &text).unwrap_or_else(|problems| panic!("{problems}"));
        let written: Value = serde_json::to_value(&definition).unwrap();
        assert_eq!(written, source::read(&text).unwrap(), "{name}");
    }
}

#[test]
fn the_public_examples_survive_a_round_trip() {
    survives_a_round_trip("suites/open-workflow/examples");
}

#[test]
fn our_own_designs_survive_a_round_trip() {
    survives_a_round_trip("design/examples");
}

#[test]
fn the_public_examples_pass_the_check() {
    let Some(documents) = documents("suites/open-workflow/examples") else { return };
    let wrong: Vec<String> = documents
        .iter()
        .filter_map(|(name, text)| super::Workflow::parse(name, text).err())
        .map(|problems| problems.to_string())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where our designs say other than the catalogue came to be: file, what it says, what it means by today's words.
const MEANT: &[(&str, &str, &str)] = &[(
    "nightly-summaries.yaml",
    "call: 'embed:1.0.0@default', with: { model: local/bge-small, index: summaries, items: '${ $context.done }' }",
    "call: 'remember:1.0.0@default', with: { index: summaries, text: '${ $context.done | tojson }' }",
)];

#[test]
fn our_own_designs_pass_the_check_in_todays_words() {
    let Some(documents) = documents("design/examples") else { return };
    for (name, text) in documents {
        let mut text = text;
        for (_, said, meant) in MEANT.iter().filter(|(file, ..)| name.ends_with(file)) {
            assert!(text.contains(said), "{name} does not say {said} any more");
            text = text.replace(said, meant);
        }
        let problems = super::Workflow::parse(&name, &text).err();
        assert!(problems.is_none(), "{}", problems.map(|problems| problems.to_string()).unwrap_or_default());
    }
}
