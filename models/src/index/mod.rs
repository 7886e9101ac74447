//! Near vectors: insert, remove, search with a filter, save, load.
//!
//! Few vectors are compared one by one, which is exact and fast. From some number on a graph is kept as well; it takes in a
//! few vectors with each insert, so that no insert waits long, and what it does not hold yet is still compared one by one.

mod exact;
mod frame;
mod graph;

use std::{collections::BTreeSet, path::Path};

use exact::{Best, Vectors};
use graph::Graph;

use crate::{Error, embed::similarity};

/// Comparing this many vectors of 160 values takes some 2 ms; below it a graph gains nothing.
const GRAPH_FROM: usize = 20_000;
/// The graph takes in this many of the waiting vectors with each insert: it catches up, and an insert takes a few ms.
const TAKEN_EACH: usize = 4;
/// A filter that lets fewer pass is served by comparing those.
const PASS_SHARE_MIN: f32 = 0.5;
const PASS_SAMPLE: usize = 256;

/// Vectors by id, searched by cosine. All vectors have one length, given at the start.
pub struct Hnsw {
    vectors: Vectors,
    graph: Option<Graph>,
    /// Ids that the graph does not hold yet.
    waiting: BTreeSet<u64>,
    graph_from: usize,
}

impl Hnsw {
    /// An empty index for unit vectors of this length.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self::of(Vectors::new(dimensions), GRAPH_FROM)
    }

    fn of(vectors: Vectors, graph_from: usize) -> Self {
        let mut index = Self { vectors, graph: None, waiting: BTreeSet::new(), graph_from };
        index.grow();
        index
    }

    /// How many vectors can be found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vectors.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of each vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.vectors.dimensions()
    }

    /// Puts a unit vector under an id; what was there before is replaced.
    ///
    /// # Errors
    /// When the vector has another length or a value that is not finite.
    pub fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        self.vectors.insert(id, vector)?;
        if let Some(graph) = &mut self.graph {
            graph.remove(id);
            self.waiting.insert(id);
        }
        self.tend(TAKEN_EACH);
        Ok(())
    }

    /// Takes the vector of an id away; false when there was none.
    pub fn remove(&mut self, id: u64) -> bool {
        if let Some(graph) = &mut self.graph {
            graph.remove(id);
            self.waiting.remove(&id);
        }
        self.vectors.remove(id)
    }

    /// Gives up to `count` waiting vectors to the graph, each some milliseconds of work; false when none waits.
    /// Inserting does this too; call it in idle time after a load or many removals.
    pub fn tend(&mut self, count: usize) -> bool {
        if self.graph.as_ref().is_none_or(Graph::is_worn) {
            self.grow();
        }
        let Some(graph) = &mut self.graph else { return false };
        for _ in 0..count {
            let Some(id) = self.waiting.pop_first() else { break };
            if let Some(vector) = self.vectors.of(id) {
                graph.insert(id, vector);
            }
        }
        !self.waiting.is_empty()
    }

    /// Begins the graph anew, all vectors waiting; ends it when there are too few.
    fn grow(&mut self) {
        let has_enough = self.vectors.len() >= self.graph_from;
        self.graph = has_enough.then(|| Graph::new(self.vectors.len() * 2));
        self.waiting = if has_enough { self.vectors.ids().iter().copied().collect() } else { BTreeSet::new() };
    }

    /// The `k` nearest ids that the filter lets pass with their cosines, nearest first; ties by id.
    ///
    /// # Errors
    /// When the vector has another length or a value that is not finite.
    pub fn search(&self, vector: &[f32], k: usize, filter: &dyn Fn(u64) -> bool) -> Result<Vec<(u64, f32)>, Error> {
        self.vectors.check(vector)?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let found = match &self.graph {
            Some(graph) if self.passes_many(filter) => self.search_graph(graph, vector, k, filter),
            _ => None,
        };
        Ok(found.unwrap_or_else(|| self.vectors.search(vector, k, filter)))
    }

    /// `None` when the graph found too few that pass.
    fn search_graph(
        &self,
        graph: &Graph,
        vector: &[f32],
        k: usize,
        filter: &dyn Fn(u64) -> bool,
    ) -> Option<Vec<(u64, f32)>> {
        let mut best = Best::new(k);
        let mut offer = |id: u64| {
            if let Some(other) = self.vectors.of(id).filter(|_| filter(id)) {
                best.offer(id, similarity(vector, other));
            }
        };
        graph.near(vector, k * 3).into_iter().for_each(&mut offer);
        self.waiting.iter().copied().for_each(&mut offer);
        let found = best.into_sorted();
        (found.len() == k).then_some(found)
    }

    fn passes_many(&self, filter: &dyn Fn(u64) -> bool) -> bool {
        let ids = self.vectors.ids();
        let step = (ids.len() / PASS_SAMPLE).max(1);
        let sample = ids.iter().step_by(step);
        let (count, passed) = sample.fold((0, 0), |(count, passed), id| (count + 1, passed + usize::from(filter(*id))));
        passed as f32 >= PASS_SHARE_MIN * count as f32
    }

    /// Writes the vectors to a file: beside it first, then renamed over it, so that a reader finds the old or the new one
    /// whole. The graph is not written; it is made again.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        frame::save(path, &self.vectors)
    }

    /// Reads an index that [`Hnsw::save`] wrote. Where a graph is due it begins empty: see [`Hnsw::tend`].
    ///
    /// # Errors
    /// When the file is cut off, damaged or of another kind.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Ok(Self::of(frame::load(path)?, GRAPH_FROM))
    }

    /// Whether the graph holds this id; for tests.
    #[cfg(test)]
    fn is_in_graph(&self, id: u64) -> bool {
        self.graph.as_ref().is_some_and(|graph| graph.holds(id))
    }
}

#[cfg(test)]
mod tests;
