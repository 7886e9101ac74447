//! What is not in the file yet: few vectors, which change often.
//!
//! Few are compared one by one, which is exact and fast. Where no idle time comes to merge them, from some number on a graph is
//! kept as well; it takes in a few vectors with each insert, so that no insert waits long, and what it does not hold yet is still
//! compared one by one.

use std::collections::BTreeSet;

use super::{
    exact::{Best, Vectors},
    graph::Graph,
};
use crate::{Error, embed::similarity};

/// Comparing this many vectors of 160 values takes some 2 ms; below it a graph gains nothing.
const GRAPH_FROM: usize = 20_000;
/// The graph takes in this many of the waiting vectors with each insert: it catches up, and an insert takes a few ms.
const TAKEN_EACH: usize = 4;
/// A filter that lets fewer pass is served by comparing those.
const PASS_SHARE_MIN: f32 = 0.5;
const PASS_SAMPLE: usize = 256;

/// Vectors by id, searched by cosine. All vectors have one length, given at the start.
pub(super) struct Young {
    vectors: Vectors,
    graph: Option<Graph>,
    /// Ids that the graph does not hold yet.
    waiting: BTreeSet<u64>,
    graph_from: usize,
}

impl Young {
    /// Nothing yet, for unit vectors of this length.
    pub(super) fn new(dimensions: usize) -> Self {
        Self::over(Vectors::new(dimensions), GRAPH_FROM)
    }

    pub(super) fn over(vectors: Vectors, graph_from: usize) -> Self {
        let mut index = Self { vectors, graph: None, waiting: BTreeSet::new(), graph_from };
        index.grow();
        index
    }

    /// How many vectors can be found.
    pub(super) fn len(&self) -> usize {
        self.vectors.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn check(&self, vector: &[f32]) -> Result<(), Error> {
        self.vectors.check(vector)
    }

    pub(super) fn ids(&self) -> &[u64] {
        self.vectors.ids()
    }

    /// Where the vectors of all ids lie, one after another.
    pub(super) fn values(&self) -> &[f32] {
        self.vectors.values()
    }

    /// Those whose ids are among these.
    pub(super) fn only(&self, ids: &BTreeSet<u64>) -> Result<Self, Error> {
        let mut vectors = Vectors::new(self.vectors.dimensions());
        for (id, vector) in ids.iter().filter_map(|id| Some((*id, self.vectors.of(*id)?))) {
            vectors.insert(id, vector)?;
        }
        Ok(Self::over(vectors, self.graph_from))
    }

    /// Puts a unit vector under an id; what was there before is replaced.
    ///
    /// # Errors
    /// When the vector has another length or a value that is not finite.
    pub(super) fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        self.put(id, vector)?;
        self.tend(TAKEN_EACH);
        Ok(())
    }

    /// As `insert`, but leaves the graph to later.
    pub(super) fn put(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        self.vectors.insert(id, vector)?;
        if let Some(graph) = &mut self.graph {
            graph.remove(id);
            self.waiting.insert(id);
        }
        Ok(())
    }

    pub(super) fn of(&self, id: u64) -> Option<&[f32]> {
        self.vectors.of(id)
    }

    /// Takes the vector of an id away; false when there was none.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        if let Some(graph) = &mut self.graph {
            graph.remove(id);
            self.waiting.remove(&id);
        }
        self.vectors.remove(id)
    }

    /// Gives up to `count` waiting vectors to the graph, each some milliseconds of work; false when none waits.
    /// Inserting does this too; call it in idle time after a load or many removals.
    pub(super) fn tend(&mut self, count: usize) -> bool {
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

    /// The `k` nearest ids that the filter lets pass with their cosines, nearest first; ties by id. The vector fits.
    pub(super) fn search(&self, vector: &[f32], k: usize, filter: &dyn Fn(u64) -> bool) -> Vec<(u64, f32)> {
        let found = match &self.graph {
            Some(graph) if self.passes_many(filter) => self.search_graph(graph, vector, k, filter),
            _ => None,
        };
        found.unwrap_or_else(|| self.vectors.search(vector, k, filter))
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

    /// Whether the graph holds this id; for tests.
    #[cfg(test)]
    pub(super) fn is_in_graph(&self, id: u64) -> bool {
        self.graph.as_ref().is_some_and(|graph| graph.holds(id))
    }
}
