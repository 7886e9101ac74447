//! The rules of style that a machine can check.

use std::collections::BTreeSet;

use crate::{
    check,
    source::{code_of, files, line_of, tests_start},
};

/// Past 400 lines a file is looked at for its second idea; past this it does not pass.
const FILE_LINES_MAX: usize = 500;

/// Where a pause between two looks has its bound: so many lines before it, and after it.
const BOUND_NEAR: (usize, usize) = (12, 4);

/// Every file of Rust in the checkout, matched line by line against a pattern over its code.
fn matches(pattern: &str, part: impl Fn(&str, &str) -> Option<usize>) -> Vec<String> {
    let pattern = regex::Regex::new(pattern).expect("a valid pattern");
    let mut found = Vec::new();
    for file in files("", &[".rs"]) {
        let code = code_of(&file.text);
        let Some(start) = part(&file.path, &code) else { continue };
        for hit in pattern.find_iter(&code[start..]) {
            found.push(format!("{}:{}: {}", file.path, line_of(&code, start + hit.start()), hit.as_str()));
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = files("", &[".rs"])
        .into_iter()
        .filter(|file| !file.text.starts_with("//! ") || file.text.starts_with("//! Placeholder"))
        .map(|file| file.path)
        .collect();
    check("a file does not open with `//!` and a sentence on what it is for:", &silent);
}

#[test]
fn no_file_holds_two_ideas() {
    let long: Vec<_> = files("", &[".rs"])
        .into_iter()
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    check("a file has more than 500 lines; look for its second idea:", &long);
}

#[test]
fn nothing_is_left_unfinished() {
    check("unfinished code:", &matches(r"\b(?:todo|unimplemented|dbg)!\s*[(\[{]", |_, _| Some(0)));
}

#[test]
fn no_test_is_switched_off_without_a_reason() {
    check("a test is ignored without a reason:", &matches(r"#\[ignore\]", |_, _| Some(0)));
}

#[test]
fn no_test_sleeps() {
    let sleep = regex::Regex::new(r"\bsleep(?:_until|_ms)?\s*\(").expect("a valid pattern");
    let mut sleeps = Vec::new();
    for file in files("", &[".rs"]) {
        let code = code_of(&file.text);
        let Some(start) = tests_start(&file.path, &code) else { continue };
        let lines: Vec<_> = code.lines().collect();
        for hit in sleep.find_iter(&code[start..]) {
            let line = line_of(&code, start + hit.start());
            let near = line.saturating_sub(BOUND_NEAR.0)..(line + BOUND_NEAR.1).min(lines.len());
            if !lines[near].iter().any(|line| line.contains("elapsed()") || line.contains("timeout(")) {
                sleeps.push(format!("{}:{line}", file.path));
            }
        }
    }
    check("a test sleeps; look again and again for what it needs, with a bound:", &sleeps);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let places = ["work", "root", "farm", "home"].map(|folder| format!("/{folder}/")).join("|");
    let pattern = regex::Regex::new(&format!(r#"(?:^|[\s"'=:(`])(?:{places})"#)).expect("a valid pattern");
    let endings = [".rs", ".toml", ".md", ".yaml", ".yml", ".cedar", ".json", ".py", ".service", "run", "Justfile"];
    let mut found = Vec::new();
    for file in files("", &endings) {
        for (index, line) in file.text.lines().enumerate() {
            if pattern.is_match(line) {
                found.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    check("a path of somebody's machine:", &found);
}

#[test]
fn the_pages_stylesheet_has_every_rule_of_a_drawing_of_its_own() {
    let classes = |path: &str| -> BTreeSet<String> {
        let css = std::fs::read_to_string(tests::binaries::checkout().join(path)).expect("a stylesheet");
        let selectors = css.split(['{', '}']).flat_map(|part| part.split([',', ' ', '>', ':', '\n']));
        selectors.filter(|word| word.starts_with('.')).map(str::to_owned).collect()
    };
    let page = classes("shared/src/look/skerry.css");
    let drawing = classes("shared/src/workflow/draw/svg.css");
    assert!(drawing.len() > 10, "{drawing:?}");
    let missing: Vec<_> = drawing.difference(&page).cloned().collect();
    check("skerry.css has no rule for what svg.css has:", &missing);
}
