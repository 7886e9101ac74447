//! The vectors themselves, side by side in memory, and the search that compares all of them.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

use crate::{
    Error,
    embed::dot,
    lanes::{Compute, Lanes, Processor},
};

/// Vectors by id in one flat array; a removed one's place is taken by the last.
pub(super) struct Vectors {
    dimensions: usize,
    ids: Vec<u64>,
    values: Vec<f32>,
    places: HashMap<u64, usize>,
}

impl Vectors {
    pub(super) fn new(dimensions: usize) -> Self {
        Self { dimensions, ids: Vec::new(), values: Vec::new(), places: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn ids(&self) -> &[u64] {
        &self.ids
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn into_parts(self) -> (Vec<u64>, Vec<f32>) {
        (self.ids, self.values)
    }

    fn get(&self, place: usize) -> &[f32] {
        &self.values[place * self.dimensions..][..self.dimensions]
    }

    pub(super) fn of(&self, id: u64) -> Option<&[f32]> {
        self.places.get(&id).map(|&place| self.get(place))
    }

    pub(super) fn check(&self, vector: &[f32]) -> Result<(), Error> {
        if vector.len() != self.dimensions {
            let (found, expected) = (vector.len(), self.dimensions);
            return Err(Error::request(format!("vector has {found} values: expected {expected}, as the index has")));
        }
        if !vector.iter().all(|value| value.is_finite()) {
            return Err(Error::request("vector has a value that is not a finite number"));
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        self.check(vector)?;
        if let Some(&place) = self.places.get(&id) {
            self.values[place * self.dimensions..][..self.dimensions].copy_from_slice(vector);
        } else {
            self.places.insert(id, self.ids.len());
            self.ids.push(id);
            self.values.extend_from_slice(vector);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        let last = self.ids.len() - 1;
        if place != last {
            self.values.copy_within(last * self.dimensions..(last + 1) * self.dimensions, place * self.dimensions);
            self.places.insert(self.ids[last], place);
        }
        self.ids.swap_remove(place);
        self.values.truncate(last * self.dimensions);
        true
    }

    pub(super) fn search(&self, vector: &[f32], k: usize, filter: &dyn Fn(u64) -> bool) -> Vec<(u64, f32)> {
        Processor::detect().compute(Compare { vectors: self, vector, best: Best::new(k), filter })
    }
}

/// Compares a vector with all, in the widest registers that there are; the sums are the same in any.
struct Compare<'c> {
    vectors: &'c Vectors,
    vector: &'c [f32],
    best: Best,
    filter: &'c dyn Fn(u64) -> bool,
}

impl Compute for Compare<'_> {
    type Output = Vec<(u64, f32)>;

    #[inline(always)]
    fn on<L: Lanes>(mut self, _lanes: L) -> Self::Output {
        for (place, &id) in self.vectors.ids.iter().enumerate() {
            if (self.filter)(id) {
                self.best.offer(id, dot(self.vector, self.vectors.get(place)));
            }
        }
        self.best.into_sorted()
    }
}

/// The `k` best so far, the worst on top of the heap.
pub(super) struct Best {
    k: usize,
    heap: BinaryHeap<Found>,
}

struct Found {
    id: u64,
    similarity: f32,
}

impl Ord for Found {
    /// The greater is the worse: a lesser cosine, on a tie the greater id.
    fn cmp(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Found {}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// How many are kept.
    pub(super) fn room(&self) -> usize {
        self.k
    }

    /// What a similarity must be at least to be kept.
    pub(super) fn least(&self) -> f32 {
        let is_full = self.heap.len() >= self.k;
        self.heap.peek().filter(|_| is_full).map_or(f32::NEG_INFINITY, |worst| worst.similarity)
    }

    pub(super) fn offer(&mut self, id: u64, similarity: f32) {
        let found = Found { id, similarity };
        if self.heap.len() < self.k {
            self.heap.push(found);
        } else if self.heap.peek().is_some_and(|worst| found < *worst) {
            self.heap.pop();
            self.heap.push(found);
        }
    }

    pub(super) fn into_sorted(self) -> Vec<(u64, f32)> {
        self.heap.into_sorted_vec().into_iter().map(|found| (found.id, found.similarity)).collect()
    }
}
