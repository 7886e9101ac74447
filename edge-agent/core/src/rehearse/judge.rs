//! What came of a case, held against what was expected.

use serde_json::Value;
use shared::workflow::expression::{self, Expression};

use super::{
    case::{Case, Expect},
    drive::Played,
};
use crate::engine::{Ending, Phase, effect::Error, history::TaskStatus};

/// Differences of one value that are told.
const TOLD_MAX: usize = 20;

/// What differs, each in a line; nothing when the case holds.
#[must_use]
pub fn judge(case: &Case, played: &Played) -> Vec<String> {
    let Expect { path, visits, output, error, calls } = &case.expect;
    let mut wrong: Vec<String> = played.stuck.iter().cloned().collect();
    let entered = played.tasks.iter().filter(|task| task.status != TaskStatus::Skipped);
    let names: Vec<&str> = entered.map(|task| task.name.as_str()).collect();
    if let Some(path) = path
        && *path != names
    {
        wrong.push(format!("the path differs\n  expected: {}\n  got:      {}", path.join(" → "), names.join(" → ")));
    }
    if let Some(visits) = visits {
        let mut rest = names.iter();
        if let Some(missing) = visits.iter().find(|name| !rest.any(|got| got == name)) {
            let (visits, names) = (visits.join(" → "), names.join(" → "));
            wrong.push(format!("`{missing}` is not visited in this order\n  expected: {visits}\n  got:      {names}"));
        }
    }
    for (function, inputs) in calls {
        wrong.extend(compare_calls(function, inputs, played));
    }
    if played.stuck.is_none() {
        wrong.extend(compare_ending(output.as_ref(), error.as_deref(), &played.phase));
    }
    wrong
}

fn compare_calls(function: &str, expected: &[Value], played: &Played) -> Vec<String> {
    let got: Vec<&Value> = played.calls.iter().filter(|(name, _)| name == function).map(|(_, input)| input).collect();
    if got.len() != expected.len() {
        return vec![format!("`{function}` is called {} times: expected {}", got.len(), expected.len())];
    }
    let pairs = expected.iter().zip(got).enumerate();
    pairs
        .flat_map(|(index, (expected, got))| {
            let differences = differences(expected, got, Extra::Allowed);
            let first = format!("call {} of `{function}` differs", index + 1);
            (!differences.is_empty()).then(|| listed(&first, &differences))
        })
        .collect()
}

fn compare_ending(output: Option<&Value>, error: Option<&str>, phase: &Phase) -> Option<String> {
    match phase {
        Phase::Ended { ending: Ending::Faulted, error: Some(got), .. } => match error {
            Some(expected) if is_named(&got.kind, expected) => None,
            Some(expected) => Some(format!("the error differs\n  expected: {expected}\n  got:      {}", told(got))),
            None => Some(format!("the run failed\n  got:      {}", told(got))),
        },
        Phase::Ended { ending: Ending::Completed, output: got, .. } => {
            let got = got.as_deref().unwrap_or(&Value::Null);
            match (error, output) {
                (Some(expected), _) => {
                    Some(format!("the run came to a good end\n  expected: error {expected}\n  got:      {got}"))
                }
                (None, Some(expected)) => compare_output(expected, got),
                (None, None) => None,
            }
        }
        _ => Some("the run has not come to its end".to_owned()),
    }
}

fn compare_output(expected: &Value, got: &Value) -> Option<String> {
    let condition = expected.as_str().and_then(expression::body);
    let Some(condition) = condition else {
        let differences = differences(expected, got, Extra::Refused);
        return (!differences.is_empty()).then(|| listed("the output differs", &differences));
    };
    let holds = Expression::compile(condition)
        .map_err(|error| error.to_string())
        .and_then(|compiled| compiled.evaluate(got, &|_| None).map_err(|error| error.to_string()));
    match holds {
        Ok(Value::Bool(true)) => None,
        Ok(value) => Some(format!("of the output, `{condition}` is {value}: expected true\n  got:      {got}")),
        Err(error) => Some(format!("what is expected of the output cannot be evaluated: {error}\n  got:      {got}")),
    }
}

fn is_named(kind: &str, expected: &str) -> bool {
    kind == expected || kind.rsplit('/').next() == Some(expected)
}

fn told(error: &Error) -> String {
    let detail = error.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let place = error.instance.as_deref().map(|place| format!(", at {place}")).unwrap_or_default();
    format!("{} {}{detail}{place}", error.kind, error.status)
}

fn listed(first: &str, differences: &[String]) -> String {
    let more = differences.len().saturating_sub(TOLD_MAX);
    let mut lines: Vec<String> = differences.iter().take(TOLD_MAX).map(|line| format!("  {line}")).collect();
    lines.insert(0, first.to_owned());
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

/// Whether an object may have keys that were not expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    Allowed,
    Refused,
}

/// Where two values differ: a JSON pointer, what was expected there and what is there.
#[must_use]
pub fn differences(expected: &Value, got: &Value, extra: Extra) -> Vec<String> {
    let mut found = Vec::new();
    compare("", expected, got, extra, &mut found);
    found
}

fn compare(at: &str, expected: &Value, got: &Value, extra: Extra, found: &mut Vec<String>) {
    let place = if at.is_empty() { "/" } else { at };
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, expected) in expected {
                match got.get(key) {
                    Some(got) => compare(&format!("{at}/{key}"), expected, got, extra, found),
                    None => found.push(format!("{at}/{key}: expected {expected}, and it is not there")),
                }
            }
            let unexpected = got.iter().filter(|(key, _)| extra == Extra::Refused && !expected.contains_key(*key));
            found.extend(unexpected.map(|(key, got)| format!("{at}/{key}: not expected, and it is {got}")));
        }
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
            for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                compare(&format!("{at}/{index}"), expected, got, extra, found);
            }
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        (expected, got) if expected == got => {}
        (expected, got) => found.push(format!("{place}: expected {expected}, got {got}")),
    }
}
