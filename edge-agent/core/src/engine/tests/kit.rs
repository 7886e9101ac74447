//! The specification's conformance kit (`ctk/features` of the Open Workflow Specification): its feature files as they are,
//! and what their steps say of a run.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// `Scenario: title`, its steps in order, each with the text block below it.
#[derive(Default)]
pub(crate) struct Scenario {
    /// With the name of its file in front.
    pub title: String,
    pub steps: Vec<(String, String)>,
}

/// What a run came to.
pub(crate) struct Played {
    /// The names of the tasks in the order in which they began.
    pub tasks: Vec<String>,
    /// The output, or the error that it faulted with.
    pub outcome: Result<Value, Value>,
}

/// Every scenario of the kit, which lies beside the checkout or where `SKERRY_OPEN_WORKFLOW` says; `None`, said on the
/// terminal, where there is none.
pub(crate) fn scenarios() -> Option<Vec<Scenario>> {
    let dir = folder("ctk/features")?;
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("the kit is readable").map(|f| f.expect("a file").path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_file = read(&std::fs::read_to_string(&file).expect("a feature file is text"));
        all.extend(of_file.into_iter().map(|s| Scenario { title: format!("{name}: {}", s.title), ..s }));
    }
    Some(all)
}

/// A folder of the kit; `None`, said on the terminal, where there is none.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("SKERRY_OPEN_WORKFLOW").map(PathBuf::from);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = ["../../shared", "../../../shared"].map(|up| here.join(up).join("suites/open-workflow"));
    let found = named.into_iter().chain(beside).map(|kit| kit.join(name)).find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("skipped: there is no conformance kit; name its folder in SKERRY_OPEN_WORKFLOW");
    }
    found
}

/// Reads as much of Gherkin as the kit uses: scenarios, steps, text blocks in `"""`, comments.
fn read(feature: &str) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut lines = feature.lines();
    while let Some(line) = lines.next() {
        let text = line.trim();
        if let Some(title) = text.strip_prefix("Scenario:") {
            scenarios.push(Scenario { title: title.trim().to_owned(), steps: Vec::new() });
        } else if text.starts_with("\"\"\"") {
            let indent = line.len() - line.trim_start().len();
            let mut block = String::new();
            for line in lines.by_ref().take_while(|line| !line.trim().starts_with("\"\"\"")) {
                let cut = line.len().min(indent).min(line.len() - line.trim_start().len());
                writeln!(block, "{}", &line[cut..]).expect("a string takes text");
            }
            let step = scenarios.last_mut().and_then(|scenario| scenario.steps.last_mut());
            step.expect("a text block follows a step").1 = block;
        } else if let Some(step) = ["Given ", "When ", "Then ", "And "].iter().find_map(|word| text.strip_prefix(word))
        {
            if let Some(scenario) = scenarios.last_mut() {
                scenario.steps.push((step.trim_start_matches("given ").to_owned(), String::new()));
            }
        } else if !text.starts_with('#') && text.contains(" should run ") {
            let scenario = scenarios.last_mut().expect("a step stands in a scenario");
            scenario.steps.push((text.to_owned(), String::new()));
        }
    }
    scenarios
}

impl Scenario {
    fn block(&self, name: &str) -> Option<&str> {
        self.steps.iter().find(|(step, _)| step.starts_with(name)).map(|(_, block)| block.as_str())
    }

    pub fn definition(&self) -> &str {
        self.block("a workflow with definition").expect("a scenario has a workflow")
    }

    pub fn input(&self) -> Value {
        self.block("the workflow input is").map_or_else(|| json!({}), yaml)
    }

    /// `Err` says which step does not hold of the run.
    pub fn judge(&self, played: &Played) -> Result<(), String> {
        for (step, block) in &self.steps {
            if !holds(step, block, played)? {
                return Err(format!("{}: {step}\n{block}found {:?}", self.title, played.outcome));
            }
        }
        Ok(())
    }
}

fn holds(step: &str, block: &str, played: &Played) -> Result<bool, String> {
    let quoted: Vec<&str> = step.split('\'').skip(1).step_by(2).collect();
    let place = |name: &str| played.tasks.iter().position(|task| task == name);
    let output = played.outcome.as_ref().ok();
    let found = |path: &str| at(output?, path);
    let edge = |task: Option<&String>| task.is_some_and(|task| step.split(' ').next() == Some(task.as_str()));
    Ok(match step {
        text if text.starts_with("a workflow with") || text.starts_with("the workflow input") => true,
        "the workflow is executed" => true,
        "the workflow should complete" => output.is_some(),
        "the workflow should fault" => output.is_none(),
        "the workflow should complete with output:" => output == Some(&yaml(block)),
        "the workflow should fault with error:" => {
            played.outcome.as_ref().err().is_some_and(|error| includes(error, &yaml(block)))
        }
        text if text.starts_with("the workflow output should have properties") => {
            quoted.iter().all(|path| found(path).is_some())
        }
        text if text.contains("property containing") => {
            let count = text.split_whitespace().rev().nth(1).and_then(|n| n.parse::<usize>().ok());
            found(quoted[0]).and_then(|found| found.as_array().map(Vec::len)) == count
        }
        text if text.contains("property with value:") => found(quoted[0]) == Some(yaml(block)),
        text if text.ends_with("should run first") => edge(played.tasks.first()),
        text if text.ends_with("should run last") => edge(played.tasks.last()),
        text => match text.split_once(" should run after ") {
            Some((later, earlier)) => place(later).is_some() && place(later) > place(earlier),
            None => return Err(format!("the step {text:?} is not known")),
        },
    })
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

fn at(value: &Value, path: &str) -> Option<Value> {
    path.split('.').try_fold(value, |value, name| value.get(name)).cloned()
}

fn includes(found: &Value, wanted: &Value) -> bool {
    wanted.as_object().is_some_and(|wanted| wanted.iter().all(|(name, value)| found.get(name) == Some(value)))
}
