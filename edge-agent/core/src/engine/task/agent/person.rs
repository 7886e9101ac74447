//! A case that an agent gives to a person for good: who may take it, until when, and what their answer makes of the task.

use serde::Deserialize;
use serde_json::{Value, json};
use shared::{label::Label, time::Timestamp, workflow::definition::parse_iso8601};

use super::super::super::{
    agent::Usage,
    effect::Error,
    record::{FrameId, Record},
    turn::Turn,
};
use super::{super::call, Plan, agent, bounded, conclude, digest, fitting, tool::Case};

/// The function that asks a person.
const APPROVE: &str = "approve";

/// Whom an agent may give its case to, as its list of tools says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    /// The role of those who may answer.
    pub role: String,
    title: Option<String>,
    /// What the case is treated as from then on, and never as less than it was.
    label: Option<Label>,
    #[serde(default)]
    limits: Limits,
}

/// What a person takes of an agent's budget is time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    time: Option<String>,
}

impl Person {
    fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.limits.time.as_deref().and_then(|text| parse_iso8601(text).ok()).map(|time| now.plus(time))
    }
}

/// Gives the case away. `step` follows the task's place in the key of the question.
pub(super) fn hand_over(turn: &mut Turn, frame: FrameId, step: &str, case: Case<Person>) -> Result<(), Error> {
    let Case { to: person, case } = case;
    let agent = agent(turn, frame);
    let until = [person.until(turn.now), agent.until].into_iter().flatten().min();
    let plan = Plan::parse(&agent.with)?;
    let title = person.title.unwrap_or_else(|| format!("The agent {} hands its case over", plan.name));
    let shown = json!({"agent": plan.name, "goal": plan.goal, "case": case});
    let input = json!({"role": person.role, "title": title, "proposal": shown});
    let at = turn.now;
    turn.record(Record::AgentAskedPerson { frame, at, role: person.role, until, label: person.label });
    call::ask_for(turn, frame, step, APPROVE, input)
}

/// The person answered: their words are what the agent came to, if they fit its schema.
pub(super) fn answered(turn: &mut Turn, frame: FrameId, answer: Value) -> Result<(), Error> {
    let agent = agent(turn, frame);
    let Some(wanted) = agent.next_call() else { unreachable!("a person is asked by a tool call") };
    let (call, plan) = (digest(&wanted.name, &wanted.arguments), Plan::parse(&agent.with)?);
    let said = answer["comment"].as_str().unwrap_or_default().to_owned();
    turn.record(Record::ToolAnswered {
        frame,
        call,
        text: bounded(said.clone()),
        failed: false,
        usage: Usage::default(),
    });
    let output = fitting(&plan, &said).unwrap_or_default();
    conclude(turn, frame, "person", output, Some(answer));
    Ok(())
}
