//! How far a bundle has come.

use serde::{Deserialize, Serialize};

use crate::store::nodes::Node;

/// Where a node stands towards what its group shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage", content = "reason")]
pub enum Stage {
    /// Its group has no bundle yet.
    Unassigned,
    /// It has not said yet that it runs the bundle.
    Pending,
    /// It runs the bundle.
    Current,
    /// It tried the bundle and went back, or would not take it.
    Rejected(String),
}

/// Where this node stands.
#[must_use]
pub fn stage(node: &Node) -> Stage {
    let Some(desired) = node.desired else { return Stage::Unassigned };
    let status = node.status.as_ref();
    if status.and_then(|status| status.applied).is_some_and(|applied| applied.digest == desired) {
        return Stage::Current;
    }
    match status.and_then(|status| status.rejected.as_ref()) {
        Some(rejected) if rejected.digest == desired => Stage::Rejected(rejected.reason.clone()),
        _ => Stage::Pending,
    }
}

/// How many nodes of a group stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub nodes: usize,
    pub current: usize,
    pub pending: usize,
    pub rejected: usize,
}

/// Counts the nodes of this group.
#[must_use]
pub fn progress(nodes: &[Node], group: &str) -> Progress {
    let mut progress = Progress::default();
    for node in nodes.iter().filter(|node| node.group == group) {
        progress.nodes += 1;
        match stage(node) {
            Stage::Current => progress.current += 1,
            Stage::Pending | Stage::Unassigned => progress.pending += 1,
            Stage::Rejected(_) => progress.rejected += 1,
        }
    }
    progress
}
