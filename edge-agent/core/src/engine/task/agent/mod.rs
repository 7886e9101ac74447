//! `agent`: a model works towards a goal with tools from a list. A turn of the model and a tool call are each an effect
//! with a key of its own, asked one after another; whatever the model says, nothing is asked for that is not on the list.
//!
//! Limits are looked at before each turn and before its tools are called: a tool whose result the model could not see
//! any more is not called.

mod mistakes;
mod person;
mod plan;
mod tool;

use std::sync::Arc;

use serde_json::{Value, json};
use shared::{
    digest::{Digest, canonical_json},
    workflow::catalog,
};

use super::super::{
    agent::{Agent, CHAT, Said, Usage},
    effect::{self, Call, Error, kind},
    limit,
    record::{FrameId, Record},
    state::{Progress, State},
    turn::Turn,
};
use super::call;
pub(in super::super) use mistakes::mistakes;
use plan::Plan;
use tool::{Answer, Case, Tool, Wanted};

/// What the model is told of one tool's result; the rest is cut off. A page of text; a conversation of some dozen fits
/// into the context of small models.
const RESULT_BYTES_MAX: usize = 16 << 10;
/// Tools that are called in one turn; a model that wants more is not told of the others.
const CALLS_PER_TURN_MAX: usize = 16;
/// What an answer takes at most in a turn; the default of `infer`.
const TOKENS_PER_TURN: u64 = 1_024;
/// The call of this number that equals former ones is one too many.
const SAME_CALLS_MAX: u32 = 3;

pub(super) fn start(turn: &mut Turn, frame: FrameId, arguments: Value) -> Result<(), Error> {
    limit::check("the arguments of the call", &arguments)?;
    let plan = Plan::parse(&arguments)?;
    let until = plan.until(turn.now);
    turn.record(Record::AgentBegan { frame, at: turn.now, with: Arc::new(arguments), until, label: plan.label });
    go_on(turn, frame)
}

/// The model or a tool answered.
pub(super) fn answered(turn: &mut Turn, frame: FrameId, output: Value) {
    let agent = agent(turn, frame);
    let called = agent.next_call().cloned();
    if agent.case.is_some() {
        if let Err(error) = person::answered(turn, frame, output) {
            turn.fail(frame, error);
        }
        return;
    }
    let taken = match called {
        Some(wanted) => Plan::parse(&agent.with).map(|plan| {
            let call = digest(&wanted.name, &wanted.arguments);
            let plain = |output| Answer { said: Ok(output), usage: Usage::default() };
            let Answer { said, usage } = match plan.tool(&wanted.name) {
                Some(tool) => tool.answer(output),
                None => plain(output),
            };
            let (text, failed) = match said {
                Ok(Value::String(text)) => (text, false),
                Ok(other) => (canonical_json(&other), false),
                Err(error) => (told(&error), true),
            };
            turn.record(Record::ToolAnswered { frame, call, text: bounded(text), failed, usage });
        }),
        None => serde_json::from_value::<Said>(output)
            .map(|said| turn.record(Record::AgentTurned { frame, said: Arc::new(limited(said)) }))
            .map_err(|error| Error::new(kind::RUNTIME, format!("the model's turn cannot be read: {error}"))),
    };
    if let Err(error) = taken.and_then(|()| go_on(turn, frame)) {
        turn.fail(frame, error);
    }
}

/// A tool that failed is told to the model; without a model there is no agent.
pub(super) fn unanswered(turn: &mut Turn, frame: FrameId, error: Error) {
    let agent = agent(turn, frame);
    let gone_on = match agent.next_call() {
        Some(call) => {
            let call = digest(&call.name, &call.arguments);
            let (text, usage) = (bounded(told(&error)), Usage::default());
            turn.record(Record::ToolAnswered { frame, call, text, failed: true, usage });
            go_on(turn, frame)
        }
        None if agent.until.is_some_and(|until| until <= turn.now) => finish(turn, frame, "time"),
        None => Err(error),
    };
    if let Err(error) = gone_on {
        turn.fail(frame, error);
    }
}

/// What the agent is told of a tool's error.
fn told(error: &Error) -> String {
    let title = error.title.as_deref().unwrap_or("runtime");
    format!("error ({title}): {}", error.detail.as_deref().unwrap_or("no detail"))
}

/// Its time is over while something is asked.
pub(super) fn late(turn: &mut Turn, frame: FrameId) {
    if let Err(error) = finish(turn, frame, "time") {
        turn.fail(frame, error);
    }
}

/// Does what comes next, until something is asked for or the agent is done. Each round comes to a new turn or takes one
/// of a turn's tool calls, so it ends.
fn go_on(turn: &mut Turn, frame: FrameId) -> Result<(), Error> {
    loop {
        let agent = agent(turn, frame).clone();
        let plan = Plan::parse(&agent.with)?;
        if agent.is_answer {
            match fitting(&plan, &agent.text) {
                Ok(_) => return finish(turn, frame, "done"),
                Err(faults) => {
                    let text = format!("That answer does not fit: {faults}. Give the whole answer again as JSON.");
                    turn.record(Record::AgentTold { frame, text });
                    continue;
                }
            }
        }
        // What a person takes of the budget is time alone, and no model needs to see their answer.
        let is_persons = agent.next_call().is_some_and(|wanted| plan.tool(&wanted.name).is_some_and(Tool::is_person));
        if let Some(limit) = reached(&plan, &agent, turn)
            && (limit == "time" || !is_persons)
        {
            return finish(turn, frame, limit);
        }
        let Some(wanted) = agent.next_call() else { return ask_model(turn, frame, &plan, &agent) };
        let call = digest(&wanted.name, &wanted.arguments);
        let tell = |turn: &mut Turn, text: String, failed| {
            let usage = Usage::default();
            turn.record(Record::ToolAnswered { frame, call, text: bounded(text), failed, usage });
        };
        if let Some((times, text)) = agent.known.get(&call) {
            if times + 1 >= SAME_CALLS_MAX {
                return finish(turn, frame, "repetition");
            }
            let text = format!(
                "You called this with the same arguments before; it was not called again. If you do it once more, you are stopped. The result was: {text}"
            );
            tell(turn, text, false);
            continue;
        }
        let Some(tool) = plan.tool(&wanted.name) else {
            let known: Vec<&str> = plan.tools.iter().map(|tool| tool.name.as_str()).collect();
            tell(turn, format!("error: there is no tool {:?}; there is {}", wanted.name, known.join(", ")), true);
            continue;
        };
        match tool.call(&wanted.arguments) {
            Err(why) => tell(turn, format!("error: {why}"), true),
            Ok(Wanted::HandOver(case)) => hand_over(turn, frame, (&agent, &plan), &case)?,
            Ok(Wanted::Person(case)) => return person::hand_over(turn, frame, &plan, &step(&agent, call), case),
            Ok(Wanted::Effect { function, input }) => {
                return call::ask_for(turn, frame, &step(&agent, call), function, input);
            }
        }
    }
}

/// What follows the task's place in the key of a tool call. With the arguments in it: where the whole agent is tried again,
/// it may want something else here, which a receiver that honours keys must not take for the same.
fn step(agent: &Agent, call: Digest) -> String {
    let short: String = call.as_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("/turn/{}/tool/{}/{short}", agent.turns - 1, agent.done)
}

/// Another agent goes on where this one ends.
fn hand_over(turn: &mut Turn, frame: FrameId, from: (&Agent, &Plan), case: &Case<Value>) -> Result<(), Error> {
    let (agent, plan) = from;
    let used = (agent.turns, used(agent), agent.used.cost_usd);
    let owner = super::super::agent::identity(&agent.with).owner;
    let with = plan::handed(&case.to, &case.case, plan, used, owner);
    let next = Plan::parse(&with)?;
    let until = [next.until(turn.now), agent.until].into_iter().flatten().min();
    let dropped = agent.wants_still(1);
    drop_calls(turn, frame, dropped, "the case was handed over");
    let (at, with) = (turn.now, Arc::new(with));
    turn.record(Record::AgentHandedOver { frame, at, with, until, label: next.label });
    Ok(())
}

/// Says of what the agent wanted, and nobody does any more, that it was not done.
fn drop_calls(turn: &mut Turn, frame: FrameId, names: Vec<String>, why: &str) {
    for name in names {
        turn.record(Record::ToolDropped { frame, name, why: format!("not called: {why}") });
    }
}

fn ask_model(turn: &mut Turn, frame: FrameId, plan: &Plan, agent: &Agent) -> Result<(), Error> {
    let (step, input) = (format!("/turn/{}", agent.turns), chat(plan, agent));
    if agent.turns > 0 && !limit::fits(&input) {
        // No model would read that much.
        return finish(turn, frame, "tokens");
    }
    call::ask_for(turn, frame, &step, CHAT, input)
}

/// The call as it is to be performed. A chat's records hold each thing that was said once; what its model is given is the
/// whole conversation.
pub(in super::super) fn whole(state: &State, frame: FrameId, call: &Arc<Call>) -> Arc<Call> {
    let agent = state.task(frame).agent.as_deref().filter(|_| call.function == CHAT && call.input.is_null());
    let input = agent.and_then(|agent| Some(chat(&Plan::parse(&agent.with).ok()?, agent)));
    input.map_or_else(|| Arc::clone(call), |input| Arc::new(Call { input, ..Call::clone(call) }))
}

/// What the model of the next turn is given.
fn chat(plan: &Plan, agent: &Agent) -> Value {
    let mut messages = opening(plan);
    messages.extend(agent.talk.iter().map(|message| Value::clone(message)));
    let tools: Vec<Value> = plan.tools.iter().map(Tool::told).collect();
    let left = plan.limits.tokens.map(|tokens| tokens.saturating_sub(used(agent)).clamp(1, TOKENS_PER_TURN));
    let mut input = json!({"messages": messages, "tools": tools});
    let more = [
        ("model", plan.model.clone()),
        ("offline", plan.offline.clone().map(Value::from)),
        ("maxTokens", left.map(Value::from)),
        ("maxCostUsd", plan.limits.cost_usd.map(|cost| Value::from((cost - agent.used.cost_usd).max(0.0)))),
    ];
    for (key, value) in more {
        if let Some(value) = value {
            input[key] = value;
        }
    }
    input
}

/// What every turn begins with.
fn opening(plan: &Plan) -> Vec<Value> {
    let mut system = format!(
        "You are the agent {:?}. Work towards the goal you are given. Call tools where they help, one step at a time, \
         never twice with the same arguments. When you are done, answer without calling a tool.",
        plan.name
    );
    if let Some(instructions) = &plan.instructions {
        system = format!("{system}\n\n{instructions}");
    }
    if let Some(schema) = &plan.schema {
        system = format!(
            "{system}\n\nYour answer is one JSON value, and nothing else, that fits this JSON schema: {schema}"
        );
    }
    let goal = match &plan.input {
        None => plan.goal.clone(),
        Some(Value::String(text)) => format!("{}\n\n{text}", plan.goal),
        Some(input) => format!("{}\n\n{input}", plan.goal),
    };
    vec![json!({"role": "system", "content": system}), json!({"role": "user", "content": goal})]
}

/// Which limit is reached, if one is.
fn reached(plan: &Plan, agent: &Agent, turn: &Turn) -> Option<&'static str> {
    let limits = &plan.limits;
    if agent.until.is_some_and(|until| until <= turn.now) {
        return Some("time");
    }
    if agent.turns >= limits.turns() {
        return Some("turns");
    }
    if limits.tokens.is_some_and(|tokens| used(agent) >= tokens) {
        return Some("tokens");
    }
    limits.cost_usd.is_some_and(|cost| agent.turns > 0 && agent.used.cost_usd >= cost).then_some("cost")
}

/// The agent's task ends, and this is why.
fn finish(turn: &mut Turn, frame: FrameId, ended: &str) -> Result<(), Error> {
    let agent = agent(turn, frame);
    let plan = Plan::parse(&agent.with)?;
    let person = agent.case.as_ref().map(|case| json!({"role": case.role, "verdict": "expired"}));
    let output = fitting(&plan, &agent.text).map_err(|faults| {
        let with = agent.case.as_ref().map(|case| format!(" while {} had its case", case.role)).unwrap_or_default();
        let detail = format!(
            "the agent {} was stopped ({ended}) after {} turns{with}, before it had an answer that fits its schema: {faults}",
            plan.name, agent.turns
        );
        Error::new(kind::LIMIT, detail)
    })?;
    conclude(turn, frame, ended, output, person);
    Ok(())
}

/// Ends the task with what the agent came to, and what a person said whose case it was.
fn conclude(turn: &mut Turn, frame: FrameId, ended: &str, output: Value, person: Option<Value>) {
    // One that is under way was called.
    let under_way = usize::from(matches!(turn.progress(frame), Progress::Asked { .. }));
    let dropped = agent(turn, frame).wants_still(under_way);
    drop_calls(turn, frame, dropped, &format!("the agent ended ({ended})"));
    let agent = agent(turn, frame);
    let effect::Agent { name, owner } = super::super::agent::identity(&agent.with);
    let mut output = json!({
        "output": output, "turns": agent.turns, "ended": ended, "agent": name,
        "toolCalls": agent.tool_calls, "toolFailures": agent.tool_failures,
        "usage": {"tokensIn": agent.used.tokens_in, "tokensOut": agent.used.tokens_out, "costUsd": agent.used.cost_usd},
    });
    if let Some(owner) = owner {
        output["owner"] = owner.into();
    }
    if let Some(person) = person {
        output["person"] = person;
    }
    turn.end(frame, output.into(), None);
}

/// The words as the agent's output.
fn fitting(plan: &Plan, text: &str) -> Result<Value, String> {
    let Some(schema) = &plan.schema else {
        return Ok(if text.is_empty() { Value::Null } else { Value::String(text.to_owned()) });
    };
    let value = json_in(text).ok_or("it is not JSON")?;
    let schema = catalog::Schema::compile(schema).map_err(|error| error.to_string())?;
    let faults: Vec<String> = schema.mismatches(&value).iter().map(ToString::to_string).collect();
    if faults.is_empty() { Ok(value) } else { Err(faults.join("; ")) }
}

/// The whole text, or what stands between its outermost braces: models like to add a sentence.
fn json_in(text: &str) -> Option<Value> {
    let braced = || serde_json::from_str(text.get(text.find('{')?..=text.rfind('}')?)?).ok();
    serde_json::from_str(text.trim()).ok().or_else(braced)
}

/// Which tool with which arguments.
fn digest(name: &str, arguments: &Value) -> Digest {
    Digest::of(canonical_json(&json!([name, arguments])).as_bytes())
}

fn bounded(mut text: String) -> String {
    let whole = text.len();
    if whole > RESULT_BYTES_MAX {
        let end = (0..=RESULT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push_str(&format!("\n[cut off: {end} of {whole} bytes]"));
    }
    text
}

fn limited(mut said: Said) -> Said {
    said.tool_calls.truncate(CALLS_PER_TURN_MAX);
    said
}

const fn used(agent: &Agent) -> u64 {
    agent.used.tokens_in.saturating_add(agent.used.tokens_out)
}

fn agent(turn: &Turn, frame: FrameId) -> &Agent {
    turn.state.task(frame).agent.as_deref().expect("the task is an agent's")
}
