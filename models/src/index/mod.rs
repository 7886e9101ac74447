//! Near vectors: insert, remove, search with a filter; a file that is mapped, and merged anew in idle time.
//!
//! What was merged lies in one file as a flat graph (`flat`), which takes a third of the vectors' memory and is served where it
//! lies. What came since is held beside it (`young`), and hides what it replaces. A [`Merge`] makes one file of both, in steps.
//!
//! The file is a copy: whoever owns the vectors keeps them elsewhere too, tells the index after a restart what it lacks or has in
//! excess ([`Index::ids`]), and makes it anew when its file is damaged.

mod build;
mod codes;
mod exact;
mod filter;
mod flat;
mod graph;
mod merge;
mod young;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use exact::Best;
pub use filter::{Filter, Ids};
pub use flat::mapped_bytes;
use flat::{Asked, Flat, Marks, Room, Row};
pub use merge::{Merge, Merged};
use shared::digest::Digest;
use young::Young;

use crate::Error;

/// How many of the best a search keeps and walks on from: recall over 0.99 where texts are as embedders make them.
const BREADTH: usize = 64;
/// And for each one that is wanted.
const BREADTH_EACH: usize = 4;
/// Fewer changes than this are not worth a merge: comparing them takes less than the walk.
const CHANGES_MIN: usize = 1_000;
/// Nor are fewer than this part of the file, which a merge writes whole.
const CHANGES_PART: usize = 32;
/// Rooms for searches that are kept; more at once make their own.
const ROOMS_MAX: usize = 8;

/// Vectors by id, searched by cosine. All have one length and were made by one embedder.
pub struct Index {
    dimensions: usize,
    embedder: Digest,
    flat: Option<Arc<Flat>>,
    /// Slots of the file that were removed or replaced.
    gone: Marks,
    young: Young,
    /// How many merges began.
    merges: u64,
    /// Ids that changed since the last of them did, while it is under way.
    changed: Option<BTreeSet<u64>>,
    breadth: Option<usize>,
    rooms: Mutex<Vec<Room>>,
}

impl Index {
    /// An empty index for unit vectors of this length, which this embedder makes.
    #[must_use]
    pub fn new(dimensions: usize, embedder: Digest) -> Self {
        let young = Young::new(dimensions);
        let (flat, gone, changed, rooms) = (None, Marks::default(), None, Mutex::default());
        Self { dimensions, embedder, flat, gone, young, merges: 0, changed, breadth: None, rooms }
    }

    /// Maps an index that a merge wrote.
    ///
    /// # Errors
    /// When there is none, it is cut off or damaged, or another embedder made its vectors.
    pub fn open(path: &Path, dimensions: usize, embedder: Digest) -> Result<Self, Error> {
        let flat = Flat::open(path)?;
        if flat.embedder() != embedder || flat.dimensions() != dimensions {
            let (made, found) = (flat.embedder(), flat.dimensions());
            let message = format!(
                "its vectors have {found} values and were made by the embedder {made}; expected {dimensions} values of {embedder}"
            );
            return Err(Error::file(path, message));
        }
        Ok(Self { flat: Some(Arc::new(flat)), ..Self::new(dimensions, embedder) })
    }

    /// Serves what [`Merge::of`] made.
    #[must_use]
    pub fn of(merged: Merged) -> Self {
        let Merged { flat, .. } = merged;
        let empty = Self::new(flat.dimensions(), flat.embedder());
        Self { flat: Some(flat), ..empty }
    }

    /// Has searches keep so many of the best and walk on from them, at least as many as are wanted: more find more of the nearest
    /// and take longer.
    #[must_use]
    pub fn with_breadth(self, breadth: usize) -> Self {
        Self { breadth: Some(breadth), ..self }
    }

    /// How many vectors can be found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flat.as_ref().map_or(0, |flat| flat.len() - self.gone.count()) + self.young.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of each vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Who made the vectors.
    #[must_use]
    pub fn embedder(&self) -> Digest {
        self.embedder
    }

    /// The ids that can be found, in no order.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        let slots = self.flat.iter().flat_map(|flat| std::iter::repeat(flat).zip(0..flat.len() as u32));
        let old = slots.filter(|(_, slot)| !self.gone.has(*slot)).map(|(flat, slot)| flat.id(slot));
        old.chain(self.young.ids().iter().copied())
    }

    /// The vector of an id, as it was given.
    ///
    /// # Errors
    /// When the disk does not give it, or a damaged one.
    pub fn vector(&self, id: u64) -> Result<Option<Vec<f32>>, Error> {
        if let Some(young) = self.young.of(id) {
            return Ok(Some(young.to_vec()));
        }
        let slot = |flat: &Flat| flat.slot(id).filter(|slot| !self.gone.has(*slot));
        let Some((flat, slot)) = self.flat.as_ref().and_then(|flat| Some((flat, slot(flat)?))) else { return Ok(None) };
        let mut row = Row::default();
        flat.read(slot, &mut row)?;
        Ok(Some(row.values))
    }

    /// Puts many unit vectors under their ids at once, as after a restart: none of them is given to the young ones' graph yet.
    ///
    /// # Errors
    /// As [`Index::insert`]; those before the one that does not fit are there.
    pub fn fill<'v>(&mut self, vectors: impl IntoIterator<Item = (u64, &'v [f32])>) -> Result<(), Error> {
        vectors.into_iter().try_for_each(|(id, vector)| {
            self.young.put(id, vector)?;
            self.changed(id);
            Ok(())
        })
    }

    /// Puts a unit vector under an id; what was there before is replaced.
    ///
    /// # Errors
    /// When the vector has another length or a value that is not finite.
    pub fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        self.young.insert(id, vector)?;
        self.changed(id);
        Ok(())
    }

    fn changed(&mut self, id: u64) -> bool {
        if let Some(changed) = &mut self.changed {
            changed.insert(id);
        }
        self.hide(id)
    }

    /// Takes the vector of an id away; false when there was none. It cannot be found from now on; its space is freed by the next merge.
    pub fn remove(&mut self, id: u64) -> bool {
        let was_young = self.young.remove(id);
        self.changed(id) || was_young
    }

    /// Hides what the file holds of an id; true when it was found there until now.
    fn hide(&mut self, id: u64) -> bool {
        let slot = self.flat.as_ref().and_then(|flat| flat.slot(id));
        slot.is_some_and(|slot| self.gone.set(slot))
    }

    /// Gives up to `count` of the young vectors that wait for it to their graph, each some milliseconds of work; false when none
    /// waits. Only many young vectors have a graph.
    pub fn tend(&mut self, count: usize) -> bool {
        self.young.tend(count)
    }

    /// The `k` nearest ids that the filter lets pass with their cosines, nearest first; ties by id. A filter that few pass is
    /// served exactly.
    ///
    /// # Errors
    /// When the vector has another length or a value that is not finite, or the file turns out damaged.
    pub fn search(&self, vector: &[f32], k: usize, filter: Filter<'_>) -> Result<Vec<(u64, f32)>, Error> {
        self.young.check(vector)?;
        let mut best = Best::new(k);
        if k == 0 {
            return Ok(Vec::new());
        }
        if !self.young.is_empty() {
            let young = self.young.search(vector, k, &|id| filter.passes(|| id));
            young.into_iter().for_each(|(id, similarity)| best.offer(id, similarity));
        }
        if let Some(flat) = &self.flat {
            let rooms = || self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            let mut room = rooms().pop().unwrap_or_default();
            let breadth = self.breadth.unwrap_or(BREADTH.max(k * BREADTH_EACH));
            let asked = Asked { vector, breadth, filter: &filter, gone: &self.gone };
            flat.search(&asked, &mut room, &mut best)?;
            let mut rooms = rooms();
            if rooms.len() < ROOMS_MAX {
                rooms.push(room);
            }
        }
        Ok(best.into_sorted())
    }

    /// Lets the file go, as when it turned out damaged: what it held cannot be found until it is put in again, and a merge under way is
    /// given up. False when there was none. The file itself stays where it is.
    pub fn drop_file(&mut self) -> bool {
        (self.gone, self.changed) = (Marks::default(), None);
        self.merges += 1;
        self.flat.take().is_some()
    }

    /// Whether the file has all that is here and nothing else.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        self.flat.is_some() && self.young.is_empty() && self.gone.count() == 0
    }

    /// How many vectors are not in the file yet.
    #[must_use]
    pub fn unmerged(&self) -> usize {
        self.young.len()
    }

    /// How many vectors the file still holds that were removed or replaced.
    #[must_use]
    pub fn gone(&self) -> usize {
        self.gone.count()
    }

    /// Whether so much changed since the last merge that another pays.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let merged = self.flat.as_ref().map_or(0, |flat| flat.len());
        self.young.len() + self.gone.count() >= CHANGES_MIN.max(merged / CHANGES_PART)
    }

    /// Begins a merge of what is there now. Another that is under way is given up: what it brings is not taken over any more.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn merge(&mut self) -> Result<Merge, Error> {
        let flat = self.flat.as_ref().map(|flat| (Arc::clone(flat), &self.gone));
        let young = (self.young.ids().to_vec(), self.young.values().to_vec());
        let merge = Merge::new(self.merges + 1, self.dimensions, self.embedder, flat, young)?;
        self.merges += 1;
        self.changed = Some(BTreeSet::new());
        Ok(merge)
    }

    /// Serves what a merge made, with what changed since it began.
    ///
    /// # Errors
    /// When it is not the last merge of this index that began, or was taken over before.
    pub fn adopt(&mut self, Merged { number, flat }: Merged) -> Result<(), Error> {
        let Some(changed) = self.changed.take_if(|_| number == self.merges) else {
            return Err(Error::request("this merge of the index was given up for a later one"));
        };
        self.young = self.young.only(&changed)?;
        self.gone = Marks::default();
        self.flat = Some(flat);
        for id in changed {
            self.hide(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
