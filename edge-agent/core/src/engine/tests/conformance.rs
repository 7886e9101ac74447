//! The scenarios of the specification's conformance kit (`ctk/features` of the Open Workflow Specification), read from
//! the feature files as they are. Those that call an HTTP service are for the tests over a whole agent.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::*;

/// Where the kit lies: `SKERRY_OPEN_WORKFLOW`, or beside the checkout.
fn features() -> Option<PathBuf> {
    let named = std::env::var_os("SKERRY_OPEN_WORKFLOW").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/open-workflow");
    named.into_iter().chain([beside]).map(|kit| kit.join("ctk/features")).find(|dir| dir.is_dir())
}

/// `Scenario: title`, its steps in order, each with the text block below it.
#[derive(Default)]
struct Scenario {
    title: String,
    steps: Vec<(String, String)>,
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

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// Plays a scenario; `Err` says which step did not hold.
fn play(scenario: &Scenario) -> Result<(), String> {
    let block = |name: &str| scenario.steps.iter().find(|(step, _)| step.starts_with(name)).map(|(_, block)| block);
    let definition = block("a workflow with definition").ok_or("no definition")?;
    let input = block("the workflow input is").map_or_else(|| json!({}), |text| yaml(text));
    let run = Driven::start(definition, input);
    let views = history::tasks(&run.records);
    let first = views.first().map(|view| view.name.as_str());
    let last = views.last().map(|view| view.name.as_str());
    for (step, block) in &scenario.steps {
        let quoted: Vec<&str> = step.split('\'').skip(1).step_by(2).collect();
        let place = |name: &str| views.iter().position(|view| view.name == name);
        let holds = match step.as_str() {
            text if text.starts_with("a workflow with") || text.starts_with("the workflow input") => true,
            "the workflow is executed" => !run.is_running(),
            "the workflow should complete" => {
                matches!(run.state.phase(), Phase::Ended { ending: Ending::Completed, .. })
            }
            "the workflow should fault" => matches!(run.state.phase(), Phase::Ended { ending: Ending::Faulted, .. }),
            "the workflow should complete with output:" => run.output() == yaml(block),
            "the workflow should fault with error:" => includes(&run.error().to_value(), &yaml(block)),
            text if text.starts_with("the workflow output should have properties") => {
                quoted.iter().all(|path| at(&run.output(), path).is_some())
            }
            text if text.contains("property containing") => {
                let count = text.split_whitespace().rev().nth(1).and_then(|n| n.parse::<usize>().ok());
                at(&run.output(), quoted[0]).and_then(|found| found.as_array().map(Vec::len)) == count
            }
            text if text.contains("property with value:") => at(&run.output(), quoted[0]) == Some(yaml(block)),
            text if text.ends_with("should run first") => text.split(' ').next() == first,
            text if text.ends_with("should run last") => text.split(' ').next() == last,
            text => match text.split_once(" should run after ") {
                Some((later, earlier)) => place(later).is_some() && place(later) > place(earlier),
                None => return Err(format!("the step {text:?} is not known")),
            },
        };
        if !holds {
            return Err(format!("{step}\n{block}found {:?}", run.state.phase()));
        }
    }
    Ok(())
}

fn at(value: &Value, path: &str) -> Option<Value> {
    path.split('.').try_fold(value, |value, name| value.get(name)).cloned()
}

fn includes(found: &Value, wanted: &Value) -> bool {
    wanted.as_object().is_some_and(|wanted| wanted.iter().all(|(name, value)| found.get(name) == Some(value)))
}

#[test]
fn the_scenarios_that_need_no_service_hold() {
    let Some(dir) = features() else {
        eprintln!("skipped: there is no conformance kit; name its folder in SKERRY_OPEN_WORKFLOW");
        return;
    };
    let (mut held, mut elsewhere, mut broken) = (0, 0, Vec::new());
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("the kit is readable").map(|f| f.expect("a file").path()).collect();
    files.sort();
    for file in files {
        for scenario in read(&std::fs::read_to_string(&file).expect("a feature file is text")) {
            if scenario.steps.iter().any(|(_, block)| block.contains("call: http") || block.contains("call: openapi")) {
                elsewhere += 1;
                continue;
            }
            match play(&scenario) {
                Ok(()) => held += 1,
                Err(why) => broken.push(format!("{}: {}: {why}", file.display(), scenario.title)),
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    assert!(held >= 12, "only {held} scenarios were found, and {elsewhere} that need a service");
}
