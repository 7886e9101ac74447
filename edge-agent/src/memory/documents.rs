//! What a bundle brings to remember: documents in `documents/<index>/`, labelled cases in `cases/<name>.jsonl`. Read and
//! checked as a whole; the texts themselves stay on disk until they are indexed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use edge_core::site::{self, DEPTH_MAX, DOCUMENTS_MAX, Kind, LABEL_FILE};
use models::classify::Case;
use shared::{
    digest::Digest,
    label::{DataClass, Label},
    problem::{Problem, Problems},
};

/// One document on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub index: String,
    /// Relative to the index's folder, with `/`.
    pub path: String,
    pub file: PathBuf,
    pub digest: Digest,
    pub label: Label,
}

/// All that a bundle brings for this room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    pub documents: Vec<Document>,
    pub cases: BTreeMap<String, Labelled>,
}

/// A set of cases, and what its texts demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    pub cases: Vec<Case>,
    pub label: Label,
}

impl Content {
    /// Reads `documents/` and `cases/` of a bundle's folder; either may be missing.
    ///
    /// # Errors
    /// Every file that cannot be used, with what was expected.
    pub fn read(bundle: &Path) -> Result<Self, Problems> {
        let mut content = Self::default();
        let mut problems = Vec::new();
        for index in entries(&bundle.join("documents"), "documents", &mut problems) {
            let (name, file) = (name_of(&index), format!("documents/{}", name_of(&index)));
            if index.is_dir() {
                // A text that nobody labelled is not taken for public.
                let label = Label { class: DataClass::Internal, ..Label::default() };
                let mut walk =
                    Walk { index: &name, root: &index, found: &mut content.documents, problems: &mut problems };
                walk.folder(&index, &label, false, 0);
            } else if !name.starts_with('.') {
                problems.extend(Kind::of(&file).err());
            }
        }
        if content.documents.len() > DOCUMENTS_MAX {
            let message = format!("{} documents; at most {DOCUMENTS_MAX}", content.documents.len());
            problems.push(problem("documents", None, &message));
        }
        content.cases = read_cases(&bundle.join("cases"), &mut problems);
        if problems.is_empty() { Ok(content) } else { Err(Problems(problems)) }
    }
}

/// Reads a file of a bundle, as long and as well formed as its kind may be.
fn read(file: &str, path: &Path) -> Result<String, Problem> {
    let content = read_bytes(file, path)?;
    site::text(file, &content).map(str::to_owned)
}

/// The same for a file that is no text.
fn read_bytes(file: &str, path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| problem(file, None, &format!("cannot be read: {error}"));
    Kind::of(file)?.admit(file, path.metadata().map_err(unreadable)?.len())?;
    std::fs::read(path).map_err(unreadable)
}

/// Reads the sets of cases in a folder with their labels.
fn read_cases(folder: &Path, problems: &mut Vec<Problem>) -> BTreeMap<String, Labelled> {
    let mut sets = BTreeMap::new();
    let paths = entries(folder, "cases", problems);
    let files: Vec<String> = paths.iter().map(|path| format!("cases/{}", name_of(path))).collect();
    problems.extend(site::orphans(files.iter().map(String::as_str)));
    let common = label_in(&folder.join(LABEL_FILE), &format!("cases/{LABEL_FILE}"), problems);
    for (path, file) in paths.iter().zip(&files) {
        let name = name_of(path);
        if name.starts_with('.') || name == LABEL_FILE || name.ends_with(site::CASES_LABEL) {
            continue;
        }
        let set = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let own = format!("{set}{}", site::CASES_LABEL);
        let label = match (label_in(&folder.join(&own), &format!("cases/{own}"), problems), &common) {
            (Some(own), Some(common)) => own.join(common),
            (Some(own), None) => own,
            (None, Some(common)) => common.clone(),
            // As with documents: what nobody labelled is not taken for public.
            (None, None) => Label { class: DataClass::Internal, ..Label::default() },
        };
        match cases(file, path) {
            Ok(cases) => drop(sets.insert(set, Labelled { cases, label })),
            Err(mut wrong) => problems.append(&mut wrong.0),
        }
    }
    sets
}

/// The label that a file says, if it is there.
fn label_in(path: &Path, file: &str, problems: &mut Vec<Problem>) -> Option<Label> {
    if !path.exists() {
        return None;
    }
    let label = read(file, path).and_then(|text| site::label(file, &text));
    label.map_err(|problem| problems.push(problem)).ok()
}

fn cases(file: &str, path: &Path) -> Result<Vec<Case>, Problems> {
    let text = read(file, path).map_err(|problem| Problems(vec![problem]))?;
    site::cases(file, &text)
}

struct Walk<'a> {
    index: &'a str,
    root: &'a Path,
    found: &'a mut Vec<Document>,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    /// `given` says whether a folder above has a label of its own. Labels join on the way down, so that a folder inside a
    /// confidential one cannot be public by mistake.
    fn folder(&mut self, folder: &Path, above: &Label, given: bool, depth: usize) {
        if depth > DEPTH_MAX {
            let file = self.relative(folder);
            self.problems.push(problem(&file, None, &format!("more than {DEPTH_MAX} folders deep")));
            return;
        }
        let (label, given) = match self.label(folder) {
            Some(own) if given => (own.join(above), true),
            Some(own) => (own, true),
            None => (above.clone(), given),
        };
        let shown = self.relative(folder);
        for path in entries(folder, &shown, self.problems) {
            let name = name_of(&path);
            if name.starts_with('.') || name == LABEL_FILE {
                continue;
            }
            if path.is_dir() {
                self.folder(&path, &label, given, depth + 1);
            } else {
                self.document(&path, &label);
            }
        }
    }

    fn label(&mut self, folder: &Path) -> Option<Label> {
        let path = folder.join(LABEL_FILE);
        let file = self.relative(&path);
        label_in(&path, &file, self.problems)
    }

    fn document(&mut self, path: &Path, label: &Label) {
        let file = self.relative(path);
        let content = match Kind::of(&file) {
            Ok(Kind::Binary) => read_bytes(&file, path),
            _ => read(&file, path).map(String::into_bytes),
        };
        let content = match content {
            Ok(content) => content,
            Err(problem) => return self.problems.push(problem),
        };
        self.found.push(Document {
            index: self.index.to_owned(),
            path: relative(self.root, path),
            file: path.to_owned(),
            digest: Digest::of(&content),
            label: label.clone(),
        });
    }

    fn relative(&self, path: &Path) -> String {
        format!("documents/{}/{}", self.index, relative(self.root, path)).trim_end_matches('/').to_owned()
    }
}

/// What is in a folder, by name; nothing when there is no such folder.
fn entries(folder: &Path, file: &str, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let read =
        || -> std::io::Result<Vec<PathBuf>> { std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    match read() {
        Ok(mut paths) => {
            paths.sort();
            paths
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems.push(problem(file, None, &format!("cannot be read: {error}")));
            Vec::new()
        }
    }
}

fn relative(root: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn problem(file: &str, line: Option<u32>, message: &str) -> Problem {
    Problem { file: file.to_owned(), line, column: None, field: String::new(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, bytes) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        dir
    }

    #[test]
    fn documents_carry_the_labels_of_their_folders_and_never_a_looser_one() {
        let dir = bundle(&[
            ("documents/manuals/press.md", b"# Press"),
            ("documents/staff/label.yaml", b"class: confidential\norigins: [CH]\npersonal: true\n"),
            ("documents/staff/shifts/a.txt", b"Anna"),
            ("documents/staff/shifts/label.yaml", b"class: public\n"),
            ("cases/cause.jsonl", b"{\"text\": \"fan stuck\", \"label\": \"cooling\"}\n\n"),
        ]);
        let content = Content::read(dir.path()).expect("valid");
        let labels: Vec<_> = content
            .documents
            .iter()
            .map(|d| (d.index.as_str(), d.path.as_str(), d.label.class, d.label.personal))
            .collect();
        assert_eq!(
            labels,
            [
                ("manuals", "press.md", DataClass::Internal, false),
                ("staff", "shifts/a.txt", DataClass::Confidential, true)
            ]
        );
        assert_eq!(content.cases["cause"].cases.len(), 1);
        assert_eq!(content.cases["cause"].label.class, DataClass::Internal, "what nobody labelled is not public");
        assert_eq!(Content::read(Path::new("/nowhere")), Ok(Content::default()));
    }

    #[test]
    fn a_set_of_cases_carries_its_own_label_and_that_of_its_folder() {
        let case = br#"{"text": "Ms A fell", "label": "fall"}"#;
        let dir = bundle(&[
            ("cases/label.yaml", b"class: confidential\norigins: [CH]\n"),
            ("cases/ward.jsonl", case),
            ("cases/ward.label.yaml", b"class: public\npersonal: true\n"),
            ("cases/line.jsonl", case),
        ]);
        let content = Content::read(dir.path()).expect("valid");
        let label = |set: &str| {
            let label = &content.cases[set].label;
            (label.class, label.personal, label.origins.len())
        };
        assert_eq!(label("ward"), (DataClass::Confidential, true, 1));
        assert_eq!(label("line"), (DataClass::Confidential, false, 1));
        let dir = bundle(&[("cases/ward.label.yaml", b"class: public\n")]);
        let wrong = Content::read(dir.path()).expect_err("a label of nothing").to_string();
        assert!(wrong.contains("expected cases/ward.jsonl beside it"), "{wrong}");
    }

    #[test]
    fn every_mistake_names_its_file_and_line() {
        let dir = bundle(&[
            ("documents/loose.md", b"x"),
            ("documents/manuals/scan.docx", b"%PDF"),
            ("documents/manuals/latin.txt", b"\xe4"),
            ("documents/manuals/label.yaml", b"class: public\nclas: secret\n"),
            ("cases/cause.jsonl", b"{\"text\": \"a\", \"label\": \"b\"}\n{\"txt\": 1}\n"),
        ]);
        let problems = Content::read(dir.path()).expect_err("mistakes").to_string();
        for expected in [
            "documents/loose.md: stands beside the indexes",
            "documents/manuals/scan.docx: is no document",
            "documents/manuals/latin.txt:1:1: is not UTF-8",
            "documents/manuals/label.yaml:2:1: clas: unknown field `clas`",
            "cases/cause.jsonl:2:6: txt: unknown field `txt`",
        ] {
            assert!(problems.contains(expected), "{problems}\n lacks {expected}");
        }
    }
}
