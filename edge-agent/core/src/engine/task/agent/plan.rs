//! What an agent is told to do, with what and within which limits: its arguments, parsed at the door.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    label::Label,
    problem::words,
    time::Timestamp,
    workflow::{catalog, definition::parse_iso8601},
};

use super::super::super::{
    agent::AGENT,
    effect::{Error, kind},
};
use super::tool::Tool;

/// Turns of an agent that nobody gave a limit: enough for a handful of tools, and soon over for one that is lost.
const TURNS: u32 = 16;
/// How deep agents may stand in the tools of each other; what an agent may hand over to is written down, so no real one
/// is deeper.
const DEPTH_MAX: usize = 4;

/// The arguments of `agent`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub name: String,
    #[serde(rename = "owner", default)]
    _owner: Option<String>,
    pub goal: String,
    #[serde(default)]
    pub input: Option<Value>,
    #[serde(default)]
    pub instructions: Option<String>,
    #[serde(default)]
    pub model: Option<Value>,
    #[serde(rename = "tools", default)]
    given: Vec<Value>,
    #[serde(default)]
    pub limits: Limits,
    /// What it works on is treated as this from then on, and never as less than it was.
    #[serde(default)]
    pub label: Option<Label>,
    #[serde(default)]
    pub schema: Option<Value>,
    #[serde(default)]
    pub offline: Option<String>,
    #[serde(skip)]
    pub tools: Vec<Tool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Limits {
    turns: Option<u32>,
    pub tokens: Option<u64>,
    pub cost_usd: Option<f64>,
    time: Option<String>,
}

impl Limits {
    pub fn turns(&self) -> u32 {
        self.turns.unwrap_or(TURNS)
    }
}

impl Plan {
    /// # Errors
    /// A validation error where the arguments do not fit the function's schema, a configuration error where a tool cannot
    /// be one.
    pub fn parse(with: &Value) -> Result<Self, Error> {
        Self::parse_at(with, 0)
    }

    fn parse_at(with: &Value, depth: usize) -> Result<Self, Error> {
        if depth > DEPTH_MAX {
            let detail = format!("agents hand over to each other more than {DEPTH_MAX} deep");
            return Err(Error::new(kind::LIMIT, detail));
        }
        let function = catalog::function(AGENT).expect("the catalogue has it");
        if let Some(mismatch) = function.mismatches(with).into_iter().next() {
            return Err(Error::new(kind::VALIDATION, format!("agent: {mismatch}")));
        }
        let mut plan: Self = serde_path_to_error::deserialize(with).map_err(|error| {
            let why = words::of_serde(&error.inner().to_string());
            Error::new(kind::VALIDATION, format!("agent: {}: {why}", error.path()))
        })?;
        if let Some(schema) = &plan.schema {
            catalog::Schema::compile(schema)
                .map_err(|error| Error::new(kind::VALIDATION, format!("agent {}: schema: {error}", plan.name)))?;
        }
        let wrong = |why: String| Error::new(kind::CONFIGURATION, format!("agent {}: {why}", plan.name));
        let mut tools: Vec<Tool> = Vec::new();
        for (index, given) in plan.given.iter().enumerate() {
            let tool = Tool::parse(given).map_err(|why| wrong(format!("tools[{index}]: {why}")))?;
            if tools.iter().any(|known| known.name == tool.name) {
                return Err(wrong(format!("tools[{index}]: two tools are called {:?}: give one a `name`", tool.name)));
            }
            if let Some(agent) = tool.agent() {
                Self::parse_at(agent, depth + 1)?;
            }
            tools.push(tool);
        }
        plan.tools = tools;
        Ok(plan)
    }

    /// Until when an agent that begins now may take.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let time: Option<Duration> = self.limits.time.as_deref().and_then(|text| parse_iso8601(text).ok());
        time.map(|time| now.plus(time))
    }

    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

/// The arguments of an agent that takes a case over: no more than its own limits and no more than what is left.
/// `turns`, `tokens` and `cost_usd` are what was used before.
pub(super) fn handed(with: &Value, case: &Value, before: &Plan, used: (u32, u64, f64), owner: Option<String>) -> Value {
    let mut with = with.clone();
    let limits: Limits =
        with.get("limits").and_then(|limits| serde_json::from_value(limits.clone()).ok()).unwrap_or_default();
    let (turns, tokens, cost) = used;
    let mut left = Map::new();
    // A plan's schema has 256 turns at most.
    let turns = limits.turns.map_or(before.limits.turns(), |own| own.saturating_add(turns).min(before.limits.turns()));
    left.insert("turns".to_owned(), turns.into());
    let tokens = least(limits.tokens.map(|own| own.saturating_add(tokens)), before.limits.tokens);
    left.extend(tokens.map(|tokens| ("tokens".to_owned(), tokens.into())));
    let cost = [limits.cost_usd.map(|own| own + cost), before.limits.cost_usd].into_iter().flatten().reduce(f64::min);
    left.extend(cost.map(|cost| ("costUsd".to_owned(), cost.into())));
    left.extend(limits.time.map(|time| ("time".to_owned(), time.into())));
    with["limits"] = Value::Object(left);
    let own = with.get("input").cloned();
    with["input"] = match own {
        Some(own) => serde_json::json!({"case": case, "input": own}),
        None => serde_json::json!({ "case": case }),
    };
    if let (None, Some(owner)) = (with.get("owner"), owner) {
        with["owner"] = owner.into();
    }
    with
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    [one, other].into_iter().flatten().min()
}
