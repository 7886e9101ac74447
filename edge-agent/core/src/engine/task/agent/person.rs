//! A case that an agent gives to a person for good: who may take it, until when, and what their answer makes of the task.

use serde::Deserialize;
use serde_json::{Value, json};
use shared::{label::Label, time::Timestamp, workflow::definition::parse_iso8601};

use super::super::super::{
    agent::Usage,
    effect::{Error, kind},
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

impl Limits {
    fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.time.as_deref().and_then(|text| parse_iso8601(text).ok()).map(|time| now.plus(time))
    }
}

/// Asks the person to take the case. `step` follows the task's place in the key of the question.
pub(super) fn hand_over(
    turn: &mut Turn,
    frame: FrameId,
    plan: &Plan,
    step: &str,
    case: Case<Person>,
) -> Result<(), Error> {
    let Case { to: Person { role, title, label, limits }, case } = case;
    let until = [limits.until(turn.now), agent(turn, frame).until].into_iter().flatten().min();
    let title = title.unwrap_or_else(|| format!("The agent {} hands its case over", plan.name));
    let mut shown = json!({"agent": plan.name, "goal": plan.goal, "case": case});
    shown["answer"] = match &plan.schema {
        None => "the comment becomes what the agent came to".into(),
        Some(schema) => {
            json!({"comment": "becomes what the agent came to: JSON that fits this schema", "schema": schema})
        }
    };
    let input = json!({"role": role, "title": title, "proposal": shown});
    let treated_as = turn.state.label().join(label.as_ref().unwrap_or(&Label::default()));
    turn.record(Record::AgentAskedPerson { frame, at: turn.now, role, until, label });
    call::ask_with(turn, frame, step, (APPROVE, input), treated_as)
}

/// The person answered: their words are what the agent came to.
pub(super) fn answered(turn: &mut Turn, frame: FrameId, answer: Value) -> Result<(), Error> {
    let agent = agent(turn, frame);
    let Some(wanted) = agent.next_call() else { unreachable!("a person is asked by a tool call") };
    let (call, plan) = (digest(&wanted.name, &wanted.arguments), Plan::parse(&agent.with)?);
    let said = answer["comment"].as_str().unwrap_or_default();
    let output = fitting(&plan, said);
    let text = bounded(said.to_owned());
    turn.record(Record::ToolAnswered { frame, call, text, failed: false, usage: Usage::default() });
    let output = output.map_err(|faults| {
        let by = answer["by"].as_str().unwrap_or("the person");
        let detail = format!("{by}'s answer to the case of the agent {} does not fit its schema: {faults}", plan.name);
        Error::new(kind::VALIDATION, detail)
    })?;
    conclude(turn, frame, "person", output, Some(answer));
    Ok(())
}
