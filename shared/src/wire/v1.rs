//! Version 1 of what nodes and the control plane say to each other: JSON over HTTPS, every request repeatable.
//!
//! | request | client certificate | meaning |
//! |---|---|---|
//! | `POST /v1/enroll` | none | a join token and a certificate request for a client certificate |
//! | `POST /v1/sync` | yes | status up, wishes down; held until there is something new or `hold_ms` is over |
//! | `POST /v1/ledger` | yes | entries from the cursor on with the signed head behind them |
//! | `GET /v1/bundles/<digest>` | yes | a manifest's exact bytes |
//! | `GET /v1/blobs/<digest>` | yes | a file's bytes; `Range: bytes=n-` resumes |
//!
//! A refusal has a status of 400 or more and a `Refusal` as its body.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    bundle::floor::Floor,
    digest::{Digest, canonical_of},
    id::{ApprovalId, NodeName, RunId},
    label::Label,
    ledger::{
        entry::Verdict,
        note::{self, Note, Signer, VerifierKey},
        tree::Hash,
    },
    time::Timestamp,
};

pub const ENROLL_PATH: &str = "/v1/enroll";
pub const SYNC_PATH: &str = "/v1/sync";
pub const LEDGER_PATH: &str = "/v1/ledger";
/// Followed by a digest.
pub const BUNDLES_PATH: &str = "/v1/bundles/";
/// Followed by a digest.
pub const BLOBS_PATH: &str = "/v1/blobs/";

/// Longest time that a sync is held: below the 30 s after which common proxies give a silent connection up.
pub const HOLD_MS_MAX: u64 = 25_000;
/// Entries in one ledger request, and their bytes: some seconds of a busy node, a second of a slow link.
pub const LEDGER_ENTRIES_MAX: usize = 2_000;
pub const LEDGER_BYTES_MAX: usize = 2 << 20;
/// Run summaries in one sync; the rest follows in the next.
pub const RUNS_MAX: usize = 500;
/// Open questions in one sync: more than people could answer; the oldest go first.
pub const APPROVALS_MAX: usize = 200;
/// Bytes of one question as JSON: pages of text, so that no node fills the store.
pub const QUESTION_BYTES_MAX: usize = 256 << 10;
/// Bytes of the questions in one sync as JSON, and twice those of its runs: together below `BODY_BYTES_MAX`.
pub const REPORT_BYTES_MAX: usize = 8 << 20;
/// Bytes of a question's title.
const TITLE_BYTES_MAX: usize = 1 << 10;
/// Bytes of a request's body: the ledger's limit as JSON strings with every quote escaped, and the proofs.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// One word for programs, such as `token-used`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
}

/// A new node asks for its certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollRequest {
    pub secret: String,
    pub name: NodeName,
    pub jurisdiction: String,
    /// The node's certificate request (PKCS #10, PEM); its key never leaves the node.
    pub csr_pem: String,
    /// The key that signs the node's ledger heads.
    pub ledger_key: VerifierKey,
    pub version: String,
}

/// A new node's papers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollAnswer {
    pub node: NodeName,
    pub group: String,
    pub certificate_pem: String,
    /// The authority that the control plane's and the nodes' certificates come from.
    pub ca_pem: String,
    /// Signs bundles, rollbacks and answers.
    pub operator_key: VerifierKey,
    /// Cosigns ledger heads.
    pub witness_key: VerifierKey,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Starting,
    Healthy,
    /// It works, but something that was configured does not.
    Degraded,
    Failing,
    /// Not said yet, or a word of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The bundle that a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub digest: Digest,
    pub version: u64,
    pub at: Timestamp,
}

/// A bundle that a node tried and does not run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub digest: Digest,
    pub reason: String,
    pub at: Timestamp,
}

/// What a node says of itself with every sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub version: String,
    pub jurisdiction: String,
    pub started: Timestamp,
    pub health: Health,
    /// One sentence per thing that is not as it should be.
    #[serde(default)]
    pub complaints: Vec<String>,
    #[serde(default)]
    pub applied: Option<Applied>,
    #[serde(default)]
    pub rejected: Option<Rejected>,
    #[serde(default)]
    pub floor: Option<Floor>,
    /// Figures for pages and tables, such as `readings_per_second`; names end with their unit.
    #[serde(default)]
    pub figures: std::collections::BTreeMap<String, f64>,
    /// How many entries the node's ledger has.
    #[serde(default)]
    pub ledger_size: u64,
}

/// One run, as far as a fleet's page shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    pub run: RunId,
    /// `namespace/name`.
    pub workflow: String,
    pub version: String,
    pub bundle: Digest,
    /// `running`, `waiting`, `completed`, `faulted`, `cancelled`, ..: the DSL's status phases.
    pub status: String,
    /// The task that it stands at.
    #[serde(default)]
    pub task: Option<String>,
    /// What it waits for or died of, in one sentence.
    #[serde(default)]
    pub note: Option<String>,
    /// What it is about, such as the finding's device and channel.
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(default)]
    pub label: Label,
    pub started: Timestamp,
    pub updated: Timestamp,
    #[serde(default)]
    pub ended: Option<Timestamp>,
}

/// A question that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingApproval {
    pub approval: ApprovalId,
    pub run: RunId,
    pub workflow: String,
    pub role: String,
    pub title: String,
    /// Exactly what is to be decided on; `None` when it may not leave the node: then it can only be decided there.
    #[serde(default)]
    pub proposal: Option<Value>,
    /// The digest of the proposal's canonical JSON; an answer is bound to it.
    pub shown: Digest,
    #[serde(default)]
    pub label: Label,
    pub asked: Timestamp,
    #[serde(default)]
    pub deadline: Option<Timestamp>,
}

impl PendingApproval {
    /// The question as the control plane takes it: one that is too large goes without its proposal, of which `shown` still
    /// tells, and is answered on the node.
    #[must_use]
    pub fn within_bounds(mut self) -> Self {
        if self.title.len() > TITLE_BYTES_MAX {
            // With room for what may be added, so that both sides come to the same.
            cut(&mut self.title, TITLE_BYTES_MAX - 128);
        }
        if self.proposal.is_some()
            && serde_json::to_vec(&self).map_or(usize::MAX, |json| json.len()) > QUESTION_BYTES_MAX
        {
            self.proposal = None;
            self.title.push_str(" (too large for the control plane: answer it on the node)");
        }
        self
    }
}

/// Shortens a text to about so many bytes, and shows that it did.
pub fn cut(text: &mut String, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text.push_str(" ..");
}

/// What became of an answer on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerOutcome {
    pub approval: ApprovalId,
    /// Whether the answer decided the question. `false`: it came too late or did not fit.
    pub taken: bool,
    /// Why not, such as "already decided by ..".
    #[serde(default)]
    pub reason: Option<String>,
}

/// Up with every sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncRequest {
    pub status: NodeStatus,
    /// Runs that changed since the last sync that was answered, oldest change first.
    #[serde(default)]
    pub runs: Vec<RunSummary>,
    /// All questions that are open now. One that is no longer among them was decided on site or expired. What a question
    /// was told with first counts: those that are known may come without their proposals.
    #[serde(default)]
    pub approvals: Vec<PendingApproval>,
    /// Whether more are open than found room: then one that is not among them may be open all the same.
    #[serde(default)]
    pub approvals_more: bool,
    #[serde(default)]
    pub outcomes: Vec<AnswerOutcome>,
    /// The tag of the last answer: the server holds the request while it has nothing else to say.
    #[serde(default)]
    pub seen: Option<Digest>,
    /// How long to hold, at most `HOLD_MS_MAX`; 0 answers at once.
    #[serde(default)]
    pub hold_ms: u64,
}

/// The bundle that a node shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    pub digest: Digest,
    pub version: u64,
    pub signature: Note,
    /// The operator's word that it may be older than what ran before.
    #[serde(default)]
    pub rollback: Option<Note>,
}

/// A person's answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub approval: ApprovalId,
    /// The digest of what the person was shown.
    pub shown: Digest,
    /// `Approved` or `Rejected`.
    pub verdict: Verdict,
    pub by: String,
    pub at: Timestamp,
    #[serde(default)]
    pub comment: Option<String>,
}

impl Answer {
    /// The answer with the operator key's signature over every word of it.
    ///
    /// # Errors
    /// Never: canonical JSON holds no control character.
    ///
    /// # Panics
    /// Never: an answer is plain data.
    pub fn sign(self, operator: &Signer) -> Result<SignedAnswer, note::Error> {
        let signature = operator.sign(&self.signed_text())?;
        Ok(SignedAnswer { answer: self, signature })
    }

    fn signed_text(&self) -> String {
        let json = canonical_of(self);
        format!("skerry.answer/1\n{json}\n")
    }
}

/// An answer as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAnswer {
    answer: Answer,
    signature: Note,
}

impl SignedAnswer {
    /// The answer, if the operator's key signed it.
    ///
    /// # Errors
    /// When the signature is missing, wrong, or for another answer.
    pub fn verified_by(&self, operator: &VerifierKey) -> Result<&Answer, note::Error> {
        if self.signature.verified_by(operator)? == self.answer.signed_text() {
            Ok(&self.answer)
        } else {
            Err(note::Error::Signature(operator.name().to_owned()))
        }
    }

    /// Approved or rejected; not checked.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.answer.verdict
    }

    /// Which question it answers; not checked.
    #[must_use]
    pub const fn approval(&self) -> ApprovalId {
        self.answer.approval
    }
}

/// The state of a node's ledger at the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerCursor {
    /// How many entries it has: ship from here.
    pub next: u64,
    /// Why it takes no more, until an operator has looked into it.
    #[serde(default)]
    pub halted: Option<String>,
}

/// Down with every sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// The digest of all that follows; sent back as `seen`.
    pub tag: Digest,
    #[serde(default)]
    pub desired: Option<Desired>,
    /// Answers whose outcome the node has not reported yet.
    #[serde(default)]
    pub answers: Vec<SignedAnswer>,
    #[serde(default)]
    pub ledger: LedgerCursor,
}

impl SyncAnswer {
    /// An answer with its tag.
    ///
    /// # Panics
    /// Never: what goes in is plain data.
    #[must_use]
    pub fn new(desired: Option<Desired>, answers: Vec<SignedAnswer>, ledger: LedgerCursor) -> Self {
        let value = serde_json::to_value((&desired, &answers, &ledger)).expect("an answer is plain data");
        Self { tag: Digest::of_json(&value), desired, answers, ledger }
    }
}

/// Entries that go on from the cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRequest {
    pub from: u64,
    /// The entries' exact bytes, which are UTF-8 JSON.
    pub entries: Vec<String>,
    /// The node's signed head behind the last of them.
    pub head: Note,
    /// The proof that this head continues the one at `from`.
    pub consistency: Vec<Hash>,
}

/// What the control plane now has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerAnswer {
    /// The head that was sent, with the control plane's cosignature.
    pub head: Note,
    pub cursor: LedgerCursor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bound_to_every_word_of_it() {
        let operator = Signer::new("operator", &[1; 32]).expect("a name");
        let at = Timestamp::from_millis(5);
        let answer = Answer {
            approval: ApprovalId::derive(at, b"q"),
            shown: Digest::of(b"proposal"),
            verdict: Verdict::Approved,
            by: "Ada\nLovelace".to_owned(),
            at,
            comment: None,
        };
        let signed = answer.clone().sign(&operator).expect("signs");
        let wire = serde_json::to_string(&signed).expect("plain");
        let back: SignedAnswer = serde_json::from_str(&wire).expect("plain");
        assert_eq!(back.verified_by(operator.public()), Ok(&answer));
        let forged: SignedAnswer = serde_json::from_str(&wire.replacen("approved", "rejected", 1)).expect("plain");
        assert!(forged.verified_by(operator.public()).is_err());
    }

    #[test]
    fn what_a_newer_side_adds_is_passed_over() {
        let answer = SyncAnswer::new(None, Vec::new(), LedgerCursor { next: 3, halted: None });
        let mut value = serde_json::to_value(&answer).expect("plain");
        value["news"] = 1.into();
        value["ledger"]["more"] = 2.into();
        assert_eq!(serde_json::from_value::<SyncAnswer>(value).expect("tolerated"), answer);
        assert_eq!(serde_json::from_str::<Health>("\"splendid\"").expect("tolerated"), Health::Unknown);
    }

    #[test]
    fn the_tag_changes_with_what_is_said() {
        let tag = |next| SyncAnswer::new(None, Vec::new(), LedgerCursor { next, halted: None }).tag;
        assert_eq!(tag(1), tag(1));
        assert_ne!(tag(1), tag(2));
    }
}
