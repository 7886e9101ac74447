//! The vector indexes between two starts: files that are mapped, and merged anew in idle time.
//!
//! The store has every vector, so a file is a copy that may be missing, old or damaged: at a start it is brought in step with
//! the store, and what cannot be trusted is made again. When another embedder was chosen, the index of the one before goes on to
//! serve, and the new one grows beside it until it is complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use models::{
    embed::Embedder,
    index::{Index, Merge},
};
use rusqlite::{Connection, OptionalExtension as _};
use shared::digest::Digest;

use super::{
    Inner,
    index::{Error, from_blob},
};

/// Vectors of a file that are compared with the store's, to notice a store that was put in place of another.
const COMPARED: usize = 16;
/// Vectors that a merge puts in with each step: a fraction of a second on a small machine.
const STEP_LEN: usize = 64;
/// Vectors that are put into a young graph in one go: searches wait meanwhile, each vector takes a few milliseconds.
const TEND_LEN: usize = 4;

/// One index as it is searched.
pub(super) struct Served {
    pub(super) index: Index,
    /// Grows with the vectors of the embedder that was chosen since, and takes over when it has all.
    pub(super) next: Option<Index>,
}

impl Served {
    pub(super) fn of(index: Index) -> Self {
        Self { index, next: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty() && self.next.as_ref().is_none_or(Index::is_empty)
    }

    /// The index that new vectors belong to.
    pub(super) fn newest(&mut self) -> &mut Index {
        self.next.as_mut().unwrap_or(&mut self.index)
    }

    fn of_embedder(&mut self, embedder: Digest) -> Option<&mut Index> {
        [Some(&mut self.index), self.next.as_mut()].into_iter().flatten().find(|index| index.embedder() == embedder)
    }
}

/// Where the files are.
pub(super) struct Shelf {
    folder: PathBuf,
}

/// A merge under way.
pub(super) struct Merging {
    name: String,
    embedder: Digest,
    merge: Merge,
}

impl Merging {
    fn of(name: &str, index: &mut Index) -> Result<Self, Error> {
        let merge = index.merge().map_err(|source| Error::Index { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), embedder: index.embedder(), merge })
    }
}

/// Ids of the chunks of one index, by the embedder that made the vectors that the store has.
type Stored = BTreeMap<Digest, BTreeSet<i64>>;

impl Shelf {
    /// The folder's files; it is made when the first is written.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// A name may hold anything, its digest is a file's name.
    fn path(&self, name: &str, embedder: Digest) -> PathBuf {
        let name = Digest::of(name.as_bytes()).to_string().replace("sha256:", "");
        self.folder.join(format!("{name}-{}.index", embedder.short()))
    }

    fn make(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(|source| Error::Shelf { folder: self.folder.clone(), source })
    }

    /// Removes the files of indexes that are served no more.
    fn clear(&self, served: &BTreeMap<String, Served>) {
        let of = |(name, served): (&String, &Served)| {
            let indexes = std::iter::once(&served.index).chain(&served.next);
            indexes.map(|index| self.path(name, index.embedder())).collect::<Vec<_>>()
        };
        let wanted: BTreeSet<PathBuf> = served.iter().flat_map(of).collect();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !wanted.contains(&entry.path())
                && let Err(error) = std::fs::remove_file(entry.path())
            {
                tracing::warn!(file = %entry.path().display(), %error, "an index that nobody needs any more stays");
            }
        }
    }
}

impl Inner {
    /// Makes the indexes as the store has them, from their files as far as they go.
    pub(super) fn load(&self) -> Result<(), Error> {
        let newest = self.embedder.digest();
        let mut served = BTreeMap::new();
        for (name, mut stored) in self.stored()? {
            let new = stored.remove(&newest).unwrap_or_default();
            // Of several that served before, the one with the most is the last that was complete.
            let before = stored.into_iter().filter(|(embedder, _)| self.embedder_of(*embedder).is_some());
            let Some((embedder, ids)) = before.max_by_key(|(_, ids)| ids.len()) else {
                served.insert(name.clone(), Served::of(self.open(&name, &*self.embedder, &new, &BTreeSet::new())?));
                continue;
            };
            let Some(old) = self.embedder_of(embedder) else { continue };
            let next = self.open(&name, &*self.embedder, &new, &BTreeSet::new())?;
            let index = self.open(&name, &**old, &ids, &new)?;
            served.insert(name, Served { index, next: Some(next) });
        }
        if let Some(shelf) = &self.shelf {
            shelf.clear(&served);
        }
        self.whole.write().expect("no thread panicked with the indexes").extend(served.keys().cloned());
        *self.indexes.write().expect("no thread panicked with the indexes") = served;
        Ok(())
    }

    /// The embedder with this digest, if the node has it.
    pub(super) fn embedder_of(&self, digest: Digest) -> Option<&Arc<dyn Embedder>> {
        std::iter::once(&self.embedder).chain(&self.others).find(|embedder| embedder.digest() == digest)
    }

    fn stored(&self) -> Result<BTreeMap<String, Stored>, Error> {
        let read = self.store.read_blocking("list the vectors", |connection| {
            let sql = "SELECT d.idx, d.embedder, c.id FROM memory_document d JOIN memory_chunk c ON c.document = d.id";
            let mut query = connection.prepare(sql)?;
            let mut rows = query.query([])?;
            let mut stored: BTreeMap<String, Stored> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (name, embedder) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?);
                let Ok(embedder) = <[u8; 32]>::try_from(embedder) else { continue };
                if !stored.contains_key(name) {
                    stored.insert(name.to_owned(), Stored::new());
                }
                let Some(of) = stored.get_mut(name) else { continue };
                of.entry(Digest::from_bytes(embedder)).or_default().insert(row.get(2)?);
            }
            Ok(stored)
        });
        Ok(read?)
    }

    /// An index of what the store has with this embedder's vectors. `kept` are ids that its file may have too: the store has
    /// their vectors by a newer embedder.
    fn open(
        &self,
        name: &str,
        embedder: &dyn Embedder,
        ids: &BTreeSet<i64>,
        kept: &BTreeSet<i64>,
    ) -> Result<Index, Error> {
        let (dimensions, digest) = (embedder.dimensions(), embedder.digest());
        let path = self.shelf.as_ref().map(|shelf| shelf.path(name, digest)).filter(|path| path.exists());
        let mapped = path.and_then(|path| match Index::open(&path, dimensions, digest) {
            Ok(index) => Some(index),
            Err(error) => {
                tracing::warn!(%error, "the index is made again from the store");
                None
            }
        });
        let fresh = || Index::new(dimensions, digest);
        let mut index = match mapped {
            Some(index) if self.is_of_store(&index, ids)? => index,
            Some(_) => {
                tracing::warn!(name, "the index is of another store and is made again");
                fresh()
            }
            None => fresh(),
        };
        let has: BTreeSet<i64> = index.ids().map(u64::cast_signed).collect();
        for id in has.iter().filter(|id| !ids.contains(id) && !kept.contains(id)) {
            index.remove(id.cast_unsigned());
        }
        self.store.read_blocking("load the vectors", |connection| {
            for id in ids.difference(&has) {
                let Some(vector) = vector_of(connection, *id)? else { continue };
                if let Err(error) = index.fill([(id.cast_unsigned(), vector.as_slice())]) {
                    tracing::warn!(id, %error, "a stored vector cannot be used; it is found by its words alone");
                }
            }
            Ok(())
        })?;
        Ok(index)
    }

    /// Whether an index was made from this store and not from one that stood here before, or that went back in time since.
    fn is_of_store(&self, index: &Index, ids: &BTreeSet<i64>) -> Result<bool, Error> {
        let newest = index.ids().max().unwrap_or(0).cast_signed();
        let (last, same) = self.store.read_blocking("compare an index", |connection| {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'memory_chunk'";
            let last: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
            let mut same = true;
            for id in ids.iter().step_by((ids.len() / COMPARED).max(1)) {
                // One that the index does not have, or cannot read, says nothing here.
                if let Ok(Some(vector)) = index.vector(id.cast_unsigned()) {
                    same &= vector_of(connection, *id)?.is_some_and(|stored| stored == vector);
                }
            }
            Ok((last.unwrap_or(0), same))
        })?;
        Ok(same && newest <= last)
    }

    /// Writes what serves until the switch, before its vectors are replaced in the store: it must outlive a restart.
    pub(super) fn outlive(&self) -> Result<(), Error> {
        let Some(shelf) = &self.shelf else { return Ok(()) };
        let begun = {
            // Another merge of the same index would be given up.
            *self.merging.lock().expect("no thread panicked with the merge") = None;
            let mut indexes = self.indexes.write().expect("no thread panicked with the indexes");
            let old = indexes.iter_mut().filter(|(_, served)| served.next.is_some() && !served.index.is_merged());
            old.map(|(name, served)| Merging::of(name, &mut served.index)).collect::<Result<Vec<_>, _>>()?
        };
        begun.into_iter().try_for_each(|merging| self.finish(merging, shelf))
    }

    /// Writes what was merged and serves it.
    fn finish(&self, Merging { name, embedder, merge }: Merging, shelf: &Shelf) -> Result<(), Error> {
        let failed = |source| Error::Index { name: name.clone(), source };
        shelf.make()?;
        let merged = merge.finish(&shelf.path(&name, embedder)).map_err(failed)?;
        let mut indexes = self.indexes.write().expect("no thread panicked with the indexes");
        // Gone meanwhile: then nobody wants this one.
        let index = indexes.get_mut(&name).and_then(|served| served.of_embedder(embedder));
        index.map_or(Ok(()), |index| index.adopt(merged).map_err(failed))
    }

    /// Lets the indexes whose new vectors are complete take over from those that served until then.
    pub(super) fn switch(&self) -> Result<(), Error> {
        let newest = self.embedder.digest();
        let waiting = self.store.read_blocking("find what is to be embedded again", |connection| {
            let mut query = connection.prepare("SELECT DISTINCT idx FROM memory_document WHERE embedder <> ?1")?;
            query.query_map([newest.as_bytes().as_slice()], |row| row.get(0))?.collect::<Result<BTreeSet<String>, _>>()
        })?;
        let mut indexes = self.indexes.write().expect("no thread panicked with the indexes");
        for (_, served) in indexes.iter_mut().filter(|(name, _)| !waiting.contains(*name)) {
            if let Some(next) = served.next.take() {
                served.index = next;
            }
        }
        if let Some(shelf) = &self.shelf {
            shelf.clear(&indexes);
        }
        Ok(())
    }

    /// One step of what idle time is for: a merge, or the graph of many young vectors. False when there is nothing to do.
    pub(super) fn tend(&self) -> Result<bool, Error> {
        let mut under_way = self.merging.lock().expect("no thread panicked with the merge");
        let Some(mut merging) = under_way.take() else {
            let mut indexes = self.indexes.write().expect("no thread panicked with the indexes");
            *under_way = self.shelf.as_ref().map(|_| begin(&mut indexes)).transpose()?.flatten();
            let mut all =
                indexes.values_mut().flat_map(|served| std::iter::once(&mut served.index).chain(&mut served.next));
            return Ok(under_way.is_some() || all.any(|index| index.tend(TEND_LEN)));
        };
        let failed = |source| Error::Index { name: merging.name.clone(), source };
        if merging.merge.step(STEP_LEN).map_err(failed)? {
            *under_way = Some(merging);
            return Ok(true);
        }
        self.shelf.as_ref().map_or(Ok(()), |shelf| self.finish(merging, shelf))?;
        Ok(true)
    }
}

/// Begins the merge of the first index that needs one.
fn begin(indexes: &mut BTreeMap<String, Served>) -> Result<Option<Merging>, Error> {
    for (name, served) in indexes {
        let mut due = std::iter::once(&mut served.index).chain(&mut served.next).filter(|index| index.is_due());
        if let Some(index) = due.next() {
            return Merging::of(name, index).map(Some);
        }
    }
    Ok(None)
}

fn vector_of(connection: &Connection, id: i64) -> rusqlite::Result<Option<Vec<f32>>> {
    let mut query = connection.prepare_cached("SELECT vector FROM memory_chunk WHERE id = ?1")?;
    query.query_row([id], |row| Ok(from_blob(row.get_ref(0)?.as_blob()?))).optional()
}
