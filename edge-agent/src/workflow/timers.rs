//! What is due when. Only the times and the names are in memory; all of it is in the store as well.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
    time::Duration,
};

use edge_core::engine::effect::Ask;
use shared::{id::RunId, time::Timestamp};
use tokio::sync::Notify;

/// The clock is looked at again at least this often, because it may have been set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a time is set for. Each has at most one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Due {
    /// A run waits for a time or has a deadline.
    Run(RunId),
    /// A parked effect is to be asked again.
    Parked(RunId, Ask),
    /// A scheduled workflow starts.
    Schedule(String),
    /// Old runs are to be forgotten.
    Sweep,
}

#[derive(Default)]
pub(super) struct Timers {
    set: Mutex<Set>,
    changed: Notify,
}

#[derive(Default)]
struct Set {
    order: BTreeSet<(Timestamp, Due)>,
    at: HashMap<Due, Timestamp>,
}

impl Timers {
    /// Sets the time for this, in place of an earlier one; `None` takes it away.
    pub fn set(&self, due: Due, at: Option<Timestamp>) {
        let mut set = self.set.lock().expect("no thread panicked with the timers");
        if let Some(old) = set.at.remove(&due) {
            set.order.remove(&(old, due.clone()));
        }
        if let Some(at) = at {
            set.at.insert(due.clone(), at);
            set.order.insert((at, due));
        }
        drop(set);
        self.changed.notify_one();
    }

    /// Whether a time is set for this.
    pub fn is_set(&self, due: &Due) -> bool {
        self.set.lock().expect("no thread panicked with the timers").at.contains_key(due)
    }

    /// Everything of one kind, with its time taken away.
    pub fn take(&self, wanted: impl Fn(&Due) -> bool) -> Vec<Due> {
        let mut set = self.set.lock().expect("no thread panicked with the timers");
        let taken: Vec<_> = set.at.keys().filter(|due| wanted(due)).cloned().collect();
        for due in &taken {
            if let Some(at) = set.at.remove(due) {
                set.order.remove(&(at, due.clone()));
            }
        }
        taken
    }

    /// Waits until something is due by the node's clock, and takes it.
    pub async fn next(&self) -> Due {
        loop {
            let changed = self.changed.notified();
            let now = crate::clock::now();
            let wait = {
                let mut set = self.set.lock().expect("no thread panicked with the timers");
                match set.order.first().map(|(at, _)| *at) {
                    Some(at) if at <= now => {
                        let (_, due) = set.order.pop_first().expect("there is a first");
                        set.at.remove(&due);
                        return due;
                    }
                    Some(at) => at.since(now).min(LOOK_AGAIN),
                    None => LOOK_AGAIN,
                }
            };
            // Either way the set is looked at again.
            drop(tokio::time::timeout(wait, changed).await);
        }
    }
}
