//! What one ledger entry says. Its canonical JSON bytes are the leaf of the Merkle tree.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    id::{ApprovalId, RunId},
    label::Label,
    time::Timestamp,
};

/// One fact: when it was recorded, for which run and task, and what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The task's reference, a JSON pointer into the workflow such as `/do/2/explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(flatten)]
    pub fact: Fact,
}

/// Something that went in or came out: always its digest, its text only where policy allows the ledger to keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub digest: Digest,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Content {
    /// The content with its text.
    #[must_use]
    pub fn kept(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::digested(text) }
    }

    /// The content's digest and length alone.
    #[must_use]
    pub fn digested(text: &str) -> Self {
        Self { digest: Digest::of(text.as_bytes()), bytes: text.len() as u64, text: None }
    }
}

/// How a question to a person ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Approved,
    Rejected,
    Expired,
}

/// A passage that a retrieval returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub document: String,
    pub place: String,
    pub digest: Digest,
    pub score: f32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    AgentStarted {
        version: String,
    },
    BundleApplied {
        bundle: Digest,
        version: u64,
    },
    BundleRolledBack {
        bundle: Digest,
        to: Option<Digest>,
        reason: String,
    },
    /// Input that was dropped under load: how many and why, so that a gap is never silent.
    Shed {
        feed: String,
        count: u64,
        reason: String,
    },
    Finding {
        event: String,
        subject: String,
        detector: String,
        content: Content,
    },
    RunStarted {
        workflow: String,
        version: String,
        bundle: Digest,
        trigger: String,
        label: Label,
    },
    /// A task came to its end (`completed`, `faulted`, `skipped`).
    TaskEnded {
        status: String,
        output: Content,
    },
    RunEnded {
        status: String,
        output: Content,
    },
    /// Policy was asked whether an effect may happen.
    PolicyDecided {
        action: String,
        resource: String,
        allowed: bool,
        rules: Vec<String>,
        label: Label,
    },
    /// A route was chosen: the target's name, `park` or `refuse`, with the reasons for and against each candidate.
    RouteChosen {
        choice: String,
        reasons: Vec<String>,
    },
    ModelCalled {
        target: String,
        model: String,
        prompt: Content,
        answer: Content,
        tokens_in: u64,
        tokens_out: u64,
        cost_micro_usd: u64,
        duration_ms: u64,
    },
    Retrieved {
        index: String,
        query: Content,
        hits: Vec<Hit>,
        duration_ms: u64,
    },
    ToolCalled {
        function: String,
        input: Content,
        output: Content,
        duration_ms: u64,
    },
    ApprovalRequested {
        approval: ApprovalId,
        shown: Content,
        role: String,
        deadline: Option<Timestamp>,
    },
    ApprovalDecided {
        approval: ApprovalId,
        shown: Digest,
        verdict: Verdict,
        by: String,
        place: String,
    },
    MessagePublished {
        topic: String,
        payload: Content,
        key: String,
    },
    EventEmitted {
        event: String,
        kind: String,
        content: Content,
    },
    EffectFailed {
        function: String,
        error: String,
    },
}
