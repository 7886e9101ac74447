//! Trying a run again from one of its tasks: a new run takes over what the old one remembers up to that task, and goes
//! on from there. What was done before it is not done again.

use std::sync::Arc;

use shared::{id::RunId, time::Timestamp, workflow::Workflow};

use super::{effect::Call, record::Record, state::State};

/// Why a run cannot be tried again from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the run has not entered a task at {place}; it entered {known}")]
    UnknownPlace { place: String, known: String },
}

/// The places of the tasks that the records entered, in that order.
#[must_use]
pub fn places(run: RunId, workflow: &Arc<Workflow>, records: &[Record]) -> Vec<String> {
    entered(run, workflow, records).into_iter().map(|(_, place)| place).collect()
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

/// The records that the run `new` begins with to do again what the run `old` did from the task at `place` on. Effects
/// that the old run still waited for keep their keys.
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
        let known: Vec<&str> = entered.iter().map(|(_, place)| place.as_str()).collect();
        return Err(Error::UnknownPlace { place: place.to_owned(), known: known.join(", ") });
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
