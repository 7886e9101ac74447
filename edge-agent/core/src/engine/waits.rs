//! Why a run waits, in words for people. Nothing here quotes data: the words go wherever a run's status goes.

use serde_json::Value;
use shared::time::Timestamp;

use super::{
    RUN_WORKFLOW,
    agent::CHAT,
    effect::Call,
    record::FrameId,
    state::{Body, Frame, Progress, State, Task},
};

/// A run that waits for more names these and counts the rest.
const TOLD_MAX: usize = 4;

/// What an open run waits for, in one sentence; `None` when it waits for nothing.
#[must_use]
pub fn waits(state: &State) -> Option<String> {
    if state.suspended().is_some() {
        return Some("rests until somebody resumes it".to_owned());
    }
    let mut told: Vec<String> = Vec::new();
    for (id, frame, task) in state.tasks() {
        let Some(what) = of_task(state, frame, &task.progress) else { continue };
        let limit = deadline(state, id).map_or_else(String::new, |at| format!(", until {} at the longest", second(at)));
        let sentence = format!("{what}{limit}");
        if !told.contains(&sentence) {
            told.push(sentence);
        }
    }
    let more = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

fn of_task(state: &State, frame: &Frame, progress: &Progress) -> Option<String> {
    match progress {
        Progress::Asked { call, .. } => Some(of_call(call)),
        Progress::Waiting { until } => Some(format!("waits until {}", second(*until))),
        Progress::BackingOff { attempts, until } => {
            let failed = attempts.number + 1;
            let times = if failed == 1 { "once".to_owned() } else { format!("{failed} times") };
            Some(format!("failed {times} and is tried again at {}", second(*until)))
        }
        Progress::Listening(listening) if !listening.gathered.closed => {
            let interests = state.interests();
            let mut kinds: Vec<&str> =
                interests.iter().map(|interest| interest.kind.as_deref().unwrap_or("any type")).collect();
            kinds.dedup();
            let what = if kinds.is_empty() { String::new() } else { format!(" of {}", kinds.join(", ")) };
            Some(format!("listens for events{what}"))
        }
        Progress::Held(_) => Some(format!("has an outcome of {} that waits for the run to go on", frame.place)),
        _ => None,
    }
}

fn of_call(call: &Call) -> String {
    let text = |name: &str| call.input.get(name).and_then(Value::as_str);
    match call.function.as_str() {
        "approve" => format!("waits for {}", text("role").unwrap_or("a person")),
        RUN_WORKFLOW => {
            let name = [text("namespace"), text("name")].map(Option::unwrap_or_default).join("/");
            format!("waits for its run of {name}")
        }
        "infer" => "waits for a model: `infer` is asked and has no answer yet".to_owned(),
        CHAT => "waits for its agent's model".to_owned(),
        function => format!("waits for an answer: `{function}` is asked"),
    }
}

/// When the task, or what it stands in, times out.
fn deadline(state: &State, id: FrameId) -> Option<Timestamp> {
    let around = state.ancestors(id).filter_map(|(_, frame)| frame.deadline).chain(state.deadline);
    let agent = match &state.frames[&id].body {
        Body::Task(Task { agent: Some(agent), .. }) => agent.until,
        _ => None,
    };
    around.chain(agent).min()
}

/// To the second: finer is not for people.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_micros().div_euclid(1_000_000) * 1_000_000)
}
