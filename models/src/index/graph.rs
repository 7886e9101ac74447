//! The graph over the vectors (HNSW, Malkov and Yashunin 2016, by `hnsw_rs`): finds near ones without comparing all.
//!
//! `hnsw_rs` cannot delete, so a removed vector's node stays as a dead end until the graph is made anew.

use std::collections::HashMap;

use hnsw_rs::prelude::{DistL2, Hnsw};

/// Links a node; 16 is the common choice for a few hundred dimensions.
const LINKS: usize = 16;
const LAYERS: usize = 16;
/// How widely a new node looks for its links: the quality of the graph against the time to make it.
const BREADTH_INSERT: usize = 200;
/// How widely a search looks at least, and for each neighbour wanted.
const BREADTH_SEARCH: usize = 128;
const BREADTH_EACH: usize = 4;
/// Dead nodes cost time and memory; past this share the graph is made anew.
const DEAD_SHARE_MAX: f32 = 0.3;

pub(super) struct Graph {
    nodes: Hnsw<'static, f32, DistL2>,
    /// Which id each node stands for; `None` when it is dead.
    ids: Vec<Option<u64>>,
    node_of: HashMap<u64, usize>,
}

impl Graph {
    /// Room is taken for the expected count; more fits too.
    pub(super) fn new(expected: usize) -> Self {
        let nodes = Hnsw::new(LINKS, expected, LAYERS, BREADTH_INSERT, DistL2 {});
        Self { nodes, ids: Vec::new(), node_of: HashMap::new() }
    }

    #[cfg(test)]
    pub(super) fn holds(&self, id: u64) -> bool {
        self.node_of.contains_key(&id)
    }

    /// Adds a vector under an id that has no living node.
    pub(super) fn insert(&mut self, id: u64, vector: &[f32]) {
        let node = self.ids.len();
        self.nodes.insert((vector, node));
        self.ids.push(Some(id));
        self.node_of.insert(id, node);
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(node) = self.node_of.remove(&id) {
            self.ids[node] = None;
        }
    }

    pub(super) fn is_worn(&self) -> bool {
        let dead = self.ids.len() - self.node_of.len();
        dead as f32 > DEAD_SHARE_MAX * self.ids.len() as f32
    }

    /// Ids near the vector, about `count` of them, dead ones left out.
    pub(super) fn near(&self, vector: &[f32], count: usize) -> Vec<u64> {
        // Unit vectors: the least distance is the greatest cosine.
        let breadth = BREADTH_SEARCH.max(count * BREADTH_EACH);
        let found = self.nodes.search(vector, count, breadth);
        found.iter().filter_map(|neighbour| self.ids[neighbour.d_id]).collect()
    }
}
