//! What an agent did within its task, as people read it: its turns, the tools that it called, and whom it gave its case to.

use serde::Serialize;
use serde_json::Value;

use crate::engine::{
    agent::{ToolCall, Usage, identity},
    record::Record,
};

/// One thing that an agent did, or that it was told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "act")]
pub enum Act {
    /// Its model said this, and wants so many tools called.
    Turn { text: String, tools: usize, usage: Usage },
    /// A tool was called, and this is what the agent was told of it.
    Tool { name: String, arguments: Value, text: String, failed: bool },
    /// A tool was not called, as the agent did not go on.
    Dropped { name: String, why: String },
    /// It was told something that no tool said.
    Told { text: String },
    /// Another agent went on.
    HandedOver { to: String },
    /// A person with this role was asked to take the case.
    AskedPerson { role: String },
}

impl Act {
    /// The words for it: what was done, with what, and what came of it.
    #[must_use]
    pub fn words(&self) -> (String, String, String) {
        match self {
            Self::Turn { text, tools, .. } if *tools > 0 => {
                ("turn".to_owned(), String::new(), tools_wanted(text, *tools))
            }
            Self::Turn { text, .. } => ("turn".to_owned(), String::new(), text.clone()),
            Self::Tool { name, arguments, text, failed } => {
                let what = if *failed { "failed tool" } else { "tool" };
                (format!("{what} {name}"), arguments.to_string(), text.clone())
            }
            Self::Dropped { name, why } => (format!("not called: {name}"), String::new(), why.clone()),
            Self::Told { text } => ("told".to_owned(), String::new(), text.clone()),
            Self::HandedOver { to } => (format!("handed over to {to}"), String::new(), String::new()),
            Self::AskedPerson { role } => (format!("asked a person: {role}"), String::new(), String::new()),
        }
    }
}

fn tools_wanted(text: &str, tools: usize) -> String {
    let wanted = format!("wants {tools} {} called", if tools == 1 { "tool" } else { "tools" });
    if text.is_empty() { wanted } else { format!("{text} ({wanted})") }
}

/// The tool calls of an agent's last turn whose end it was not told yet, the next one last.
#[derive(Debug, Default)]
pub(super) struct Wanted(Vec<ToolCall>);

impl Wanted {
    /// What the agent did by this record; `None` when it did nothing.
    pub(super) fn act(&mut self, record: &Record) -> Option<Act> {
        Some(match record {
            Record::AgentTurned { said, .. } => {
                self.0 = said.tool_calls.iter().rev().cloned().collect();
                Act::Turn { text: said.text.clone(), tools: said.tool_calls.len(), usage: said.usage }
            }
            Record::ToolAnswered { text, failed, .. } => {
                let ToolCall { name, arguments, .. } = self.0.pop()?;
                Act::Tool { name, arguments, text: text.clone(), failed: *failed }
            }
            Record::ToolDropped { name, why, .. } => Act::Dropped { name: name.clone(), why: why.clone() },
            Record::AgentTold { text, .. } => Act::Told { text: text.clone() },
            Record::AgentHandedOver { with, .. } => Act::HandedOver { to: identity(with).name },
            Record::AgentAskedPerson { role, .. } => Act::AskedPerson { role: role.clone() },
            _ => return None,
        })
    }
}
