//! The documents that a node can find, for people: those of the bundle and those that were kept. Reads only.

use std::collections::BTreeSet;

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
    /// What an episode came to; nothing else has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Of the text, or of the file that the bundle brought.
    pub digest: Option<Digest>,
    pub passages: u64,
    pub bytes: u64,
    /// How much longer it is kept while the node is on; without it, until it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// The documents of one index, or of all, by index and name.
///
/// # Errors
/// When the store cannot be read.
pub fn list(connection: &Connection, index: Option<&str>) -> rusqlite::Result<Vec<Listed>> {
    let mut query = connection.prepare(
        "SELECT d.idx, d.path, d.label, d.remembered, d.source, d.subject, d.digest, count(c.id), coalesce(sum(length(CAST(c.text AS BLOB))), 0),
         d.expires - age, e.outcome FROM memory_age, memory_document d LEFT JOIN memory_chunk c ON c.document = d.id
         LEFT JOIN memory_episode e ON e.document = d.id
         WHERE (?1 IS NULL OR d.idx = ?1) AND (d.expires IS NULL OR d.expires > age) GROUP BY d.id ORDER BY d.idx, d.path",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        let (label, digest): (String, Vec<u8>) = (row.get(2)?, row.get(6)?);
        Ok(Listed {
            index: row.get(0)?,
            document: row.get(1)?,
            label: serde_json::from_str(&label).map_err(|error| unreadable(2, error))?,
            kept: row.get(3)?,
            source: row.get(4)?,
            subject: row.get(5)?,
            outcome: row.get(10)?,
            digest: <[u8; 32]>::try_from(digest).ok().map(Digest::from_bytes),
            passages: row.get::<_, i64>(7)?.unsigned_abs(),
            bytes: row.get::<_, i64>(8)?.unsigned_abs(),
            expires_in_s: row.get::<_, Option<i64>>(9)?.map(|left| left.unsigned_abs() / 1_000_000),
        })
    };
    query.query_map(params![index], row)?.collect()
}

/// A file or folder of this machine that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    pub index: String,
    pub path: String,
    pub source: String,
    pub subject: Option<String>,
    pub label: Label,
}

/// What is followed, of one index or of all.
///
/// # Errors
/// When the store cannot be read.
pub fn followed(connection: &Connection, index: Option<&str>) -> rusqlite::Result<Vec<Followed>> {
    let sql =
        "SELECT idx, path, source, subject, label FROM memory_followed WHERE ?1 IS NULL OR idx = ?1 ORDER BY idx, path";
    let row = |row: &rusqlite::Row<'_>| {
        let label: String = row.get(4)?;
        let label = serde_json::from_str(&label).map_err(|error| unreadable(4, error))?;
        Ok(Followed { index: row.get(0)?, path: row.get(1)?, source: row.get(2)?, subject: row.get(3)?, label })
    };
    connection.prepare(sql)?.query_map([index], row)?.collect()
}

/// The ids of the files that were found below a path that is followed.
///
/// # Errors
/// When the store cannot be read.
pub fn files_of(connection: &Connection, index: &str, path: &str) -> rusqlite::Result<BTreeSet<String>> {
    let sql =
        "SELECT f.id FROM memory_file f JOIN memory_followed w ON w.id = f.followed WHERE w.idx = ?1 AND w.path = ?2";
    connection.prepare(sql)?.query_map([index, path], |row| row.get(0))?.collect()
}

/// A column that holds what nobody wrote there: not to be taken for something milder.
fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// How many turns of conversations are of these: a conversation, a source, a subject, as far as each is given.
///
/// # Errors
/// When the store cannot be read.
pub fn turns(
    connection: &Connection,
    (session, source, subject): (Option<&str>, Option<&str>, Option<&str>),
) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM memory_turn WHERE (?1 IS NULL OR session = ?1) AND (?2 IS NULL OR source = ?2)
               AND (?3 IS NULL OR subject = ?3)";
    Ok(connection.query_row(sql, [session, source, subject], |row| row.get::<_, i64>(0))?.unsigned_abs())
}
