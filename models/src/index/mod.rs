//! Near vectors: insert, remove, search with a filter, save, load.

mod exact;
mod frame;

use std::path::Path;

use exact::Vectors;

use crate::Error;

/// Vectors by id, searched by cosine. All vectors have one length, given at the start.
pub struct Hnsw {
    vectors: Vectors,
}

impl Hnsw {
    /// An empty index for unit vectors of this length.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self { vectors: Vectors::new(dimensions) }
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
        self.vectors.insert(id, vector)
    }

    /// Takes the vector of an id away; false when there was none.
    pub fn remove(&mut self, id: u64) -> bool {
        self.vectors.remove(id)
    }

    /// The `k` nearest ids that the filter lets pass with their cosines, nearest first; ties by id.
    ///
    /// # Errors
    /// When the vector has another length or a value that is not finite.
    pub fn search(&self, vector: &[f32], k: usize, filter: &dyn Fn(u64) -> bool) -> Result<Vec<(u64, f32)>, Error> {
        self.vectors.check(vector)?;
        Ok(self.vectors.search(vector, k, filter))
    }

    /// Writes the index to a file: beside it first, then renamed over it, so that a reader finds the old or the new one whole.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        frame::save(path, &self.vectors)
    }

    /// Reads an index that [`Hnsw::save`] wrote.
    ///
    /// # Errors
    /// When the file is cut off, damaged or of another kind.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Ok(Self { vectors: frame::load(path)? })
    }
}
