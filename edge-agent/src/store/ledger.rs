//! Appending to the ledger: the leaf's row, and the right edge of the tree over all of them.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::{
    digest::canonical_of,
    ledger::{
        entry::Entry,
        tree::{Hash, Tail},
    },
    time::Timestamp,
};

/// Where an entry stands in the ledger: its leaf index.
pub type Position = u64;

pub(super) fn load_tail(connection: &Connection) -> rusqlite::Result<Tail> {
    let row: Option<(i64, Vec<u8>)> = connection
        .query_row("SELECT size, roots FROM ledger_tail", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (size, roots) = row.unwrap_or_default();
    let tail = u64::try_from(size).ok().and_then(|size| Tail::from_bytes(size, &roots));
    tail.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, size))
}

pub(super) fn save_tail(connection: &Connection, tail: &Tail) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE ledger_tail SET size = ?1, roots = ?2")?
        .execute(params![integer(tail.size()), tail.to_bytes()])?;
    Ok(())
}

/// An entry in the form in which it is kept, with its hash. Making it takes longer than writing it, and there is one writer:
/// who has many makes them first.
#[derive(Debug, Clone)]
pub struct Leaf {
    at: Timestamp,
    fact: String,
    run: Option<String>,
    body: String,
    hash: Hash,
}

impl Leaf {
    /// The leaf of this entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let body = canonical_of(entry);
        let fact = serde_json::from_str(&body).map_or_else(|_| String::new(), |Named { fact }| fact);
        let (run, hash) = (entry.run.map(|run| run.to_string()), Hash::leaf(body.as_bytes()));
        Self { at: entry.at, fact, run, body, hash }
    }
}

/// What an entry calls its fact.
#[derive(serde::Deserialize)]
struct Named {
    fact: String,
}

pub(super) fn append(connection: &Connection, tail: &mut Tail, leaf: &Leaf) -> rusqlite::Result<Position> {
    let position = tail.size();
    connection
        .prepare_cached("INSERT INTO ledger (seq, at, fact, run, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![integer(position), leaf.at.as_micros(), leaf.fact, leaf.run, leaf.body.as_bytes()])?;
    tail.push(leaf.hash);
    Ok(position)
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).expect("a ledger has fewer than 2^63 entries")
}
