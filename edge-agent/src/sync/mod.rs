//! The node's side of the control plane: status and ledger up, bundles and people's answers down. The node dials out; with
//! the link down everything else goes on, and what is to be told is told when it is back.
//!
//! `agent.rs` gets what came down by channels and says what goes up by `Sources`; this room knows no workflow.

mod bundle;
mod client;
mod enroll;
mod exchange;
mod fit;
pub mod identity;
pub mod ledger;
mod state;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;
use shared::{
    bundle::{floor, manifest},
    digest::Digest,
    id::RunId,
    ledger::{note, verify::Fault},
    time::Timestamp,
    wire::v1::{Answer, Health, PendingApproval, Refusal, RunSummary},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use bundle::{lost as bundle_lost, verify as verify_bundle};
pub use enroll::enroll;
pub use identity::{Identity, Membership};
pub use state::{Standing, standing, trial_ended};

use crate::store::{self, Store};

/// Bundles that wait to be applied: only the newest counts.
const DESIRED_LEN_MAX: usize = 1;
/// Answers that wait to be taken; what is more is asked for again by the next sync.
const ANSWERS_LEN_MAX: usize = 64;

/// What can go wrong between the node and its control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {operation} {path}")]
    File { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Secret(#[from] private::Error),
    #[error("{path} is damaged: {detail}")]
    Content { path: PathBuf, detail: String },
    #[error("this node is enrolled already, as {name} at {url}; remove {path} to enroll it anew")]
    Enrolled { name: String, url: String, path: PathBuf },
    #[error("cannot make a key and certificate request")]
    Key(#[source] rcgen::Error),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error(
        "the server at {url} is not the control plane that the join token is for: its certificate does not come from the authority {expected}"
    )]
    WrongAuthority { url: String, expected: Digest },
    #[error(
        "the server at {url} shows a certificate of another authority than the one that this node enrolled with: {detail}"
    )]
    WrongServer { url: String, detail: String },
    #[error("the control plane at {url} does not accept this node's certificate: {detail}")]
    CertificateRefused { url: String, detail: String },
    #[error("cannot reach the control plane at {url}: {detail}")]
    Unreachable { url: String, detail: String },
    #[error("the control plane refuses: {0}")]
    Refused(Refusal),
    #[error("the control plane answered {operation} with something else than expected: {detail}")]
    Answer { operation: &'static str, detail: String },
    #[error("the bundle cannot be taken: {0}")]
    Manifest(#[from] manifest::Error),
    #[error("the bundle may not be applied: {0}")]
    Floor(#[from] floor::Refused),
    #[error("the bundle's files are not what its manifest says: {0}")]
    Differs(String),
    #[error("not signed as it must be: {0}")]
    Signature(#[from] note::Error),
    #[error("the ledger cannot be shipped: {0}")]
    Ledger(#[from] Fault),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether the node itself is at fault or refused, so that trying again changes nothing until someone acts.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::WrongAuthority { .. }
            | Self::WrongServer { .. }
            | Self::CertificateRefused { .. }
            | Self::Ledger(_) => true,
            // Trouble of the server's own, or of something in between, passes.
            Self::Refused(refusal) => !matches!(refusal.code.as_str(), "internal" | "status"),
            _ => false,
        }
    }
}

/// The link to the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Never enrolled: there is nothing to be linked with.
    Alone,
    Up {
        since: Timestamp,
    },
    Down {
        since: Timestamp,
        reason: String,
    },
}

impl Link {
    /// Whether the last exchange succeeded.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// A bundle that is on the disk, verified, and shall be run.
#[derive(Debug)]
pub struct Desired {
    pub digest: Digest,
    pub version: u64,
    /// The bundle's files; it stays until after the next bundle but one.
    pub dir: PathBuf,
    /// Answered when the bundle came up healthy, or with the reason why the node went back to what ran before.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// A person's answer, its signature verified.
#[derive(Debug)]
pub struct ApprovalAnswer {
    pub answer: Answer,
    /// Answered when it decided the question (also when the same answer did before), or with the reason why not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// How the node is, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    pub health: Health,
    /// One sentence per thing that is not as it should be.
    pub complaints: Vec<String>,
    /// Names end with their unit.
    pub figures: BTreeMap<String, f64>,
}

/// Runs that changed behind a place in their order (last change, then id), oldest first, at most so many.
pub type RunsQuery =
    dyn Fn(&Connection, (Timestamp, Option<RunId>), usize) -> rusqlite::Result<Vec<RunSummary>> + Send + Sync;
/// Open questions, oldest first, at most so many. Proposals that may not leave the node are `None`.
pub type ApprovalsQuery = dyn Fn(&Connection, usize) -> rusqlite::Result<Vec<PendingApproval>> + Send + Sync;

/// Where what goes up comes from.
pub struct Sources {
    pub report: watch::Receiver<Report>,
    pub runs: Arc<RunsQuery>,
    pub approvals: Arc<ApprovalsQuery>,
}

/// What the rest of the node holds of its sync.
pub struct Handles {
    pub link: watch::Receiver<Link>,
    pub desired: mpsc::Receiver<Desired>,
    pub answers: mpsc::Receiver<ApprovalAnswer>,
}

/// What the node's sync is told once.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's data folder; bundles go to `bundles/` in it.
    pub data: PathBuf,
    pub jurisdiction: String,
    pub version: String,
    pub started: Timestamp,
}

/// Where the bundle with this digest lies in a data folder.
#[must_use]
pub fn bundle_dir(data: &Path, digest: Digest) -> PathBuf {
    data.join("bundles").join(hex::encode(digest.as_bytes()))
}

/// Starts syncing, until `stop` is cancelled; `tasks` can be waited for then. A node that never enrolled stays `Alone`.
///
/// # Errors
/// When the identity's files cannot be used for TLS.
pub fn start(
    options: Options,
    identity: &Identity,
    store: Store,
    sources: Sources,
    stop: CancellationToken,
    tasks: &TaskTracker,
) -> Result<Handles, Error> {
    let (desired_sender, desired) = mpsc::channel(DESIRED_LEN_MAX);
    let (answer_sender, answers) = mpsc::channel(ANSWERS_LEN_MAX);
    let Some(membership) = identity.membership() else {
        // The sender may go: a watch keeps its last value.
        let (_, link) = watch::channel(Link::Alone);
        return Ok(Handles { link, desired, answers });
    };
    let client = client::Client::of_member(membership)?;
    let down = Link::Down { since: options.started, reason: "not connected yet".to_owned() };
    let (link_sender, link) = watch::channel(down);
    let (wish_sender, wish) = watch::channel(None);
    let nudge = Arc::new(tokio::sync::Notify::new());
    let applier = bundle::Applier {
        client: client.clone(),
        store: store.clone(),
        data: options.data.clone(),
        operator: membership.operator_key.clone(),
        desired: desired_sender,
        nudge: Arc::clone(&nudge),
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(applier.run(wish)));
    let exchange = exchange::Exchange {
        shipper: ledger::Shipper::new(client.clone(), store.clone(), identity.ledger_key().clone(), membership),
        client,
        store,
        options,
        sources,
        operator: membership.operator_key.clone(),
        link: link_sender,
        wish: wish_sender,
        answers: answer_sender,
        nudge,
    };
    tasks.spawn(stop.run_until_cancelled_owned(exchange.run()));
    Ok(Handles { link, desired, answers })
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
