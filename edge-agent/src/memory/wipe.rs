//! Takes text off the disk, not only out of reach. What the memory deletes is overwritten in the store's file; the rest of the store does without,
//! because it deletes all day what nobody asked to have deleted. What a removal by source or subject leaves in the indexes, words and
//! vectors, goes in idle time: to take it out of them at once would take milliseconds for each passage, while all else waits.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use rusqlite::Connection;

use super::{Inner, index::Error};

/// How long after the first removal an index is made anew without what was removed: others of the same person follow in the same minute.
const PURGE_AFTER: Duration = Duration::from_secs(60);
/// And at most how often: it writes the whole index.
const PURGE_EVERY: Duration = Duration::from_secs(600);
/// Pages of the full-text index that are merged in one step, some ten milliseconds.
const MERGED_PAGES: i64 = 64;

/// Chunks that are put into it anew in one step.
const PARTED: i64 = 64;

/// While it is there, what this connection deletes or moves is overwritten.
pub(super) struct Wiping<'c>(&'c Connection);

impl<'c> Wiping<'c> {
    pub(super) fn begin(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.execute_batch("PRAGMA secure_delete = ON")?;
        Ok(Self(connection))
    }

    pub(super) const fn connection(&self) -> &'c Connection {
        self.0
    }

    /// Removes a document with its chunks; returns the chunks' ids.
    pub(super) fn remove(&self, document: i64) -> rusqlite::Result<Vec<i64>> {
        let ids = self
            .0
            .prepare_cached("DELETE FROM memory_chunk WHERE document = ?1 RETURNING id")?
            .query_map([document], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        self.0.prepare_cached("DELETE FROM memory_document WHERE id = ?1")?.execute([document])?;
        Ok(ids)
    }
}

impl Drop for Wiping<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.execute_batch("PRAGMA secure_delete = OFF") {
            tracing::warn!(%error, "what is deleted goes on to be overwritten");
        }
    }
}

/// When an index is made anew because somebody asked for texts to be gone: soon, but once for many removals.
#[derive(Debug, Default)]
pub(super) struct Purge {
    /// By the clock of this process.
    asked: Option<Duration>,
    /// The last time.
    began: Option<Duration>,
}

impl Purge {
    pub(super) fn ask(&mut self, now: Duration) {
        self.asked.get_or_insert(now);
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether it is time to begin.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let has_passed = |since: Option<Duration>, span| since.is_none_or(|since| now.saturating_sub(since) >= span);
        self.is_asked() && has_passed(self.asked, PURGE_AFTER) && has_passed(self.began, PURGE_EVERY)
    }

    /// Begins; `stays` says whether it is to be done once more.
    pub(super) fn begin(&mut self, now: Duration, stays: bool) {
        *self = Self { asked: self.asked.filter(|_| stays), began: Some(now) };
    }
}

/// What is left on the disk of what was removed.
#[derive(Default)]
pub(super) struct Remains {
    words: Mutex<Words>,
    /// Whether a later start must know.
    is_noted: std::sync::atomic::AtomicBool,
    /// Whether the store's log may hold what was to be gone.
    pub in_log: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Words {
    purge: Purge,
    is_under_way: bool,
}

/// Notes, with a removal, that it left something.
pub(super) fn note(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE memory_age SET purge = 1")?.execute([]).map(drop)
}

impl Inner {
    /// Has the vectors and words of what was removed from an index leave the disk soon.
    pub(super) fn purge(&self, index: &str) {
        let now = self.age.passed();
        self.changing(|indexes| {
            if let Some(served) = indexes.get_mut(index) {
                served.purge.ask(now);
            }
        });
        self.words().purge.ask(now);
        self.remains.is_noted.store(true, Ordering::Relaxed);
        self.remains.in_log.store(true, Ordering::Relaxed);
    }

    /// What was still to be done when the process before ended; true when something was.
    pub(super) fn resume(&self) -> Result<bool, Error> {
        let read = |connection: &Connection| connection.query_row("SELECT purge FROM memory_age", [], |row| row.get(0));
        let is_noted = self.store.read_blocking("look for what was removed", read)?;
        if is_noted {
            self.words().purge.ask(self.age.passed());
        }
        self.remains.is_noted.store(is_noted, Ordering::Relaxed);
        self.remains.in_log.store(true, Ordering::Relaxed);
        Ok(is_noted)
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Words> {
        self.remains.words.lock().unwrap_or_else(|poisoned| {
            self.remains.words.clear_poison();
            let mut words = poisoned.into_inner();
            // Who panicked may have begun what he did not end.
            (words.is_under_way, words.purge) = (false, Purge::default());
            words.purge.ask(self.age.passed());
            words
        })
    }

    /// One step of taking removed words out of the full-text index, which merges its parts; false when there is nothing to do.
    pub(super) fn merge_words(&self) -> Result<bool, Error> {
        let mut words = self.words();
        let begins = !words.is_under_way;
        if begins {
            let now = self.age.passed();
            if !words.purge.is_due(now) {
                return Ok(false);
            }
            words.purge.begin(now, false);
        }
        // A negative number has it merge all of its parts, a positive one go on with that.
        let pages = if begins { -MERGED_PAGES } else { MERGED_PAGES };
        let changed = self.store.write_blocking("take removed words out of the full-text index", move |tx| {
            let wiping = Wiping::begin(tx.connection())?;
            let changes = || wiping.connection().query_row("SELECT total_changes()", [], |row| row.get::<_, i64>(0));
            let before = changes()?;
            let sql = "INSERT INTO memory_text (memory_text, rank) VALUES ('merge', ?1)";
            wiping.connection().prepare_cached(sql)?.execute([pages])?;
            Ok(changes()? - before)
        })?;
        // So the documentation of FTS5 tells the end.
        words.is_under_way = changed >= 2;
        self.remains.in_log.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Puts some chunks into the full text anew that stand there as they were before characters without spaces stood apart; false when there is
    /// none.
    pub(super) fn part_words(&self) -> Result<bool, Error> {
        let joined = self.store.read_blocking("look for words that stand together", |connection| {
            let mut query = connection.prepare_cached("SELECT chunk FROM memory_joined LIMIT ?1")?;
            query.query_map([PARTED], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        if joined.is_empty() {
            return Ok(false);
        }
        self.store.write_blocking("put words apart", move |tx| {
            let connection = tx.connection();
            // One that was removed meanwhile has left the full text too.
            let mut out = connection.prepare_cached(
                "INSERT INTO memory_text (memory_text, rowid, text, place)
                 SELECT 'delete', c.id, c.text, c.place FROM memory_chunk c JOIN memory_joined j ON j.chunk = c.id WHERE c.id = ?1",
            )?;
            let mut back = connection.prepare_cached(
                "INSERT INTO memory_text (rowid, text, place)
                 SELECT c.id, apart(c.text), apart(c.place) FROM memory_chunk c JOIN memory_joined j ON j.chunk = c.id WHERE c.id = ?1",
            )?;
            let mut done = connection.prepare_cached("DELETE FROM memory_joined WHERE chunk = ?1")?;
            for chunk in joined {
                out.execute([chunk])?;
                back.execute([chunk])?;
                done.execute([chunk])?;
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// Empties the store's log, where what was removed still stands as it was written. Somebody in the way: at the next look.
    pub(super) fn empty_log(&self) -> Result<(), Error> {
        let Remains { in_log, is_noted, .. } = &self.remains;
        if in_log.load(Ordering::Relaxed) && self.store.empty_log()? {
            in_log.store(false, Ordering::Relaxed);
        }
        let is_left = self.words().purge.is_asked() || self.indexes().values().any(|served| served.purge.is_asked());
        if !is_left && !in_log.load(Ordering::Relaxed) && is_noted.swap(false, Ordering::Relaxed) {
            self.store.write_blocking("note that what was removed is gone", |tx| {
                Ok(tx.connection().execute("UPDATE memory_age SET purge = 0", [])?)
            })?;
        }
        Ok(())
    }
}
