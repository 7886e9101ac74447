//! Trying a run again from one of its tasks: a new run takes over what the old one remembers up to that task, and goes
//! on from there. What was done before it is not done again.

use std::sync::Arc;

use serde_json::{Map, Value};
use shared::{id::RunId, problem::near, time::Timestamp, workflow::Workflow};

use super::{effect::Call, record::Record, state::State};

/// Why a run cannot be tried again from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the workflow has no task {place}{hint}")]
    NoSuchTask { place: String, hint: String },
    #[error("the run has not entered the task {place}{hint}")]
    NotEntered { place: String, hint: String },
    #[error("several tasks of the run are called {name}: say which of {}", places.join(", "))]
    Ambiguous { name: String, places: Vec<String> },
    #[error("the run has not entered any task: start its workflow again")]
    NoTask,
}

/// The place of the task that is meant by `named`: a place as the history tells it, the JSON pointer of a task in the
/// workflow (then where the run entered it last), or the name of a task.
///
/// # Errors
/// When the run never entered such a task, or several have the name.
pub fn place(run: RunId, workflow: &Arc<Workflow>, records: &[Record], named: &str) -> Result<String, Error> {
    let places: Vec<String> = entered(run, workflow, records).into_iter().map(|(_, place)| place).collect();
    if places.is_empty() {
        return Err(Error::NoTask);
    }
    if places.iter().any(|place| place == named) {
        return Ok(named.to_owned());
    }
    if let Some(place) = places.iter().rev().find(|place| without_visits(place) == named) {
        return Ok(place.clone());
    }
    let mut same: Vec<String> = places.iter().filter(|place| name_of(place) == named).cloned().collect();
    same.dedup();
    if same.len() == 1 {
        return Ok(same.remove(0));
    }
    if !same.is_empty() {
        return Err(Error::Ambiguous { name: named.to_owned(), places: same });
    }
    let hint = near::hint(named, places.iter().map(String::as_str));
    let definition = serde_json::to_value(workflow.definition()).unwrap_or_default();
    let is_there = match named.starts_with('/') {
        true => named.starts_with("/do/") && definition.pointer(&without_visits(named)).is_some(),
        false => has_task(&definition, named),
    };
    let place = named.to_owned();
    Err(if is_there { Error::NotEntered { place, hint } } else { Error::NoSuchTask { place, hint } })
}

/// Whether a task of this name is in a list of tasks, at any depth: each entry is an object with its name as the only key.
fn has_task(definition: &Value, name: &str) -> bool {
    match definition {
        Value::Array(items) => items.iter().any(|item| {
            let is_it = |entry: &Map<String, Value>| entry.len() == 1 && entry.contains_key(name);
            item.as_object().is_some_and(is_it) || has_task(item, name)
        }),
        Value::Object(entries) => entries.values().any(|value| has_task(value, name)),
        _ => false,
    }
}

/// A place without the numbers of iterations and visits: the JSON pointer of its task.
fn without_visits(place: &str) -> String {
    let plain = |step: &str| {
        let end = step.rfind(['#', '@']).filter(|at| {
            let number = &step[at + 1..];
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        step[..end.unwrap_or(step.len())].to_owned()
    };
    place.split('/').map(plain).collect::<Vec<_>>().join("/")
}

fn name_of(place: &str) -> String {
    let plain = without_visits(place);
    plain.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~")
}

fn entered(run: RunId, workflow: &Arc<Workflow>, records: &[Record]) -> Vec<(usize, String)> {
    let mut state = State::new(run, Arc::clone(workflow));
    let mut entered = Vec::new();
    for (index, record) in records.iter().enumerate() {
        state.apply(record);
        if let Record::TaskStarted { frame, .. } = record {
            entered.push((index, state.frames[frame].place.clone()));
        }
    }
    entered
}

/// The records that the run `new` begins with to do again what the run `old` did from the task at `place` (as `place` tells
/// it) on. Effects that the old run still waited for keep their keys.
///
/// # Errors
/// When the old run never entered a task there.
pub fn records(
    old: RunId,
    new: RunId,
    workflow: &Arc<Workflow>,
    records: &[Record],
    place: &str,
    now: Timestamp,
) -> Result<Vec<Record>, Error> {
    let entered = entered(old, workflow, records);
    let Some((end, _)) = entered.iter().rev().find(|(_, known)| known == place) else {
        let hint = near::hint(place, entered.iter().map(|(_, place)| place.as_str()));
        return Err(Error::NotEntered { place: place.to_owned(), hint });
    };
    let mut kept: Vec<Record> = records[..*end].iter().map(|record| owned_by(new, record)).collect();
    let Record::TaskStarted { at, .. } = &records[*end] else { unreachable!("a task was entered here") };
    let pause_us = now.as_micros().saturating_sub(at.as_micros());
    kept.push(Record::Retried { at: now, of: old, from: place.to_owned(), pause_us });
    Ok(kept)
}

fn owned_by(run: RunId, record: &Record) -> Record {
    match record {
        Record::Asked { frame, ask, call } => {
            let call = Arc::new(Call { run, ..Call::clone(call) });
            Record::Asked { frame: *frame, ask: *ask, call }
        }
        other => other.clone(),
    }
}
