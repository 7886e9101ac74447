//! What the control plane does: each thing that a node or an operator can ask for is a function here. It fetches what is
//! known, asks `fleet` or `shared` for the decision, and keeps what follows, in one transaction.

mod audit;
mod blobs;
mod node;
mod operator;
mod presence;

use std::{path::Path, sync::Arc};

use shared::{
    digest::Digest,
    id::{ApprovalId, NodeName},
    wire::v1::Refusal,
};
use tokio::sync::broadcast;

pub use audit::Verification;
pub use blobs::Blobs;
pub use operator::{PushRequest, Pushed, RollBackRequest};
pub use presence::Link;

use crate::{
    clock,
    fleet::{Refused, Why},
    keys::{self, Keys},
    store::{
        self, Store, actions,
        operators::{self, ADMIN, EVERY_ROLE, Operator},
    },
};

/// Change notices that a slow page may fall behind by; beyond it the page is told that it missed some and reads anew.
const CHANGES_LEN_MAX: usize = 1_024;

/// Something changed that a page may show. Which values it has now is the store's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A node enrolled, reported something new, or its link went up or down.
    Node(NodeName),
    /// Runs of a node.
    Runs(NodeName),
    Approval(ApprovalId),
    /// Questions of a node came or went.
    Approvals(NodeName),
    /// Entries of a node were archived, or its ledger was halted or resumed.
    Ledger(NodeName),
    /// A bundle was pushed, or a group shall run another one.
    Rollout,
    /// Tokens or operators.
    Access,
}

/// What held requests of nodes wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wake {
    Group(String),
    Node(NodeName),
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error("cannot {operation}")]
    Io { operation: String, source: std::io::Error },
}

impl Error {
    /// What the one who asked is told: refusals as they are, of the rest only that it failed here.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refused) => Refusal { code: refused.code.to_owned(), message: refused.message.clone() },
            _ => Refusal {
                code: "internal".to_owned(),
                message: "the control plane could not do this; its log says why".to_owned(),
            },
        }
    }
}

/// The control plane's state and services.
pub struct Control {
    store: Store,
    keys: Keys,
    blobs: Blobs,
    /// Where nodes reach this control plane: `https://host:port`, put into join tokens.
    url: String,
    presence: presence::Presence,
    changes: broadcast::Sender<Change>,
    wakes: broadcast::Sender<Wake>,
}

impl Control {
    /// Opens the data folder, making it and the keys if there are none.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn open(data: &Path, url: String) -> Result<Arc<Self>, Error> {
        make_private(data)
            .map_err(|source| Error::Io { operation: format!("make the data folder {}", data.display()), source })?;
        let keys = Keys::open(&data.join("keys"))?;
        let blobs = Blobs::open(&data.join("blobs"))?;
        let store = Store::open(&data.join("control.db"))?;
        let (changes, _) = broadcast::channel(CHANGES_LEN_MAX);
        let (wakes, _) = broadcast::channel(CHANGES_LEN_MAX);
        let presence = presence::Presence::new(changes.clone(), presence::GRACE);
        Ok(Arc::new(Self { store, keys, blobs, url, presence, changes, wakes }))
    }

    /// Makes the operator `admin` if there is no operator yet, and answers its secret, which is stored nowhere. The secret is
    /// handed to `deliver` before it counts: when that fails there is no operator still, and the next start tries again.
    ///
    /// # Errors
    /// When the secret cannot be delivered or SQLite fails.
    pub async fn first_operator(
        &self,
        deliver: impl FnOnce(&str) -> Result<(), Error> + Send + 'static,
    ) -> Result<Option<String>, Error> {
        let secret = clock::secret();
        let (digest, shown) = (Digest::of(secret.as_bytes()), secret.clone());
        let now = clock::now();
        let admin = Operator { name: ADMIN.to_owned(), roles: vec![EVERY_ROLE.to_owned()], created: now };
        let made = self
            .store
            .write::<_, Error>("make the first operator", move |c| {
                if !operators::list(c)?.is_empty() {
                    return Ok(Ok(false));
                }
                actions::record(c, now, ADMIN, "started this control plane for the first time")?;
                operators::insert(c, &admin, digest)?;
                Ok(deliver(&shown).map(|()| true))
            })
            .await?;
        Ok(made.then_some(secret))
    }

    /// Runs a query of `store` on a reader: `control.read("list the nodes", nodes::list).await`.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, store::Error> {
        self.store.read(operation, query).await
    }

    /// Notices of what changes from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Whether a node's link is up.
    #[must_use]
    pub fn link(&self, node: &NodeName) -> Link {
        self.presence.link(node)
    }

    /// The operator whose secret this is.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn login(&self, secret: &str) -> Result<Option<Operator>, store::Error> {
        let digest = Digest::of(secret.trim().as_bytes());
        self.store.read("look the operator up", move |c| operators::by_secret(c, digest)).await
    }

    /// The keys, for serving TLS and showing fingerprints.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The files of bundles.
    #[must_use]
    pub const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Where nodes reach this control plane.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Tells pages; nobody listening is no error.
    fn changed(&self, change: Change) {
        drop(self.changes.send(change));
    }

    /// Lets held requests answer; none being held is no error.
    fn wake(&self, wake: Wake) {
        drop(self.wakes.send(wake));
    }
}

/// Gives an operator a new secret, for whoever has the data folder of a control plane that does not run. The old one counts
/// no longer.
///
/// # Errors
/// When there is none of the name or SQLite fails.
pub async fn reset_operator(store: &Store, name: &str) -> Result<String, Error> {
    let secret = clock::secret();
    let (digest, now, name) = (Digest::of(secret.as_bytes()), clock::now(), name.to_owned());
    store
        .write::<_, Error>("reset an operator's secret", move |c| {
            if !operators::reset(c, &name, digest)? {
                let known: Vec<_> = operators::list(c)?.into_iter().map(|operator| operator.name).collect();
                let message = format!("there is no operator {name}, but: {}", known.join(", "));
                return Ok(Err(absent("operator-unknown", message)));
            }
            actions::record(c, now, "data folder", &format!("gave operator {name} a new secret")).map(Ok)
        })
        .await?;
    Ok(secret)
}

/// Makes a folder for this user alone: what nodes tell of their runs and questions lies in it.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn absent(code: &'static str, message: impl Into<String>) -> Error {
    Refused::new(Why::Absent, code, message).into()
}

fn invalid(code: &'static str, message: impl Into<String>) -> Error {
    Refused::new(Why::Invalid, code, message).into()
}
