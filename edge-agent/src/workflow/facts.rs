//! What the ledger says of a step.

use edge_core::engine::{
    Effect, Ending, Record, State, Step,
    effect::{Error, Keep},
};
use serde_json::Value;
use shared::{
    digest::{Digest, canonical_json},
    ledger::entry::{Entry, Fact},
    time::Timestamp,
};

/// What a run's beginning says beyond its records.
pub(super) struct Origin {
    pub workflow: String,
    pub version: String,
    pub bundle: Digest,
    pub trigger: String,
}

/// The entries of a step's records and emitted events, in order. `before` is the state that the step was decided on.
pub(super) fn of_step(before: &State, step: &Step, origin: &Origin, keep: Keep, now: Timestamp) -> Vec<Entry> {
    let run = before.run;
    // Followed only for agents: who acted stands in no record.
    let mut reached = step.records.iter().any(|record| record.agents_task().is_some()).then(|| before.clone());
    let mut entries = Vec::new();
    for (record, reference) in step.records.iter().zip(&step.references) {
        let mut task = reference.clone();
        let fact = match record {
            Record::Started { label, .. } => Some(Fact::RunStarted {
                workflow: origin.workflow.clone(),
                version: origin.version.clone(),
                bundle: origin.bundle,
                trigger: origin.trigger.clone(),
                label: label.clone(),
            }),
            Record::TaskSkipped { .. } => Some(ended("skipped", &Value::Null, keep)),
            Record::TaskEnded { output, .. } => Some(ended("completed", output, keep)),
            Record::TaskFaulted { error, .. } => Some(ended("faulted", &error.to_value(), keep)),
            Record::Ended { ending, output, error, .. } => {
                let content = error.as_ref().map(Error::to_value);
                let content = content.as_ref().or(output.as_deref()).unwrap_or(&Value::Null);
                let status = ending_word(*ending).to_owned();
                Some(Fact::RunEnded { status, output: keep.content(&canonical_json(content)) })
            }
            record => reached.as_ref().and_then(|before| {
                task = before.reference(record.agents_task()?);
                agent_acted(before, record, keep)
            }),
        };
        entries.extend(fact.map(|fact| Entry { at: now, run: Some(run), task, fact }));
        if let Some(reached) = &mut reached {
            reached.apply(record);
        }
    }
    entries.extend(step.effects.iter().filter_map(|effect| match effect {
        Effect::Emit { task, event, .. } => {
            let content = serde_json::to_value(event).expect("an event is plain data");
            let fact = Fact::EventEmitted {
                event: event.id.clone(),
                kind: event.kind.clone(),
                content: keep.content(&canonical_json(&content)),
            };
            Some(Entry { at: now, run: Some(run), task: Some(task.clone()), fact })
        }
        Effect::Call { .. } | Effect::Withdraw { .. } => None,
    }));
    entries
}

/// What an agent did by this record; `before` is the state that the record comes to.
fn agent_acted(before: &State, record: &Record, keep: Keep) -> Option<Fact> {
    let frame = record.agents_task()?;
    let mut after = before.clone();
    after.apply(record);
    // Who hands over is the one who acted, not the one who goes on.
    let agent = before.agent(frame).or_else(|| after.agent(frame))?;
    let goal = |with: &Value| with.get("goal").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (act, of, text) = match record {
        Record::AgentBegan { with, .. } => ("began", None, goal(with)),
        Record::AgentHandedOver { with, .. } => ("handed-over", after.agent(frame).map(|next| next.name), goal(with)),
        Record::AgentAskedPerson { role, .. } => ("asked", Some(role.clone()), String::new()),
        Record::AgentTurned { said, .. } => {
            let said = serde_json::to_value(said).expect("what was said is plain data");
            ("turned", None, canonical_json(&said))
        }
        Record::ToolAnswered { text, failed, .. } => {
            (if *failed { "failed" } else { "called" }, before.agent_wants(frame), text.clone())
        }
        Record::ToolDropped { name, why, .. } => ("failed", Some(name.clone()), why.clone()),
        _ => return None,
    };
    let (agent, owner) = (agent.name, agent.owner);
    Some(Fact::AgentActed { agent, owner, act: act.to_owned(), of, content: keep.content(&text) })
}

fn ended(status: &str, output: &Value, keep: Keep) -> Fact {
    Fact::TaskEnded { status: status.to_owned(), output: keep.content(&canonical_json(output)) }
}

/// The DSL's word for how a run ended.
pub(super) fn ending_word(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Faulted => "faulted",
        Ending::Cancelled => "cancelled",
    }
}
