//! The workflows that a node has: those that new runs start from, and the older versions that runs are pinned to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use shared::{digest::Digest, event::Event, workflow::Workflow};

use edge_core::trigger;

use super::lifecycle;

/// Old versions kept parsed; one that a run needs again is read from the store.
const PINNED_MAX: usize = 64;

/// Which workflows there are. Cheap to ask from many places.
#[derive(Default)]
pub(super) struct Catalog {
    current: RwLock<Arc<Current>>,
    /// Whether somebody said which workflows there are: before that, nothing is known of who waits for an event.
    is_known: AtomicBool,
    pinned: RwLock<HashMap<Digest, Arc<Workflow>>>,
    /// The types of lifecycle events that a workflow waits for; only grows, as old runs may still listen.
    lifecycle: RwLock<Arc<BTreeSet<String>>>,
}

/// What new runs start from.
pub(super) struct Current {
    pub bundle: Digest,
    /// By `namespace/name`.
    pub workflows: BTreeMap<String, Arc<Workflow>>,
    pub home: Home,
}

/// Where a workflow is missed that another one runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Among what the node's bundle has.
    Node,
    /// Beside the document that is run once, with no node.
    Folder,
}

impl Default for Current {
    fn default() -> Self {
        Self { bundle: Digest::of(b""), workflows: BTreeMap::new(), home: Home::Node }
    }
}

impl Current {
    /// The workflows that the event starts.
    pub fn started_by<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = (&'a String, &'a Arc<Workflow>)> {
        let may = move |(_, workflow): &(&String, &Arc<Workflow>)| trigger::may_start(workflow, event);
        self.workflows.iter().filter(may).filter(|(_, workflow)| trigger::starts(workflow, event))
    }

    /// The workflows that the event may start together with others.
    pub fn gathering<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = (&'a String, &'a Arc<Workflow>)> {
        let may =
            move |workflow: &Workflow| trigger::waits_for_several(workflow) && trigger::may_start(workflow, event);
        self.workflows.iter().filter(move |(_, workflow)| may(workflow))
    }
}

impl Catalog {
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().expect("no thread panicked with the catalog"))
    }

    /// The types of lifecycle events that a workflow waits for.
    pub fn lifecycle(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.lifecycle.read().expect("no thread panicked with the catalog"))
    }

    fn want_lifecycle(&self, workflow: &Workflow) {
        let mut types = BTreeSet::new();
        lifecycle::wanted(workflow, &mut types);
        if !types.is_subset(&self.lifecycle()) {
            let mut known = self.lifecycle.write().expect("no thread panicked with the catalog");
            Arc::make_mut(&mut known).extend(types);
        }
    }

    pub fn set(&self, current: Current) {
        current.workflows.values().for_each(|workflow| self.want_lifecycle(workflow));
        *self.current.write().expect("no thread panicked with the catalog") = Arc::new(current);
        self.is_known.store(true, Ordering::Release);
    }

    /// Whether the workflows are known yet.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// The version with this digest, if it is at hand.
    pub fn version(&self, digest: Digest) -> Option<Arc<Workflow>> {
        let current = self.current();
        let found = current.workflows.values().find(|workflow| workflow.digest() == digest);
        found
            .cloned()
            .or_else(|| self.pinned.read().expect("no thread panicked with the catalog").get(&digest).cloned())
    }

    /// Keeps an old version at hand.
    pub fn pin(&self, workflow: &Arc<Workflow>) {
        self.want_lifecycle(workflow);
        let mut pinned = self.pinned.write().expect("no thread panicked with the catalog");
        if pinned.len() >= PINNED_MAX {
            pinned.clear();
        }
        pinned.insert(workflow.digest(), Arc::clone(workflow));
    }
}
