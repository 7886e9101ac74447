//! How far an agent is: the fold of its records. What it does next is decided in `task/agent`.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{digest::Digest, label::Label, time::Timestamp};

use super::{effect, record::Record, state::State};

/// The function whose task is an agent's.
pub const AGENT: &str = "agent";

/// The function of an effect that asks a model for an agent's next turn.
pub const CHAT: &str = "chat";

/// What a model says in one turn. Without tool calls it is the agent's answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    #[serde(default)]
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    #[serde(default)]
    pub usage: Usage,
}

/// A tool that a model wants called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// By which the model knows the result as that of this call.
    #[serde(default)]
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub arguments: Value,
}

/// What a turn took of the budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// US dollars.
    pub cost_usd: f64,
}

impl Usage {
    /// Whether nothing was used.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What is no amount of money counts as none.
    pub fn add(&mut self, more: Self) {
        self.tokens_in = self.tokens_in.saturating_add(more.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(more.tokens_out);
        self.cost_usd += if more.cost_usd.is_finite() { more.cost_usd.max(0.0) } else { 0.0 };
    }
}

/// An agent at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Agent {
    /// The arguments of the one that acts now.
    pub with: Arc<Value>,
    /// Until when it may take, or the person who has its case.
    pub until: Option<Timestamp>,
    /// The conversation after its opening.
    pub talk: Arc<Vec<Arc<Value>>>,
    /// Turns so far, those of agents before it too.
    pub turns: u32,
    pub used: Usage,
    /// The tool calls of the last turn, and how many of them it was told the end of.
    pub wanted: Arc<Said>,
    pub done: usize,
    /// The last words, and whether they are an answer.
    pub text: String,
    pub is_answer: bool,
    /// What was called before: how often, and what the agent was told of it.
    pub known: Arc<BTreeMap<Digest, (u32, String)>>,
    pub tool_calls: u32,
    pub tool_failures: u32,
    /// The question to a person who has the case now.
    pub case: Option<Case>,
}

/// A case that a person has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// The role of those who may answer.
    pub role: String,
    /// Joins the run's label when it is answered.
    label: Option<Label>,
    /// Until when the agent may take, should it get the case back.
    pub agents_until: Option<Timestamp>,
}

/// Who acts with these arguments.
pub(super) fn identity(with: &Value) -> effect::Agent {
    let text = |key: &str| with.get(key).and_then(Value::as_str).map(str::to_owned);
    effect::Agent { name: text("name").unwrap_or_default(), owner: text("owner") }
}

impl Agent {
    fn new(with: Arc<Value>, until: Option<Timestamp>) -> Self {
        Self {
            with,
            until,
            talk: Arc::default(),
            turns: 0,
            used: Usage::default(),
            wanted: Arc::default(),
            done: 0,
            text: String::new(),
            is_answer: false,
            known: Arc::default(),
            tool_calls: 0,
            tool_failures: 0,
            case: None,
        }
    }

    /// The tool call that comes next.
    pub fn next_call(&self) -> Option<&ToolCall> {
        self.wanted.tool_calls.get(self.done)
    }

    /// The names of the tools that the last turn wants called, from the `skipped`-th after those that are done.
    pub fn wants_still(&self, skipped: usize) -> Vec<String> {
        self.wanted.tool_calls.iter().skip(self.done + skipped).map(|call| call.name.clone()).collect()
    }

    fn says(&mut self, message: Value) {
        Arc::make_mut(&mut self.talk).push(Arc::new(message));
    }

    fn turned(&mut self, said: &Arc<Said>) {
        self.turns += 1;
        self.used.add(said.usage);
        self.wanted = Arc::clone(said);
        self.done = 0;
        self.is_answer = said.tool_calls.is_empty();
        if !said.text.is_empty() || self.is_answer {
            self.text.clone_from(&said.text);
        }
        let mut message = json!({"role": "assistant", "content": said.text});
        if !said.tool_calls.is_empty() {
            message["toolCalls"] = serde_json::to_value(&said.tool_calls).expect("a tool call is plain data");
        }
        self.says(message);
    }

    fn told(&mut self, call: Digest, text: &str, failed: bool, usage: Usage) {
        self.used.add(usage);
        if let Some(case) = self.case.take() {
            self.until = case.agents_until;
        }
        let Some(id) = self.next_call().map(|call| call.id.clone()) else { return };
        let known = Arc::make_mut(&mut self.known).entry(call).or_insert_with(|| (0, text.to_owned()));
        known.0 += 1;
        self.done += 1;
        self.tool_calls += 1;
        self.tool_failures += u32::from(failed);
        self.says(json!({"role": "tool", "toolCallId": id, "content": text}));
    }

    /// Another one begins where this one ends: it knows nothing of what was said, and has what is left of the budget.
    fn hands_over(&mut self, with: Arc<Value>, until: Option<Timestamp>) {
        let before = self.clone();
        let (turns, used, tool_calls, tool_failures) =
            (before.turns, before.used, before.tool_calls + 1, before.tool_failures);
        *self = Self { turns, used, tool_calls, tool_failures, ..Self::new(with, until) };
    }
}

impl State {
    /// The records of a task that is an agent's.
    pub(super) fn agent_goes_on(&mut self, record: &Record) {
        if let Record::AgentBegan { label: Some(label), .. } | Record::AgentHandedOver { label: Some(label), .. } =
            record
        {
            self.label = self.label.join(label);
        }
        if let Record::AgentBegan { frame, with, until, .. } = record {
            self.task_mut(*frame).agent = Some(Box::new(Agent::new(Arc::clone(with), *until)));
            return;
        }
        let (Record::AgentTurned { frame, .. }
        | Record::ToolAnswered { frame, .. }
        | Record::ToolDropped { frame, .. }
        | Record::AgentTold { frame, .. }
        | Record::AgentHandedOver { frame, .. }
        | Record::AgentAskedPerson { frame, .. }) = record
        else {
            unreachable!("{record:?} is applied elsewhere")
        };
        if let Record::ToolAnswered { failed: false, .. } = record
            && let Some(label) = self.task(*frame).agent.as_ref().and_then(|agent| agent.case.as_ref()?.label.clone())
        {
            self.label = self.label.join(&label);
        }
        let agent = self.task_mut(*frame).agent.as_mut().expect("a record of an agent follows its beginning");
        match record {
            Record::AgentTurned { said, .. } => agent.turned(said),
            Record::ToolAnswered { call, text, failed, usage, .. } => agent.told(*call, text, *failed, *usage),
            Record::AgentTold { text, .. } => {
                agent.is_answer = false;
                agent.says(json!({"role": "user", "content": text}));
            }
            Record::AgentHandedOver { with, until, .. } => agent.hands_over(Arc::clone(with), *until),
            Record::AgentAskedPerson { role, until, label, .. } => {
                let (role, label) = (role.clone(), label.clone());
                agent.case = Some(Case { role, label, agents_until: std::mem::replace(&mut agent.until, *until) });
            }
            _ => {}
        }
    }
}
