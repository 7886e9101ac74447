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
    Rerank,
    Retrieve,
    /// Keep a text where `retrieve` finds it.
    Remember,
    /// Read records that workflows keep on the node.
    Query,
    /// Write such records.
    Upsert,
    /// Train the model of a detector, or choose which of its models judges.
    Train,
    Publish,
    /// Take messages from a topic.
    Subscribe,
    /// A request to a host: HTTP, and what is carried by it, such as gRPC.
    Http,
    /// A tool, prompt or resource of an MCP server.
    Mcp,
    /// A process on the node: a shell command, a script, a container.
    Run,
    /// Start a run of another workflow, which then asks in its own name.
    Start,
    /// Hand a secret of the node to what a workflow calls.
    UseSecret,
    Approve,
    /// Keep the text itself in the ledger, not only its digest.
    KeepText,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 18] = [
        Self::Infer,
        Self::Embed,
        Self::Classify,
        Self::Rerank,
        Self::Retrieve,
        Self::Remember,
        Self::Query,
        Self::Upsert,
        Self::Train,
        Self::Publish,
        Self::Subscribe,
        Self::Http,
        Self::Mcp,
        Self::Run,
        Self::Start,
        Self::UseSecret,
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
            Self::Rerank => "rerank",
            Self::Retrieve => "retrieve",
            Self::Remember => "remember",
            Self::Query => "query",
            Self::Upsert => "upsert",
            Self::Train => "train",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Http => "http",
            Self::Mcp => "mcp",
            Self::Run => "run",
            Self::Start => "start",
            Self::UseSecret => "useSecret",
            Self::Approve => "approve",
            Self::KeepText => "keepText",
        }
    }
}

/// What sort of thing a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetKind {
    /// A model on the node.
    Local,
    /// A model elsewhere.
    Cloud,
    /// An MQTT topic on the node's own broker, or its site's.
    Topic,
    /// A topic on another broker: `broker.example/alarms/a`.
    RemoteTopic,
    /// An HTTP host.
    Host,
    /// What an MCP server offers: `tools.example/lookup`, or `tools.example` to list it.
    Tool,
    /// A process on the node: the shell command as it is written, the language of a script, the image of a container.
    Command,
    /// A workflow of the node: `namespace/name`.
    Workflow,
    /// A secret of the node, by name.
    Secret,
    /// An index of documents on the node.
    Index,
    /// A collection of records on the node.
    Collection,
    /// A detector of a feed: `feed/detector`.
    Detector,
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
            Self::RemoteTopic => "remoteTopic",
            Self::Host => "host",
            Self::Tool => "tool",
            Self::Command => "command",
            Self::Workflow => "workflow",
            Self::Secret => "secret",
            Self::Index => "index",
            Self::Collection => "collection",
            Self::Detector => "detector",
            Self::Role => "role",
        }
    }

    /// Whether the target is part of the node, and so stands where the node stands.
    const fn is_on_node(self) -> bool {
        matches!(
            self,
            Self::Local
                | Self::Index
                | Self::Collection
                | Self::Detector
                | Self::Command
                | Self::Workflow
                | Self::Secret
        )
    }
}

/// What data would go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// `cloud/large`, `local/extract`, a topic, a host, an index, a role; rules may ask `resource.name like "alarms/*"`.
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
    /// The agent of that workflow that wants it; `None`: the workflow itself does. Rules see it as `context.agent`.
    pub agent: Option<String>,
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
