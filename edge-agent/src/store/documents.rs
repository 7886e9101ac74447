//! The documents that a node can find, for people: those of the bundle and those that were kept. Reads only.

use rusqlite::{Connection, params};
use serde::Serialize;
use shared::{digest::Digest, label::Label};

/// One document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub index: String,
    pub document: String,
    pub label: Label,
    /// Whether it was kept by a workflow or a person; what the bundle brings goes with it.
    pub kept: bool,
    pub source: Option<String>,
    pub subject: Option<String>,
    /// Of the text, or of the file that the bundle brought.
    pub digest: Option<Digest>,
    pub passages: u64,
    pub bytes: u64,
}

/// The documents of one index, or of all, by index and name.
///
/// # Errors
/// When the store cannot be read.
pub fn list(connection: &Connection, index: Option<&str>) -> rusqlite::Result<Vec<Listed>> {
    let mut query = connection.prepare(
        "SELECT d.idx, d.path, d.label, d.remembered, d.source, d.subject, d.digest, count(c.id), coalesce(sum(length(CAST(c.text AS BLOB))), 0)
         FROM memory_document d LEFT JOIN memory_chunk c ON c.document = d.id
         WHERE ?1 IS NULL OR d.idx = ?1 GROUP BY d.id ORDER BY d.idx, d.path",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        let (label, digest): (String, Vec<u8>) = (row.get(2)?, row.get(6)?);
        Ok(Listed {
            index: row.get(0)?,
            document: row.get(1)?,
            label: serde_json::from_str(&label).unwrap_or_default(),
            kept: row.get(3)?,
            source: row.get(4)?,
            subject: row.get(5)?,
            digest: <[u8; 32]>::try_from(digest).ok().map(Digest::from_bytes),
            passages: row.get::<_, i64>(7)?.unsigned_abs(),
            bytes: row.get::<_, i64>(8)?.unsigned_abs(),
        })
    };
    query.query_map(params![index], row)?.collect()
}
