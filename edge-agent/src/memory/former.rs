//! The embedder that was chosen before the present one: loaded again at a start, from where its files were then, to serve queries until the
//! present one's index is complete. Without it texts are found by their words, and by meaning as far as they were embedded again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use models::embed::{Embedder, default_embedder};
use rusqlite::{OptionalExtension as _, params};
use shared::digest::Digest;

use super::{
    Inner, Model,
    index::{Error, embedded, insert},
    locks::lock,
    shelf::Served,
};

/// Texts that are brought into an index in one go, under its lock.
const COMPLETED_LEN: usize = 32;

/// Loads an embedder from where it was said to be, if it has room; else why not, for people.
pub type Recall = Box<dyn Fn(&str) -> Result<Arc<dyn Embedder>, String> + Send + Sync>;

/// The embedder that was chosen, and how those are found again that were chosen before.
pub struct Embedders {
    pub chosen: Arc<dyn Embedder>,
    /// What `recall` loads the chosen one by at a later start; none for the built-in one, which is always there.
    pub origin: Option<String>,
    pub recall: Recall,
}

impl From<Arc<dyn Embedder>> for Embedders {
    fn from(chosen: Arc<dyn Embedder>) -> Self {
        let recall = Box::new(|origin: &str| Err(format!("nobody here loads {origin}")));
        Self { chosen, origin: None, recall }
    }
}

/// Those that were loaded again.
pub(super) struct Former {
    pub origin: Option<String>,
    pub recall: Recall,
    /// `None`: it cannot be loaded, and was told so.
    pub known: Mutex<BTreeMap<Digest, Option<Arc<dyn Embedder>>>>,
}

impl Former {
    /// Gives back their memory.
    pub(super) fn dismiss(&self) {
        lock(&self.known).clear();
    }

    /// What the one is called that is there, unless one is being loaded.
    pub(super) fn name(&self) -> Option<String> {
        self.known.try_lock().ok()?.values().flatten().next().map(|former| former.name().to_owned())
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.known).len()
    }
}

impl Inner {
    /// The embedder with this digest, if the node has it. The first call for one that was chosen before loads it.
    pub(super) fn embedder_of(&self, digest: Digest) -> Option<Arc<dyn Embedder>> {
        let at_hand = [Arc::clone(&self.embedder), default_embedder()];
        if let Some(embedder) = at_hand.into_iter().find(|embedder| embedder.digest() == digest) {
            return Some(embedder);
        }
        let mut known = lock(&self.former.known);
        let recalled = known.entry(digest).or_insert_with(|| {
            let recalled = self.recall(digest);
            let why = recalled.as_ref().err();
            if let Some(why) = why {
                tracing::warn!(
                    embedder = %digest.short(), why,
                    "what the embedder before made cannot be searched by meaning: words find it, and meaning as far as it is embedded again"
                );
            }
            recalled.ok()
        });
        recalled.clone()
    }

    /// Which of the models that take turns an embedder is.
    pub(super) fn model(&self, embedder: &dyn Embedder) -> Model {
        if embedder.digest() == self.embedder.digest() { Model::Embedder } else { Model::Former }
    }

    fn recall(&self, digest: Digest) -> Result<Arc<dyn Embedder>, String> {
        let origin = self.store.read_blocking("read where an embedder was", |connection| {
            let sql = "SELECT origin FROM memory_embedder WHERE digest = ?1";
            connection.query_row(sql, [digest.as_bytes().as_slice()], |row| row.get::<_, String>(0)).optional()
        });
        let origin = origin.map_err(|error| error.to_string())?;
        let origin = origin.ok_or("where its files are was not noted")?;
        let embedder = (self.former.recall)(&origin)?;
        if embedder.digest() == digest {
            tracing::info!(embedder = embedder.name(), "the embedder before serves until all is embedded again");
            return Ok(embedder);
        }
        Err(format!("its files are another model's now: {origin}"))
    }

    /// Notes where the chosen embedder is found at a later start, and forgets those that made nothing that is still there.
    pub(super) fn note(&self) -> Result<(), Error> {
        let (digest, origin) = (self.embedder.digest(), self.former.origin.clone());
        self.store.write_blocking("note where the embedder is", move |tx| {
            let connection = tx.connection();
            let sql = "DELETE FROM memory_embedder WHERE digest NOT IN (SELECT embedder FROM memory_document)";
            connection.execute(sql, [])?;
            if let Some(origin) = origin {
                let sql = "INSERT INTO memory_embedder (digest, origin) VALUES (?1, ?2)
                           ON CONFLICT (digest) DO UPDATE SET origin = excluded.origin";
                connection.execute(sql, params![digest.as_bytes().as_slice(), origin])?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Brings texts that came since another embedder was chosen into the indexes that serve until the switch, where a restart lost them: their
    /// files were written before, and the store has no vectors of the old embedder for them.
    pub(super) fn complete(&self, is_outdated: &(dyn Fn() -> bool + Sync)) -> Result<(), Error> {
        let lacks = |(name, served): (&String, &Served)| {
            served.next.as_ref()?;
            let has: BTreeSet<u64> = served.index.ids().collect();
            let lacking: Vec<i64> = served.roster.ids().filter(|id| !has.contains(id)).map(u64::cast_signed).collect();
            Some((name.clone(), served.index.embedder(), lacking))
        };
        let lacking: Vec<_> = self.indexes().iter().filter_map(lacks).collect();
        for (index, digest, ids) in lacking {
            let Some(embedder) = self.embedder_of(digest) else { continue };
            for ids in ids.chunks(COMPLETED_LEN) {
                if is_outdated() {
                    return Ok(());
                }
                self.complete_some(&index, &*embedder, ids)?;
            }
        }
        Ok(())
    }

    fn complete_some(&self, index: &str, embedder: &dyn Embedder, ids: &[i64]) -> Result<(), Error> {
        let texts = self.store.read_blocking("read stored texts", |connection| {
            let mut query = connection.prepare_cached("SELECT place, text FROM memory_chunk WHERE id = ?1")?;
            let row = |row: &rusqlite::Row<'_>| Ok(embedded(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?));
            let text = |id: &i64| Ok(query.query_row([id], row).optional()?.map(|text| (id.cast_unsigned(), text)));
            ids.iter().map(text).filter_map(Result::transpose).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let (ids, texts): (Vec<u64>, Vec<String>) = texts.into_iter().unzip();
        let vectors = self.vectors(embedder, index, &texts, &|| false)?;
        self.changing(|indexes| {
            let Some(served) = indexes.get_mut(index).filter(|served| served.is_before(embedder.digest())) else {
                return;
            };
            for (id, vector) in ids.iter().zip(&vectors) {
                if served.roster.has(*id) {
                    insert(&mut served.index, *id, vector);
                }
            }
        });
        Ok(())
    }
}
