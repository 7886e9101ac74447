//! Room for what is kept: what is old enough goes, and of what has no room, what the index's bounds say.

use rusqlite::{Connection, params};

use super::{
    Inner,
    index::Error,
    limits::{Bounds, WhenFull},
    wipe::Wiping,
};
use crate::store;

/// Texts or turns that go in one transaction, so that the others need not wait for long.
const SWEPT_MAX: i64 = 256;
/// Indexes that workflows keep texts in; their names may come from expressions.
const INDEXES_MAX: i64 = 256;

/// As the store tells kept texts and episodes apart; they take no room from each other.
pub(super) const TEXTS: i64 = 1;
pub(super) const EPISODES: i64 = 2;

/// Makes room for a text of so many bytes in an index, or says why there is none. The chunks that went.
pub(super) fn make(
    wiping: &Wiping<'_>,
    (index, form): (&str, i64),
    bytes: u64,
    bounds: Bounds,
    age: i64,
) -> Result<Vec<i64>, store::Error> {
    let connection = wiping.connection();
    let mut gone = Vec::new();
    for document in due(connection, Some(index), age)? {
        gone.extend(wiping.remove(document.id)?);
    }
    loop {
        let (kept, taken) = held(connection, index, form)?;
        if kept == 0 {
            let sql = "SELECT count(DISTINCT idx) FROM memory_document WHERE remembered";
            let indexes: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            if indexes >= INDEXES_MAX {
                return Err(full(format!("texts are kept in {indexes} indexes already; at most {INDEXES_MAX}")));
            }
        }
        if kept < u64::from(bounds.entries) && taken.saturating_add(bytes) <= bounds.bytes {
            return Ok(gone);
        }
        let sql = "SELECT min(id) FROM memory_document WHERE remembered AND idx = ?1 AND remembered = ?2";
        let oldest: Option<i64> = connection.prepare_cached(sql)?.query_row(params![index, form], |row| row.get(0))?;
        match oldest {
            Some(oldest) if bounds.when_full == WhenFull::ForgetOldest && bytes <= bounds.bytes => {
                gone.extend(wiping.remove(oldest)?);
            }
            _ => {
                let detail = format!(
                    "the index {index:?} holds {kept} kept texts of {} at most, {taken} bytes of {} at most, and has no room for \
                     {bytes} more: forget some, keep them for a time, or raise `entries` or `bytes` under [memory]",
                    bounds.entries, bounds.bytes
                );
                return Err(full(detail));
            }
        }
    }
}

fn full(detail: String) -> store::Error {
    store::Error::Data { operation: "keep a text", detail }
}

/// How many texts an index holds that workflows kept, and their bytes.
fn held(connection: &Connection, index: &str, form: i64) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM memory_document WHERE remembered AND idx = ?1 AND remembered = ?2";
    let read =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()));
    connection.prepare_cached(sql)?.query_row(params![index, form], read)
}

/// A text whose time is over.
struct Due {
    id: i64,
    index: String,
}

fn due(connection: &Connection, index: Option<&str>, age: i64) -> rusqlite::Result<Vec<Due>> {
    let sql = "SELECT id, idx FROM memory_document WHERE expires <= ?1 AND (?2 IS NULL OR idx = ?2) LIMIT ?3";
    let mut query = connection.prepare_cached(sql)?;
    query.query_map(params![age, index, SWEPT_MAX], |row| Ok(Due { id: row.get(0)?, index: row.get(1)? }))?.collect()
}

/// When the next text or turn is due, if one is.
fn next_due(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT min(expires) FROM (SELECT min(expires) AS expires FROM memory_document WHERE expires IS NOT NULL
               UNION ALL SELECT min(expires) FROM memory_turn WHERE expires IS NOT NULL)";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// What one transaction took away.
struct Swept {
    texts: Vec<(String, Vec<i64>)>,
    turns: usize,
}

impl Inner {
    /// Takes away some of what is kept no longer; true when there may be more.
    pub(super) fn expire(&self) -> Result<bool, Error> {
        let age = &self.age;
        let look = |connection: &Connection| Ok((next_due(connection)?, age.now(connection)?));
        let (next, now) = self.store.read_blocking("look for what is kept no longer", look)?;
        let Some(next) = next else { return Ok(false) };
        if next > now {
            if self.age.is_due() {
                let age = std::sync::Arc::clone(&self.age);
                self.store.write_blocking("write down the memory's age", move |tx| Ok(age.write(tx.connection())?))?;
            }
            return Ok(false);
        }
        let age = std::sync::Arc::clone(&self.age);
        let swept = self.store.write_blocking("take away what is kept no longer", move |tx| {
            age.write(tx.connection())?;
            Ok(sweep(tx.connection(), now)?)
        })?;
        for (index, chunks) in &swept.texts {
            self.hide(index, chunks);
        }
        tracing::debug!(texts = swept.texts.len(), turns = swept.turns, "what was kept for a time is gone");
        Ok(!swept.texts.is_empty() || swept.turns > 0)
    }
}

fn sweep(connection: &Connection, now: i64) -> rusqlite::Result<Swept> {
    let wiping = Wiping::begin(connection)?;
    let mut texts = Vec::new();
    for Due { id, index } in due(connection, None, now)? {
        texts.push((index, wiping.remove(id)?));
    }
    let sql = "DELETE FROM memory_turn WHERE seq IN (SELECT seq FROM memory_turn WHERE expires <= ?1 LIMIT ?2)";
    let turns = connection.prepare_cached(sql)?.execute(params![now, SWEPT_MAX])?;
    if turns > 0 {
        drop_silent(connection)?;
    }
    Ok(Swept { texts, turns })
}

/// Takes away conversations of which no turn is left.
pub(super) fn drop_silent(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "DELETE FROM memory_session WHERE NOT EXISTS (SELECT 1 FROM memory_turn WHERE session = name)";
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
