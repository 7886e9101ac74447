//! What a bundle must hold to be taken. A node asks here before it changes anything, and the control plane before it signs,
//! so that what every node would refuse is refused at the push. What only a node can know (whether a model, broker or index
//! is there) is not asked.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};
use shared::{
    label::Label,
    policy::PolicySet,
    problem::{
        Problem, Problems, text_of,
        yaml::{Document, Side},
    },
    workflow::Workflow,
};

use crate::{engine::support, feed::Feeds, guard};

mod references;

/// Files that a person wrote (feeds, workflows, policies, labels, cases) are read whole; none comes near this.
pub const TEXT_BYTES_MAX: u64 = 4 << 20;
/// A document larger than this is refused: it would be a database dump, not a text for people.
pub const DOCUMENT_BYTES_MAX: u64 = 8 << 20;
/// The same for one with pictures in it.
pub const BINARY_BYTES_MAX: u64 = 32 << 20;
/// Documents of one bundle.
pub const DOCUMENTS_MAX: usize = 20_000;
/// Folders below one another; a loop of links ends here.
pub const DEPTH_MAX: usize = 16;
/// Cases of one set: each is compared with every text that is classified.
const CASES_MAX: usize = 20_000;
/// Mistakes told of one file; who made more made the same again.
const TOLD_MAX: usize = 20;

/// The file of a folder of documents or cases that says what they carry.
pub const LABEL_FILE: &str = "label.yaml";
/// What follows the name of a set of cases in the file that says what this set carries.
pub const CASES_LABEL: &str = ".label.yaml";
/// What follows the name of a workflow in the file of its cases.
pub const WORKFLOW_TEST: &str = ".test.yaml";

/// What a file of a bundle is, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Feeds,
    Workflow,
    /// Cases of the workflow beside them, for `edge-agent workflow test`; a node does nothing by them.
    WorkflowTest,
    Policy,
    /// A function that workflows call from a catalog.
    Function,
    /// A JSON schema that workflows name.
    Schema,
    /// What is checked under a name.
    Guard,
    Document,
    /// A document that is no text.
    Binary,
    Label,
    Cases,
}

impl Kind {
    /// What the file at this path is.
    ///
    /// # Errors
    /// When nothing reads a file there.
    pub fn of(path: &str) -> Result<Self, Problem> {
        let steps: Vec<&str> = path.split('/').collect();
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        // Documents come from people, whose programs may write the ends of names in capitals.
        let lower = extension.to_ascii_lowercase();
        let extension = if steps[0] == "documents" { lower.as_str() } else { extension };
        let refuse = |message: &str| Err(problem(path, None, message));
        match (steps.as_slice(), extension) {
            (["feeds.yaml"], _) => Ok(Self::Feeds),
            (["workflows", ..], "yaml") if path.ends_with(WORKFLOW_TEST) => Ok(Self::WorkflowTest),
            (["workflows", ..], "yaml") => Ok(Self::Workflow),
            (["workflows", ..], _) => refuse("is no workflow: expected a file that ends with .yaml"),
            (["policies", ..], "cedar") => Ok(Self::Policy),
            (["policies", ..], _) => refuse("is no policy: expected a file that ends with .cedar"),
            (["catalogs", ..], "yaml" | "yml") => Ok(Self::Function),
            (["catalogs", ..], _) => refuse("is no function: expected a file that ends with .yaml"),
            (["schemas", ..], "json" | "yaml" | "yml") => Ok(Self::Schema),
            (["schemas", ..], _) => refuse("is no schema: expected a file that ends with .json or .yaml"),
            (["guards", _], "yaml" | "yml") => Ok(Self::Guard),
            (["guards", ..], _) => refuse("is no guard: expected guards/<name>.yaml"),
            (["cases", _], "jsonl") => Ok(Self::Cases),
            (["cases", name], _) if *name == LABEL_FILE || name.ends_with(CASES_LABEL) => Ok(Self::Label),
            (["cases", ..], _) => refuse("is no set of cases: expected cases/<name>.jsonl"),
            (["documents", _], _) => refuse("stands beside the indexes: expected documents/<index>/"),
            (["documents", .., LABEL_FILE], _) => Ok(Self::Label),
            (["documents", folders @ ..], _) if folders.len() > DEPTH_MAX + 2 => {
                refuse("stands too deep: expected at most 16 folders below its index")
            }
            (["documents", ..], "md" | "txt" | "html" | "htm" | "csv") => Ok(Self::Document),
            (["documents", ..], "pdf") => Ok(Self::Binary),
            (["documents", ..], _) => {
                refuse("is no document: expected a file that ends with .md, .txt, .html, .pdf or .csv")
            }
            _ => refuse(
                "is not part of a bundle: expected feeds.yaml, workflows/, catalogs/, schemas/, policies/, guards/, documents/ or cases/",
            ),
        }
    }

    /// How long such a file may be, in bytes.
    #[must_use]
    pub const fn bytes_max(self) -> u64 {
        match self {
            Self::Document => DOCUMENT_BYTES_MAX,
            Self::Binary => BINARY_BYTES_MAX,
            _ => TEXT_BYTES_MAX,
        }
    }

    /// Whether a file of so many bytes is short enough.
    ///
    /// # Errors
    /// When it is not.
    pub fn admit(self, path: &str, bytes: u64) -> Result<(), Problem> {
        let most = self.bytes_max();
        if bytes <= most {
            return Ok(());
        }
        Err(problem(path, None, &format!("has {bytes} bytes: expected at most {most}")))
    }
}

/// What a node does by.
#[derive(Debug, Default)]
pub struct Rules {
    pub feeds: Feeds,
    pub workflows: Vec<Arc<Workflow>>,
    /// `None` when the bundle brings no policy.
    pub policies: Option<PolicySet>,
    pub guards: guard::policy::Policies,
}

impl Rules {
    /// Reads feeds, workflows and policies, by path; files of other kinds are left aside.
    ///
    /// # Errors
    /// Every mistake in every file.
    pub fn read(texts: &[(String, String)]) -> Result<Self, Problems> {
        let (mut rules, mut problems) = (Self::default(), Vec::new());
        let (mut policies, mut named) = (Vec::new(), BTreeMap::new());
        for (path, text) in texts {
            let read = match Kind::of(path) {
                Ok(Kind::Feeds) => Feeds::parse(path, text).map(|feeds| rules.feeds = feeds),
                Ok(Kind::Workflow) => {
                    workflow(path, text, texts, &mut named).map(|workflow| rules.workflows.push(workflow))
                }
                Ok(Kind::Guard) => guard::policy::Policy::parse(path, text)
                    .map(|policy| drop(rules.guards.insert(stem(path).to_owned(), policy)))
                    .map_err(|problem| Problems(vec![problem])),
                Ok(Kind::Policy) => {
                    policies.push((path.clone(), text.clone()));
                    Ok(())
                }
                _ => Ok(()),
            };
            problems.extend(read.err().into_iter().flat_map(|found| found.0));
        }
        if !policies.is_empty() {
            // Rules are read together: their names must differ over all files.
            match PolicySet::parse(&policies) {
                Ok(set) => rules.policies = Some(set),
                Err(found) => problems.extend(found.0),
            }
        }
        problems.extend(references::unknown(&rules, &named, texts));
        if problems.is_empty() { Ok(rules) } else { Err(Problems(problems)) }
    }
}

/// The name of a file without folder and ending.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// One workflow that this engine performs, and whose name no other has: which of two an event starts would be chance.
fn workflow(
    path: &str,
    text: &str,
    texts: &[(String, String)],
    named: &mut BTreeMap<String, String>,
) -> Result<Arc<Workflow>, Problems> {
    let read = |wanted: &str| texts.iter().find(|(path, _)| path == wanted).map(|(_, text)| text.clone());
    let workflow = support::read(path, text, &read)?;
    let name = workflow.definition().qualified_name();
    if let Some(first) = named.insert(name.clone(), path.to_owned()) {
        let message = format!(
            "a second workflow is called {name} (the first is in {first}): expected one of each namespace and name"
        );
        let place = ["document".to_owned(), "name".to_owned()];
        let problem = Document::read(path, text).map(|document| document.problem(&place, Side::Value, message));
        return Err(Problems(vec![problem.unwrap_or_else(|problem| problem)]));
    }
    Ok(Arc::new(workflow))
}

/// A file's bytes as text.
///
/// # Errors
/// When they are not UTF-8, with the place where they stop being it.
pub fn text<'a>(path: &str, content: &'a [u8]) -> Result<&'a str, Problem> {
    text_of(content).map_err(|(line, column)| Problem {
        column: Some(column),
        ..problem(path, Some(line), "is not UTF-8 text from here on: expected a file saved as UTF-8")
    })
}

/// Says which of these files, `cases/<name>.label.yaml`, label a set that is not there: a slip that would leave a set with a
/// looser label than was meant.
pub fn orphans<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Vec<Problem> {
    let orphan = |path: &str| {
        let set = path.strip_prefix("cases/")?.strip_suffix(CASES_LABEL)?;
        let expected = format!("cases/{set}.jsonl");
        let is_there = paths.clone().any(|other| other == expected);
        (!is_there).then(|| problem(path, None, &format!("labels no set: expected {expected} beside it")))
    };
    paths.clone().filter_map(orphan).collect()
}

/// What a folder of documents or cases carries, or one set of cases.
///
/// # Errors
/// When it is not a label.
pub fn label(path: &str, text: &str) -> Result<Label, Problem> {
    Document::read(path, text).and_then(|document| document.part(&[])).map_err(|mut problem: Problem| {
        problem.message.push_str("; a label has class, origins and personal");
        problem
    })
}

/// A set of labelled cases, one `{"text", "label"}` a line; `T` is the form that the caller wants them in.
///
/// # Errors
/// Each line that is not one.
pub fn cases<T: DeserializeOwned>(path: &str, text: &str) -> Result<Vec<T>, Problems> {
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(case) => cases.push(case),
            Err(error) if problems.len() < TOLD_MAX => {
                problems.push(wrong_case(path, number, line, &error));
            }
            Err(_) => {}
        }
    }
    if cases.is_empty() && problems.is_empty() {
        problems.push(problem(path, None, "holds no case: expected at least one line"));
    }
    if cases.len() > CASES_MAX {
        problems.push(problem(path, None, &format!("has {} cases: expected at most {CASES_MAX}", cases.len())));
    }
    if problems.is_empty() { Ok(cases) } else { Err(Problems(problems)) }
}

/// The problem with a line that is no case.
fn wrong_case(path: &str, number: u32, line: &str, error: &serde_json::Error) -> Problem {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[serde(rename = "text")]
        _text: String,
        #[serde(rename = "label")]
        _label: String,
    }
    // Read once more, by a reader that knows in which field it is.
    let again = serde_path_to_error::deserialize::<_, Shape>(&mut serde_json::Deserializer::from_str(line));
    let field = again.err().map(|error| error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
    let message = error.to_string();
    let message = message.rfind(" at line ").map_or(message.as_str(), |end| &message[..end]);
    let message = format!("{message}; expected {{\"text\": .., \"label\": ..}}");
    Problem { column: u32::try_from(error.column()).ok(), field, ..problem(path, Some(number), &message) }
}

/// Checks a bundle file by file, so that only one document needs to be in memory.
#[derive(Debug, Default)]
pub struct Check {
    texts: Vec<(String, String)>,
    documents: usize,
    /// The paths under `cases/`.
    cases: Vec<String>,
    problems: Vec<Problem>,
}

impl Check {
    /// Whether the content of a file of this path and length has to be looked at; if it cannot be part of a bundle, that is
    /// noted.
    pub fn admit(&mut self, path: &str, bytes: u64) -> bool {
        let admitted = Kind::of(path).and_then(|kind| kind.admit(path, bytes));
        admitted.map_err(|problem| self.problems.push(problem)).is_ok()
    }

    /// Looks at the content of an admitted file.
    pub fn look(&mut self, path: &str, content: &[u8]) {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Case {
            #[serde(rename = "text")]
            _text: String,
            #[serde(rename = "label")]
            _label: String,
        }
        if path.starts_with("cases/") {
            self.cases.push(path.to_owned());
        }
        let kind = Kind::of(path);
        if matches!(kind, Ok(Kind::Binary)) {
            self.documents += 1;
            return;
        }
        let text = match text(path, content) {
            Ok(text) => text,
            Err(problem) => return self.problems.push(problem),
        };
        match kind {
            Ok(Kind::Feeds | Kind::Workflow | Kind::Policy | Kind::Guard | Kind::Function | Kind::Schema) => {
                self.texts.push((path.to_owned(), text.to_owned()));
            }
            Ok(Kind::WorkflowTest) => {}
            Ok(Kind::Document | Kind::Binary) => self.documents += 1,
            Ok(Kind::Label) => self.problems.extend(label(path, text).err()),
            Ok(Kind::Cases) => {
                let found = cases::<Case>(path, text).err();
                self.problems.extend(found.into_iter().flat_map(|found| found.0));
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    /// Whether the bundle is good. Compiling policies and expressions takes a while.
    ///
    /// # Errors
    /// Every mistake that was found, by file.
    pub fn finish(mut self) -> Result<(), Problems> {
        if let Err(Problems(found)) = Rules::read(&self.texts) {
            self.problems.extend(found);
        }
        self.problems.extend(orphans(self.cases.iter().map(String::as_str)));
        if self.documents > DOCUMENTS_MAX {
            let message = format!("holds {} documents: expected at most {DOCUMENTS_MAX}", self.documents);
            self.problems.push(problem("documents", None, &message));
        }
        self.problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }
}

fn problem(file: &str, line: Option<u32>, message: &str) -> Problem {
    Problem { file: file.to_owned(), line, column: None, field: String::new(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "document: { dsl: 1.0.3, namespace: plant, name: NAME, version: 0.1.0 }\ndo:\n";

    #[test]
    fn names_that_stand_for_nothing_are_told_with_their_place() {
        let first = HEAD.replace("NAME", "first");
        let tasks = "- each: { for: { in: '${ . }' }, do: [ { run: { run: { workflow: { namespace: plant, name: secnd, version: latest } } } } ] }\n\
            - check: { call: guard, with: { content: '${ . }', policy: site } }\n\
            - think: { call: agent, with: { name: a, goal: g, tools: [ { workflow: plant/third } ] } }\n";
        let second = format!("{}- s: {{ set: {{ a: 1 }} }}\n", HEAD.replace("NAME", "second"));
        let first = format!("{first}{tasks}");
        let files: Vec<(&str, &[u8])> =
            vec![("workflows/first.yaml", first.as_bytes()), ("workflows/second.yaml", second.as_bytes())];
        let told = said(&files);
        for wanted in [
            "workflows/first.yaml:3:92: do[0].each.do[0].run.run.workflow.name: the bundle has no workflow plant/secnd: expected one of plant/first, plant/second",
            "workflows/first.yaml:4:60: do[1].check.with.policy: \"site\" is no guard: expected a file guards/site.yaml; there is []",
            "do[2].think.with.tools[0].workflow: the bundle has no workflow plant/third",
        ] {
            assert!(told.contains(wanted), "{told}");
        }
        let mended = first.replace("secnd", "second").replace("third", "second");
        let files: Vec<(&str, &[u8])> = vec![
            ("workflows/first.yaml", mended.as_bytes()),
            ("workflows/second.yaml", second.as_bytes()),
            ("guards/site.yaml", b"onFinding: refuse"),
        ];
        assert_eq!(said(&files), "good");
    }

    fn said(files: &[(&str, &[u8])]) -> String {
        let mut check = Check::default();
        for (path, content) in files {
            if check.admit(path, content.len() as u64) {
                check.look(path, content);
            }
        }
        check.finish().map_or_else(|problems| problems.to_string(), |()| "good".to_owned())
    }

    const FEED: &str =
        "feeds:\n  - name: t\n    topic: a/+\n    decode: { device: 'topic[1]', channel: { constant: c } }\n";
    const WORKFLOW: &str =
        "document: { dsl: '1.0.3', namespace: plant, name: a, version: '1.0.0' }\ndo:\n  - one: { set: { x: 1 } }\n";

    #[test]
    fn a_broken_file_is_named_with_line_field_and_what_was_expected() {
        let unknown = FEED.replace("topic:", "topik:");
        let detector = format!("{FEED}    detectors: [{{ name: d, kind: limits }}]\n");
        let learned = |more: &str| format!("{FEED}    detectors: [{{ name: d, kind: learned{more} }}]\n");
        let (stepless, fallback) = (learned(""), learned(", step: 5m, fallback: { kind: robust, length: 2 }"));
        let call = WORKFLOW.replace("set: { x: 1 }", "call: publsh");
        for (path, content, told) in [
            ("feeds.yaml", FEED.as_bytes(), "good"),
            ("documents/manuals/press.md", b"# Press", "good"),
            ("documents/manuals/a/label.yaml", b"class: internal\n", "good"),
            ("workflows/a.yaml", WORKFLOW.as_bytes(), "good"),
            (
                "feeds.yaml",
                unknown.as_bytes(),
                "feeds.yaml:3:5: feeds[0].topik: unknown field `topik`, expected one of",
            ),
            ("feeds.yaml", detector.as_bytes(), "feeds.yaml:5:17: feeds[0].detectors[0]: limits need `low` or `high`"),
            ("feeds.yaml", stepless.as_bytes(), "detectors[0].step: a learned detector needs one, such as 5m"),
            (
                "feeds.yaml",
                fallback.as_bytes(),
                "feeds[0].detectors[0].fallback.length: 2 is out of range: expected 8 to 1024 values",
            ),
            ("feeds.yaml", b"a: 1\nb: [", "feeds.yaml:"),
            ("feeds.yaml", b"a: 1\n\xff", "feeds.yaml:2:1: is not UTF-8 text from here on"),
            (
                "workflows/a.yaml",
                call.as_bytes(),
                "workflows/a.yaml:3:18: /do/0/one/call: there is no function `publsh`: expected one of",
            ),
            ("workflows/a.yaml", b"do: nothing", "workflows/a.yaml:"),
            ("workflows/a.test.yaml", b"- name: one", "good"),
            ("workflows/a.yml", b"x", "workflows/a.yml: is no workflow: expected a file that ends with .yaml"),
            ("policies/a.cedar", b"permit (principal", "policies/a.cedar:1"),
            ("notes.txt", b"x", "notes.txt: is not part of a bundle: expected feeds.yaml,"),
            ("documents/loose.md", b"x", "documents/loose.md: stands beside the indexes: expected documents/<index>/"),
            (
                "documents/m/scan.docx",
                b"x",
                "documents/m/scan.docx: is no document: expected a file that ends with .md, .txt, .html, .pdf or .csv",
            ),
            ("documents/m/LOUD.TXT", b"a\n\xe4", "documents/m/LOUD.TXT:2:1: is not UTF-8 text"),
            ("documents/m/latin.txt", b"a\n\xe4", "documents/m/latin.txt:2:1: is not UTF-8 text"),
            ("documents/m/label.yaml", b"class: secret", "documents/m/label.yaml:1:8: class: unknown variant `secret`"),
            ("cases/c.jsonl", b"{\"text\":\"a\",\"label\":\"b\"}\n{}", "cases/c.jsonl:2:2: missing field `text`"),
            ("cases/c.jsonl", b"\n", "cases/c.jsonl: holds no case"),
            ("cases/label.yaml", b"class: internal\n", "good"),
            ("cases/c.label.yaml", b"class: secret", "cases/c.label.yaml:1"),
            ("cases/c.label.yaml", b"class: internal\n", "cases/c.label.yaml: labels no set: expected cases/c.jsonl"),
        ] {
            let found = said(&[(path, content)]);
            assert!(found.contains(told), "{path}: expected {told:?}, said {found:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        for (path, bytes, told) in [
            (
                "documents/m/a.md",
                DOCUMENT_BYTES_MAX + 1,
                "documents/m/a.md: has 8388609 bytes: expected at most 8388608",
            ),
            ("feeds.yaml", TEXT_BYTES_MAX + 1, "feeds.yaml: has 4194305 bytes: expected at most 4194304"),
        ] {
            let mut check = Check::default();
            assert!(!check.admit(path, bytes));
            assert_eq!(check.finish().expect_err("refused").to_string(), told);
        }
    }

    #[test]
    fn two_workflows_of_one_name_are_refused() {
        let told = said(&[("workflows/a.yaml", WORKFLOW.as_bytes()), ("workflows/b.yaml", WORKFLOW.as_bytes())]);
        assert!(told.contains("workflows/b.yaml:1:51: document.name: a second workflow is called plant/a"), "{told}");
    }
}
