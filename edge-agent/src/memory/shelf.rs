//! The vector indexes between two starts: files that are mapped, and merged anew in idle time.
//!
//! The store has every vector, so a file is a copy that may be missing, old or damaged: at a start it is brought in step with
//! the store, and what cannot be trusted is made again. When another embedder was chosen, the index of the one before goes on to
//! serve (`former`), and the new one grows beside it until it is complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{RwLockReadGuard, RwLockWriteGuard, atomic::Ordering},
    time::Duration,
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
    locks::{lock, read, write},
    rest::lowest,
    roster::{Kin, Roster},
    wipe::Purge,
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
    pub(super) roster: Roster,
    pub(super) purge: Purge,
}

impl Served {
    pub(super) fn of(index: Index) -> Self {
        Self { index, next: None, roster: Roster::default(), purge: Purge::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.roster.is_empty() && self.index.is_empty() && self.next.as_ref().is_none_or(Index::is_empty)
    }

    /// The index that new vectors belong to.
    pub(super) fn newest(&mut self) -> &mut Index {
        self.next.as_mut().unwrap_or(&mut self.index)
    }

    /// Whether this embedder's index serves until another one's is complete.
    pub(super) fn is_before(&self, embedder: Digest) -> bool {
        self.next.is_some() && self.index.embedder() == embedder
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.roster.remove(id);
        self.forget(id);
    }

    /// Takes out what is over at this age.
    pub(super) fn end(&mut self, age: i64) {
        for id in self.roster.end(age) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u64) {
        for index in self.all() {
            index.remove(id);
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Index> {
        std::iter::once(&mut self.index).chain(&mut self.next)
    }

    /// Whether a file still holds vectors that were removed.
    fn holds_removed(&mut self) -> bool {
        self.all().any(|index| index.gone() > 0)
    }

    pub(super) fn of_embedder(&mut self, embedder: Digest) -> Option<&mut Index> {
        self.all().find(|index| index.embedder() == embedder)
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

    pub(super) fn is_of(&self, name: &str, embedder: Digest) -> bool {
        self.name == name && self.embedder == embedder
    }
}

/// The chunks of one index: their ids by the embedder that made the vectors that the store has, and all of them with what a filter
/// asks for.
#[derive(Default)]
struct Stored {
    by_embedder: BTreeMap<Digest, BTreeSet<i64>>,
    roster: Roster,
}

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

    /// Removes the file of an index.
    pub(super) fn remove(&self, name: &str, embedder: Digest) {
        let path = self.path(name, embedder);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "the file of an index stays");
        }
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
        self.note().unwrap_or_else(|error| tracing::warn!(%error, "a later start will not find this embedder again"));
        let was_purging = self.resume()?;
        let mut served = BTreeMap::new();
        for (name, Stored { mut by_embedder, roster }) in self.stored()? {
            let new = by_embedder.remove(&newest).unwrap_or_default();
            let next = self.open(&name, &*self.embedder, &new, &BTreeSet::new())?;
            // Of several that served before, the one with the most is the last that was complete.
            let mut before: Vec<_> = by_embedder.into_iter().collect();
            before.sort_by_key(|(_, ids)| std::cmp::Reverse(ids.len()));
            let found = before.into_iter().find_map(|(digest, ids)| Some((self.embedder_of(digest)?, ids)));
            let mut own = match found {
                Some((old, ids)) => Served { next: Some(next), ..Served::of(self.open(&name, &*old, &ids, &new)?) },
                None => Served::of(next),
            };
            own.roster = roster;
            if was_purging && own.holds_removed() {
                own.purge.ask(self.age.passed());
            }
            served.insert(name, own);
        }
        if let Some(shelf) = &self.shelf {
            shelf.clear(&served);
        }
        write(&self.whole).extend(served.keys().cloned());
        *self.indexes_mut() = served;
        Ok(())
    }

    fn stored(&self) -> Result<BTreeMap<String, Stored>, Error> {
        let read = self.store.read_blocking("list the vectors", |connection| {
            let sql = "SELECT d.idx, d.embedder, c.id, d.label, d.remembered, d.source, e.outcome, d.expires
                       FROM memory_document d JOIN memory_chunk c ON c.document = d.id LEFT JOIN memory_episode e ON e.document = d.id";
            let mut query = connection.prepare(sql)?;
            let mut rows = query.query([])?;
            let mut stored: BTreeMap<String, Stored> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (name, embedder, id) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?, row.get(2)?);
                if !stored.contains_key(name) {
                    stored.insert(name.to_owned(), Stored::default());
                }
                let Some(of) = stored.get_mut(name) else { continue };
                let label = serde_json::from_str(row.get_ref(3)?.as_str()?).ok();
                let kin = Kin { label, form: row.get(4)?, source: row.get(5)?, outcome: row.get(6)? };
                of.roster.insert(i64::cast_unsigned(id), &kin, row.get(7)?);
                let Ok(embedder) = <[u8; 32]>::try_from(embedder) else { continue };
                of.by_embedder.entry(Digest::from_bytes(embedder)).or_default().insert(id);
            }
            Ok(stored)
        });
        Ok(read?)
    }

    /// An index of the present embedder with nothing in it.
    pub(super) fn fresh(&self) -> Index {
        Index::new(self.embedder.dimensions(), self.embedder.digest())
    }

    pub(super) fn indexes(&self) -> RwLockReadGuard<'_, BTreeMap<String, Served>> {
        self.notice();
        read(&self.indexes)
    }

    pub(super) fn indexes_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Served>> {
        self.notice();
        write(&self.indexes)
    }

    /// Has the indexes put right soon, if a thread panicked that was changing them.
    fn notice(&self) {
        if self.indexes.is_poisoned() {
            self.hurt.comes.notify_one();
        }
    }

    /// Changes what is served, once it is loaded. Indexes with nothing in them any more go, with their files. Where loading failed
    /// nothing is served: what the store has by now comes with the load that succeeds.
    pub(super) fn changing(&self, change: impl FnOnce(&mut BTreeMap<String, Served>)) {
        if self.loaded.wait().is_err() {
            return;
        }
        let mut indexes = self.indexes_mut();
        change(&mut indexes);
        let before = indexes.len();
        indexes.retain(|_, served| !served.is_empty());
        if indexes.len() < before {
            self.has_strays.store(true, Ordering::Relaxed);
        }
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
            *lock(&self.merging) = None;
            let mut indexes = self.indexes_mut();
            let old = indexes.iter_mut().filter(|(_, served)| served.next.is_some() && !served.index.is_merged());
            old.map(|(name, served)| Merging::of(name, &mut served.index)).collect::<Result<Vec<_>, _>>()?
        };
        begun.into_iter().try_for_each(|merging| self.finish(merging, shelf))
    }

    /// Writes what was merged and serves it; not where the file that was merged turns out damaged.
    fn finish(&self, Merging { name, embedder, merge }: Merging, shelf: &Shelf) -> Result<(), Error> {
        let failed = |source| Error::Index { name: name.clone(), source };
        shelf.make()?;
        let path = shelf.path(&name, embedder);
        let thread = |source| Error::Thread { name: name.clone(), source };
        let merged = match lowest(|| merge.finish(&path)).map_err(thread)? {
            Err(error) if error.is_unreadable() && self.distrust(&name, embedder, &error) => return Ok(()),
            merged => merged.map_err(failed)?,
        };
        let mut indexes = self.indexes_mut();
        let index = indexes.get_mut(&name).and_then(|served| served.of_embedder(embedder));
        let Some(index) = index else {
            // Gone meanwhile: then nobody wants this one.
            self.has_strays.store(true, Ordering::Relaxed);
            return Ok(());
        };
        index.adopt(merged).map_err(failed)
    }

    /// Lets the indexes whose new vectors are complete take over from those that served until then.
    pub(super) fn switch(&self) -> Result<(), Error> {
        let newest = self.embedder.digest();
        let waiting = self.store.read_blocking("find what is to be embedded again", |connection| {
            let mut query = connection.prepare("SELECT DISTINCT idx FROM memory_document WHERE embedder <> ?1")?;
            query.query_map([newest.as_bytes().as_slice()], |row| row.get(0))?.collect::<Result<BTreeSet<String>, _>>()
        })?;
        let mut indexes = self.indexes_mut();
        for (_, served) in indexes.iter_mut().filter(|(name, _)| !waiting.contains(*name)) {
            if let Some(next) = served.next.take() {
                served.index = next;
            }
        }
        if let Some(shelf) = &self.shelf {
            shelf.clear(&indexes);
        }
        if indexes.values().all(|served| served.next.is_none()) {
            self.former.dismiss();
        }
        Ok(())
    }

    /// How many vectors the index has at most that waits for its merge the most.
    pub(super) fn unmerged(&self) -> usize {
        let indexes = self.indexes();
        let counts = indexes.values().flat_map(|served| std::iter::once(&served.index).chain(&served.next));
        counts.map(Index::unmerged).max().unwrap_or(0)
    }

    /// One step of what idle time is for: a merge, or the graph of many young vectors. False when there is nothing to do.
    pub(super) fn tend(&self) -> Result<bool, Error> {
        let mut under_way = lock(&self.merging);
        let Some(mut merging) = under_way.take() else {
            let mut indexes = self.indexes_mut();
            if let Some(shelf) = &self.shelf {
                if self.has_strays.swap(false, Ordering::Relaxed) {
                    shelf.clear(&indexes);
                }
                *under_way = begin(&mut indexes, self.age.passed())?;
            }
            return Ok(
                under_way.is_some() || indexes.values_mut().flat_map(Served::all).any(|index| index.tend(TEND_LEN))
            );
        };
        // The rest of what is done here holds locks that searches want, and is short.
        let stepped = lowest(|| merging.merge.step(STEP_LEN));
        let name = || merging.name.clone();
        let stepped = stepped.map_err(|source| Error::Thread { name: name(), source })?;
        if stepped.map_err(|source| Error::Index { name: name(), source })? {
            *under_way = Some(merging);
            return Ok(true);
        }
        self.shelf.as_ref().map_or(Ok(()), |shelf| self.finish(merging, shelf))?;
        Ok(true)
    }
}

/// Begins the merge of the first index that needs one.
fn begin(indexes: &mut BTreeMap<String, Served>, now: Duration) -> Result<Option<Merging>, Error> {
    for (name, served) in indexes {
        let purges = served.purge.is_due(now);
        if purges {
            // Those that nobody needs to merge for have gone, or were never in a file.
            let stays = served.holds_removed();
            served.purge.begin(now, stays);
        }
        if let Some(index) = served.all().find(|index| index.is_due() || (purges && index.gone() > 0)) {
            return Merging::of(name, index).map(Some);
        }
    }
    Ok(None)
}

fn vector_of(connection: &Connection, id: i64) -> rusqlite::Result<Option<Vec<f32>>> {
    let mut query = connection.prepare_cached("SELECT vector FROM memory_chunk WHERE id = ?1")?;
    query.query_row([id], |row| Ok(from_blob(row.get_ref(0)?.as_blob()?))).optional()
}
