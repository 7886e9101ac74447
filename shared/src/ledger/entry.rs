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

/// How a request that left for a model ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallEnd {
    /// With a whole answer.
    #[default]
    Answered,
    /// With an answer that does not fit the schema that was asked for.
    Misfit,
    /// Nobody waited for the answer any more.
    Cancelled,
    /// Not within its time.
    TimedOut,
    /// The connection or the stream broke off.
    Cut,
    /// The target was there and could not: 5xx, too many requests, a local model that failed.
    Failed,
    /// The target did not take it: the key, the request.
    Refused,
    /// With something that is not the target's protocol.
    Garbled,
}

impl CallEnd {
    /// Whether the whole answer came, which older entries and most others mean by saying nothing.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        *self == Self::Answered
    }

    /// In words, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Misfit => "answered, but not as asked",
            Self::Cancelled => "no longer wanted",
            Self::TimedOut => "no answer in time",
            Self::Cut => "cut off",
            Self::Failed => "failed",
            Self::Refused => "refused by the target",
            Self::Garbled => "not an answer",
        }
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "fact", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
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
    /// Input or events that were dropped: how many and why, so that a gap is never silent.
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
    /// A route was chosen: the target's name, `park` or `refuse`, with the reasons for and against each candidate. They
    /// never quote what was sent or came back, since no policy is asked about them.
    RouteChosen {
        choice: String,
        reasons: Vec<String>,
    },
    /// A request that left for a model, one entry for each, however it ended.
    ModelCalled {
        target: String,
        model: String,
        /// What was sent.
        prompt: Content,
        /// What came back; of a request that failed, what came of it before that.
        answer: Content,
        /// Left out when it ended with a whole answer.
        #[serde(default, skip_serializing_if = "CallEnd::is_answered")]
        ended: CallEnd,
        /// As the target counts, or roughly; 0 when nothing is known.
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
    /// What an agent did: `began`, `turned` (its model answered), `called` (a tool, and it was told the result), `failed`
    /// (a tool, or the call was refused), `handed-over` (to the agent named in `of`), `asked`
    /// (a person of the role in `of` to take its case: the question is an entry of its own).
    AgentActed {
        agent: String,
        /// Who answers for the agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        act: String,
        /// The tool, the other agent, or the role.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// The goal, what the model said, or what it was told.
        content: Content,
    },
    ToolCalled {
        function: String,
        input: Content,
        output: Content,
        duration_ms: u64,
    },
    /// What goes into or comes out of a model, tool or machine was checked.
    Guarded {
        checks: Vec<String>,
        /// What was found and how often, such as `personalData email 2`.
        findings: Vec<String>,
        /// `passed`, `reported`, `redacted` or `refused`.
        act: String,
        content: Content,
    },
    /// A detector got a new model, or another of those that it has; or a new one stayed behind the one that judges.
    DetectorTrained {
        /// `feed/detector`.
        detector: String,
        /// `device/channel`.
        series: String,
        version: u64,
        model: Digest,
        /// Whether it judges from now on.
        took_over: bool,
        /// Why, or why not.
        reason: String,
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
        /// Where the answer was given: `local page`, `command line`, `api`, `control plane`; `node` when it expired.
        place: String,
        /// The role in which the person answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<Content>,
    },
    /// A person started a run, or did something to one.
    RunSteered {
        /// `start`, `cancel`, `suspend`, `resume` or `retry`.
        act: String,
        by: String,
        /// Where they did it: `local page`, `command line`, `api`.
        place: String,
        /// The role in which the person did it.
        role: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<Content>,
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

impl Fact {
    /// What an entry calls it in its field `fact`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::to_value;

    use super::*;

    #[test]
    fn a_fact_has_the_name_that_its_entry_gives_it() {
        let (feed, reason) = ("line".to_owned(), "too fast".to_owned());
        let facts = [
            Fact::AgentStarted { version: "1".to_owned() },
            Fact::Shed { feed, count: 3, reason },
            Fact::TaskEnded { status: "completed".to_owned(), output: Content::kept("{}") },
        ];
        for fact in facts {
            assert_eq!(to_value(&fact).unwrap()["fact"], fact.name());
        }
    }
}
