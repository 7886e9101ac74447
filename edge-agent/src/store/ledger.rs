//! Appending to the ledger: the leaf's row and the right edge of the RFC 6962 tree.

use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use shared::ledger::entry::Entry;

/// Where an entry stands in the ledger: its leaf index.
pub type Position = u64;

/// The roots of the tree's complete subtrees, largest first. One per set bit of `size`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    size: u64,
    roots: Vec<[u8; 32]>,
}

impl Tail {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let row: Option<(i64, Vec<u8>)> = connection
            .query_row("SELECT size, roots FROM ledger_tail", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (size, bytes) = row.unwrap_or_default();
        let roots = bytes.chunks_exact(32).map(|root| root.try_into().expect("chunks of 32 bytes")).collect();
        Ok(Self { size: u64::try_from(size).unwrap_or(0), roots })
    }

    pub(super) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let size = i64::try_from(self.size).expect("a ledger has fewer than 2^63 entries");
        connection
            .prepare_cached("UPDATE ledger_tail SET size = ?1, roots = ?2")?
            .execute(params![size, self.roots.concat()])?;
        Ok(())
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash (RFC 6962, 2.1).
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let mut roots = self.roots.iter().rev();
        let Some(first) = roots.next() else { return Sha256::digest([]).into() };
        roots.fold(*first, |right, left| node(left, &right))
    }

    fn push(&mut self, body: &[u8]) {
        let mut hash = leaf(body);
        let mut size = self.size;
        while size & 1 == 1 {
            let left = self.roots.pop().expect("one root per set bit of the size");
            hash = node(&left, &hash);
            size >>= 1;
        }
        self.roots.push(hash);
        self.size += 1;
    }

    pub(super) fn append(&mut self, connection: &Connection, entry: &Entry) -> rusqlite::Result<Position> {
        let value = serde_json::to_value(entry).expect("an entry is plain data");
        let body = shared::digest::canonical_json(&value);
        let position = self.size;
        let fact = value.get("fact").and_then(|fact| fact.as_str()).unwrap_or_default();
        connection
            .prepare_cached("INSERT INTO ledger (seq, at, fact, run, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                i64::try_from(position).expect("a ledger has fewer than 2^63 entries"),
                entry.at.as_micros(),
                fact,
                entry.run.map(|run| run.to_string()),
                body.as_bytes(),
            ])?;
        self.push(body.as_bytes());
        Ok(position)
    }
}

fn leaf(body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(body).finalize().into()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}
