//! Whether an effect may happen. Rules are Cedar; a decision is a `Permit`, which whoever performs the effect must
//! hold, or a `Refusal` with the rules that decided. Nothing here performs anything.

mod set;

use serde::{Deserialize, Serialize};

use crate::label::Label;

pub use set::PolicySet;

/// What a workflow wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    Infer,
    Embed,
    Classify,
    Retrieve,
    Publish,
    Http,
    Approve,
    /// Keep the text itself in the ledger, not only its digest.
    KeepText,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 8] = [
        Self::Infer,
        Self::Embed,
        Self::Classify,
        Self::Retrieve,
        Self::Publish,
        Self::Http,
        Self::Approve,
        Self::KeepText,
    ];

    /// The name in rules: `Action::"infer"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Embed => "embed",
            Self::Classify => "classify",
            Self::Retrieve => "retrieve",
            Self::Publish => "publish",
            Self::Http => "http",
            Self::Approve => "approve",
            Self::KeepText => "keepText",
        }
    }
}

/// What sort of thing a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A model on the node.
    Local,
    /// A model elsewhere.
    Cloud,
    /// An MQTT topic.
    Topic,
    /// An HTTP host.
    Host,
    /// An index of documents on the node.
    Index,
    /// People with a role.
    Role,
}

impl TargetKind {
    /// The name in rules: `resource.kind == "cloud"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Topic => "topic",
            Self::Host => "host",
            Self::Index => "index",
            Self::Role => "role",
        }
    }

    /// Whether the target is part of the node, and so stands where the node stands.
    const fn is_on_node(self) -> bool {
        matches!(self, Self::Local | Self::Index)
    }
}

/// What data would go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// `cloud/large`, `local/extract`, a topic, a host, an index, a role.
    pub name: String,
    pub kind: TargetKind,
    /// Where it stands, such as `CH`; of a local model or index the node's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

impl Target {
    /// A target of which no jurisdiction or provider is known.
    #[must_use]
    pub fn new(kind: TargetKind, name: impl Into<String>) -> Self {
        Self { name: name.into(), kind, jurisdiction: None, provider: None }
    }
}

/// May this workflow do this with data so labelled?
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub action: Action,
    /// `namespace/name`.
    pub workflow: String,
    pub target: Target,
    /// The label of all that flowed into what would be sent.
    pub label: Label,
    pub node_jurisdiction: String,
}

/// Proof that policy permits one action on one target. Only [`PolicySet::decide`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    action: Action,
    target: Target,
    rules: Vec<String>,
}

impl Permit {
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The names of the rules that permit it, sorted.
    #[must_use]
    pub fn rules(&self) -> &[String] {
        &self.rules
    }
}

/// Policy refuses one action on one target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub target: Box<Target>,
    /// The names of the rules that forbid it, sorted; empty when merely none permits it.
    pub rules: Vec<String>,
    /// One sentence for people.
    pub reason: String,
}
