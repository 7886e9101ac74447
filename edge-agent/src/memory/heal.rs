//! An index whose file turns out damaged while it serves: the file is let go, words alone find what was in it, and its vectors come
//! again from the store, which has them all. After a panic all indexes are made again from it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
};

use models::index::Index;
use rusqlite::{OptionalExtension as _, params};
use shared::digest::Digest;
use tokio::sync::Notify;

use super::{
    Inner, Load,
    index::{Error, from_blob},
    keeping::Opening,
    locks::lock,
};

/// Vectors that are filled in at once: searches wait meanwhile, a millisecond or less.
const FILLED_LEN: usize = 256;

/// The indexes that lack vectors which the store has, each with its embedder.
#[derive(Default)]
pub(super) struct Hurt {
    indexes: Mutex<BTreeSet<(String, Digest)>>,
    /// Told when one comes.
    pub(super) comes: Notify,
}

impl Hurt {
    fn indexes(&self) -> MutexGuard<'_, BTreeSet<(String, Digest)>> {
        lock(&self.indexes)
    }

    fn add(&self, hurt: (String, Digest)) {
        self.indexes().insert(hurt);
        self.comes.notify_one();
    }

    fn take(&self) -> Option<(String, Digest)> {
        self.indexes().pop_first()
    }
}

impl Inner {
    /// Lets the file of an index go that cannot be read, for it to be made again; false when the index has none.
    pub(super) fn distrust(&self, name: &str, embedder: Digest, why: &models::Error) -> bool {
        // A merge reads it too. Where another thread has the merge in hand, it finds that out itself.
        if let Ok(mut merging) = self.merging.try_lock() {
            merging.take_if(|merging| merging.is_of(name, embedder));
        }
        let has_gone = {
            let mut indexes = self.indexes_mut();
            let index = indexes.get_mut(name).and_then(|served| served.of_embedder(embedder));
            index.is_some_and(Index::drop_file)
        };
        if has_gone {
            tracing::warn!(index = name, error = %why, "the index is made again from the store; until then words find its texts");
            if let Some(shelf) = &self.shelf {
                shelf.remove(name, embedder);
            }
            self.hurt.add((name.to_owned(), embedder));
        }
        has_gone
    }

    /// Makes what is served again from the store, where a thread panicked that was changing it: nobody knows how far it came.
    fn reload(&self) -> Result<(), Error> {
        tracing::error!("the indexes are made again from the store: a thread panicked that was changing them");
        let mut opening = Opening::of(self);
        // What changes from now on waits, and is brought to the new ones.
        self.loaded.tell(Load::UnderWay);
        *lock(&self.merging) = None;
        let loaded = self.load();
        opening.outcome = loaded
            .as_ref()
            .map_or_else(|error| Load::Failed(format!("the memory cannot be loaded: {error}")), |()| Load::Done);
        if loaded.is_ok() {
            self.indexes.clear_poison();
        }
        loaded
    }

    /// Fills the indexes again whose files were let go, after a panic all of them.
    pub(super) fn heal(&self) -> Result<(), Error> {
        if self.indexes.is_poisoned() {
            self.reload()?;
        }
        while let Some((name, embedder)) = self.hurt.take() {
            if let Err(error) = self.refill(&name, embedder) {
                self.hurt.add((name, embedder));
                return Err(error);
            }
            tracing::info!(index = name, "the index has all that the store has again");
            // The store has no vectors of an embedder before for what was embedded again since.
            self.complete(&|| self.wanted.has_changed().is_err())?;
        }
        Ok(())
    }

    fn refill(&self, name: &str, embedder: Digest) -> Result<(), Error> {
        let stored = self.store.read_blocking("list the vectors of an index", |connection| {
            let sql = "SELECT c.id FROM memory_document d JOIN memory_chunk c ON c.document = d.id
                       WHERE d.idx = ?1 AND d.embedder = ?2";
            let mut query = connection.prepare(sql)?;
            let ids = query.query_map(params![name, embedder.as_bytes().as_slice()], |row| row.get::<_, i64>(0))?;
            ids.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let has: BTreeSet<i64> = {
            let mut indexes = self.indexes_mut();
            let index = indexes.get_mut(name).and_then(|served| served.of_embedder(embedder));
            let Some(index) = index else { return Ok(()) };
            index.ids().map(u64::cast_signed).collect()
        };
        let lacking: Vec<i64> = stored.into_iter().filter(|id| !has.contains(id)).collect();
        lacking.chunks(FILLED_LEN).try_for_each(|ids| self.fill(name, embedder, ids))
    }

    fn fill(&self, name: &str, embedder: Digest, ids: &[i64]) -> Result<(), Error> {
        let vectors = self.store.read_blocking("load the vectors", |connection| {
            let sql = "SELECT c.vector FROM memory_chunk c JOIN memory_document d ON d.id = c.document
                       WHERE c.id = ?1 AND d.embedder = ?2";
            let mut query = connection.prepare_cached(sql)?;
            let mut vector = |id: &i64| {
                let asked = params![id, embedder.as_bytes().as_slice()];
                let vector = query.query_row(asked, |row| Ok(from_blob(row.get_ref(0)?.as_blob()?)));
                Ok(vector.optional()?.map(|vector| (id.cast_unsigned(), vector)))
            };
            ids.iter().filter_map(|id| vector(id).transpose()).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut indexes = self.indexes_mut();
        let Some(served) = indexes.get_mut(name) else { return Ok(()) };
        for (id, vector) in vectors {
            // What was forgotten meanwhile does not come back.
            let index = if served.roster.has(id) { served.of_embedder(embedder) } else { None };
            if let Some(Err(error)) = index.map(|index| index.fill([(id, vector.as_slice())])) {
                tracing::warn!(id, %error, "a stored vector cannot be used; it is found by its words alone");
            }
        }
        Ok(())
    }
}
