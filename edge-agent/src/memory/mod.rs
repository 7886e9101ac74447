//! Memory: the bundle's documents, found by word and by meaning, its labelled cases, and what workflows keep:
//! records and texts. Never sends anything anywhere.

mod age;
mod asleep;
mod chunk;
mod classify;
mod desk;
pub mod documents;
mod embed;
mod episode;
pub mod files;
mod fit;
mod follow;
mod forget;
mod former;
mod heal;
mod index;
mod judges;
mod keeping;
pub mod limits;
mod locks;
pub mod reading;
mod records;
mod remember;
mod rerank;
mod rest;
mod retrieve;
mod room;
mod roster;
mod search;
mod session;
mod shelf;
mod wipe;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};

use age::Age;
pub use asleep::Asleep;
use classify::CaseSet;
use desk::Desk;
pub use desk::Model;
use documents::{Content, Document, Labelled};
use edge_core::engine::effect::{Call, Failure, kind};
pub use embed::{Embed, Figures};
pub use episode::path as episode_path;
pub use follow::{Due, Followed, Mark, Read};
use former::Former;
pub use former::{Embedders, Recall};
use heal::Hurt;
pub use judges::Judges;
pub use limits::Limits;
use locks::{lock, read, write};
use models::embed::Embedder;
pub use remember::kept_path;
pub use remember::reserved;
pub use rerank::PASSAGES_MAX as RANKED_MAX;
pub use rest::AreBusy;
use rest::Rest;
use shared::policy::Permit;
use shelf::{Merging, Served, Shelf};
use tokio::sync::watch;
use wipe::Remains;

use crate::{
    clock::{self, Source},
    store::Store,
};

/// The embedder as policy and the ledger name it.
pub const EMBEDDER: &str = "local/embed";

/// How long a search waits for an index that is being made for the first time, when the task sets no deadline.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Passages of one search at most: more than a model reads, and each has its text read from the store.
pub const TOP_K_MAX: usize = 100;
/// A query or a text to embed or classify; the embedders read the first few hundred words alone.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A handle to the node's memory; clones share it. Its indexing ends when the last handle is gone.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
    judges: Arc<Judges>,
    limits: Arc<Limits>,
    wanted: Arc<watch::Sender<Arc<Vec<Document>>>>,
    status: Arc<watch::Sender<Status>>,
}

/// How far the indexes are in step with the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Whether documents are being read or embedded now.
    pub is_busy: bool,
    /// What could not be indexed and why, one sentence each.
    pub failed: Vec<String>,
    /// Why what is stored cannot be loaded, so that nothing is found.
    pub unloaded: Option<String>,
}

struct Inner {
    store: Store,
    /// Makes the vectors.
    embedder: Arc<dyn Embedder>,
    /// Made vectors before.
    former: Former,
    /// Before the models that embed, rank and classify.
    desk: Desk,
    /// Where the indexes are kept; `None` in a memory that ends with its process.
    shelf: Option<Shelf>,
    indexes: RwLock<BTreeMap<String, Served>>,
    loaded: Loaded,
    /// Whether there are files of indexes that nobody needs any more.
    has_strays: AtomicBool,
    remains: Remains,
    /// Those that have had all documents of a bundle, however old these are now.
    whole: RwLock<BTreeSet<String>>,
    merging: Mutex<Option<Merging>>,
    hurt: Hurt,
    rest: Rest,
    cases: RwLock<BTreeMap<String, Arc<CaseSet>>>,
    age: Arc<Age>,
    wanted: watch::Receiver<Arc<Vec<Document>>>,
}

/// Whether the indexes are loaded: who changes or searches them waits until that is known.
#[derive(Default)]
struct Loaded {
    is: Mutex<Load>,
    told: Condvar,
}

/// Loading what is stored.
#[derive(Default, PartialEq)]
enum Load {
    #[default]
    UnderWay,
    Done,
    /// Until it is tried again; why, for people.
    Failed(String),
}

impl Loaded {
    /// Waits until loading has ended; else says why it failed.
    fn wait(&self) -> Result<(), String> {
        let is = lock(&self.is);
        let is = self.told.wait_while(is, |is| *is == Load::UnderWay).unwrap_or_else(PoisonError::into_inner);
        if let Load::Failed(why) = &*is { Err(why.clone()) } else { Ok(()) }
    }

    /// Why the last try failed, while no other is under way.
    fn failure(&self) -> Option<String> {
        let is = lock(&self.is);
        if let Load::Failed(why) = &*is { Some(why.clone()) } else { None }
    }

    fn tell(&self, load: Load) {
        *lock(&self.is) = load;
        self.told.notify_all();
    }
}

impl Memory {
    /// Opens the memory in the store, for a process that ends soon. What is stored can be searched soon after; nothing here
    /// waits for it.
    #[must_use]
    pub fn open(store: Store, embedders: impl Into<Embedders>) -> Self {
        Self::begin(store, embedders.into(), None, Box::new(clock::machine()))
    }

    /// As `open`, with the vector indexes in files in a folder of their own, so that the next start maps what this one made.
    #[must_use]
    pub fn open_in(folder: &Path, store: Store, embedders: impl Into<Embedders>) -> Self {
        Self::begin(store, embedders.into(), Some(Shelf::new(folder)), Box::new(clock::machine()))
    }

    fn begin(store: Store, embedders: Embedders, shelf: Option<Shelf>, time: Box<dyn Source>) -> Self {
        let Embedders { chosen: embedder, origin, recall } = embedders;
        let (wanted, documents) = watch::channel(Arc::default());
        let status = Arc::new(watch::Sender::new(Status { is_busy: true, ..Status::default() }));
        let inner = Inner {
            store,
            embedder,
            former: Former { origin, recall, known: Mutex::default() },
            desk: Desk::default(),
            shelf,
            indexes: RwLock::default(),
            loaded: Loaded::default(),
            has_strays: AtomicBool::default(),
            remains: Remains::default(),
            whole: RwLock::default(),
            merging: Mutex::default(),
            hurt: Hurt::default(),
            rest: Rest::default(),
            cases: RwLock::default(),
            age: Arc::new(Age::by(time)),
            wanted: documents.clone(),
        };
        let inner = Arc::new(inner);
        tokio::spawn(keeping::keep_in_step(Arc::clone(&inner), documents, Arc::clone(&status)));
        Self { inner, judges: Arc::default(), limits: Arc::default(), wanted: Arc::new(wanted), status }
    }

    /// The memory, within the limits that the node's configuration sets to what workflows keep.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits: Arc::new(limits), ..self }
    }

    /// The memory, with models that judge texts in place of what is built in.
    #[must_use]
    pub fn judged_by(self, judges: Judges) -> Self {
        Self { judges: Arc::new(judges), ..self }
    }

    /// Has what idle time is for wait while these are busy, too.
    #[must_use]
    pub fn resting_beside(self, others: AreBusy) -> Self {
        self.inner.rest.beside(others);
        self
    }

    /// Takes what a bundle brings; the indexes follow in the background, and only what changed is embedded again.
    pub fn set_content(&self, content: Content) {
        let set = |Labelled { cases, label }| Arc::new(CaseSet::new(cases, label));
        let cases = content.cases.into_iter().map(|(name, cases)| (name, set(cases))).collect();
        *write(&self.inner.cases) = cases;
        // Both under the status's lock, so that nobody sees the new documents wanted and the indexes idle.
        self.status.send_modify(|status| {
            status.is_busy = true;
            self.wanted.send_replace(Arc::new(content.documents));
        });
    }

    /// The indexes that there are.
    #[must_use]
    pub fn indexes(&self) -> Vec<String> {
        self.inner.names()
    }

    /// How far the indexes are in step with the bundle.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits for an index that is being made for the first time; one that is merely out of date is searched as it is.
    async fn wait_for(&self, index: &str, call: &Call) {
        let is_whole = || read(&self.inner.whole).contains(index);
        if is_whole() || !self.inner.wanted.borrow().iter().any(|document| document.index == index) {
            return;
        }
        let left = call.gives_up_at().map_or(WAIT_MAX, |end| end.since(clock::now()).min(WAIT_MAX));
        let mut status = self.status.subscribe();
        // Over time: the search finds what is there.
        drop(tokio::time::timeout(left, status.wait_for(|status| !status.is_busy)).await);
    }
}

impl Inner {
    /// The indexes of the bundle, and those that the store still holds from the one before.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.wanted.borrow().iter().map(|document| document.index.clone()).collect();
        names.extend(self.indexes().keys().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Holds a permit against what the call is about to do.
fn hold(call: &Call, permit: &Permit, target: &str) -> Result<(), Failure> {
    if permit.target().name == target {
        return Ok(());
    }
    let detail =
        format!("{} of {}: the permit is for {}, not for {target}", call.function, call.task, permit.target().name);
    Err(Failure::new(kind::AUTHORIZATION, detail))
}

fn text(call: &Call, field: &str, text: String) -> Result<String, Failure> {
    text_within(call, field, text, TEXT_BYTES_MAX)
}

fn text_within(call: &Call, field: &str, text: String, most: usize) -> Result<String, Failure> {
    match text.len() {
        _ if is_blank(&text) => Err(wrong(call, field, "empty; expected a text")),
        bytes if bytes > most => Err(wrong(call, field, &format!("{bytes} bytes; at most {most}"))),
        _ => Ok(text),
    }
}

/// Whether a text shows nothing: white space, and characters without width that join, part or turn others.
fn is_blank(text: &str) -> bool {
    let has_no_width = |c| matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    text.chars().all(|c| c.is_whitespace() || has_no_width(c))
}

fn wrong(call: &Call, field: &str, expected: &str) -> Failure {
    Failure::new(kind::VALIDATION, format!("{} of {}: {field}: {expected}", call.function, call.task))
}

fn broken(call: &Call, error: impl std::fmt::Display) -> Failure {
    Failure::new(kind::RUNTIME, format!("{} of {}: {error}", call.function, call.task))
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
