//! Whether a node's link is up: it has a request here that is held, or had one a moment ago.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use shared::{id::NodeName, time::Timestamp};
use tokio::sync::broadcast;

use super::Change;
use crate::clock;

/// A node asks again at once after an answer; one that has not done so for this long is away. Some round trips of a slow
/// link.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// A node's link, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "link", content = "since")]
pub enum Link {
    Up(Timestamp),
    Down(Timestamp),
    /// It has not asked since this process started.
    Unknown,
}

impl Link {
    /// Whether it is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

struct Seen {
    held: u32,
    /// When the last held request ended.
    left: Instant,
    link: Link,
}

pub(super) struct Presence {
    nodes: Arc<Mutex<HashMap<NodeName, Seen>>>,
    changes: broadcast::Sender<Change>,
    grace: Duration,
}

impl Presence {
    pub(super) fn new(changes: broadcast::Sender<Change>, grace: Duration) -> Self {
        Self { nodes: Arc::default(), changes, grace }
    }

    pub(super) fn link(&self, node: &NodeName) -> Link {
        lock(&self.nodes).get(node).map_or(Link::Unknown, |seen| seen.link)
    }

    /// The node has a request here until the guard is dropped: answered, or its connection broken.
    pub(super) fn enter(&self, node: &NodeName) -> Present {
        let mut nodes = lock(&self.nodes);
        let seen =
            nodes.entry(node.clone()).or_insert_with(|| Seen { held: 0, left: Instant::now(), link: Link::Unknown });
        seen.held += 1;
        if !seen.link.is_up() {
            seen.link = Link::Up(clock::now());
            drop(self.changes.send(Change::Node(node.clone())));
        }
        let (nodes, changes) = (Arc::clone(&self.nodes), self.changes.clone());
        Present { node: node.clone(), nodes, changes, grace: self.grace }
    }
}

/// A node's request that is being held.
pub(super) struct Present {
    node: NodeName,
    nodes: Arc<Mutex<HashMap<NodeName, Seen>>>,
    changes: broadcast::Sender<Change>,
    grace: Duration,
}

impl Drop for Present {
    fn drop(&mut self) {
        let left = Instant::now();
        if let Some(seen) = lock(&self.nodes).get_mut(&self.node) {
            seen.held -= 1;
            seen.left = left;
        }
        let (node, nodes, changes) = (self.node.clone(), Arc::clone(&self.nodes), self.changes.clone());
        let grace = self.grace;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            let mut nodes = lock(&nodes);
            let Some(seen) = nodes.get_mut(&node) else { return };
            if seen.held == 0 && seen.left == left && seen.link.is_up() {
                seen.link = Link::Down(clock::now());
                drop(changes.send(Change::Node(node)));
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds the lock; the map is as good as before if something did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_is_down_when_nothing_was_held_for_a_while() {
        let (changes, mut seen) = broadcast::channel(8);
        let presence = Presence::new(changes, Duration::from_millis(20));
        let node: NodeName = "basel".parse().expect("a name");
        assert_eq!(presence.link(&node), Link::Unknown);
        let first = presence.enter(&node);
        assert!(presence.link(&node).is_up());
        assert_eq!(seen.recv().await, Ok(Change::Node(node.clone())));
        let second = presence.enter(&node);
        drop(first);
        assert!(presence.link(&node).is_up(), "the next request came at once");
        drop(second);
        assert!(presence.link(&node).is_up(), "it may come in a moment");
        assert_eq!(seen.recv().await, Ok(Change::Node(node.clone())));
        assert!(matches!(presence.link(&node), Link::Down(_)));
    }
}
