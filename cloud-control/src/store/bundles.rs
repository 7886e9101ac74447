//! Bundles that were pushed, and which one each group shall run.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use shared::{digest::Digest, ledger::note::Note, time::Timestamp, wire::v1::Desired};

use super::{count, instant, int, optional_instant, optional_text, text};

/// A bundle that was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub digest: Digest,
    pub name: String,
    pub version: u64,
    pub pushed: Timestamp,
    pub by: String,
    /// Canonical JSON of the manifest.
    pub manifest: String,
    pub signature: Note,
}

/// A group of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    pub desired: Option<Digest>,
    pub since: Option<Timestamp>,
}

pub(crate) fn insert(connection: &Connection, bundle: &Bundle) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO bundles (digest, name, version, manifest, signature, pushed, by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            bundle.digest.to_string(),
            bundle.name,
            int(bundle.version),
            bundle.manifest,
            bundle.signature.to_string(),
            bundle.pushed.as_micros(),
            bundle.by,
        ])?;
    Ok(())
}

/// The highest version that was ever pushed; 0 when none was.
pub(crate) fn newest_version(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(version), 0) AS newest FROM bundles")?
        .query_row([], |row| count(row, "newest"))
}

/// All bundles, newest first.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection) -> rusqlite::Result<Vec<Bundle>> {
    connection.prepare_cached("SELECT * FROM bundles ORDER BY version DESC")?.query_map([], bundle)?.collect()
}

/// One bundle.
///
/// # Errors
/// When SQLite fails.
pub fn get(connection: &Connection, digest: Digest) -> rusqlite::Result<Option<Bundle>> {
    connection
        .prepare_cached("SELECT * FROM bundles WHERE digest = ?1")?
        .query_row([digest.to_string()], bundle)
        .optional()
}

/// All groups by name.
///
/// # Errors
/// When SQLite fails.
pub fn groups(connection: &Connection) -> rusqlite::Result<Vec<Group>> {
    connection
        .prepare_cached("SELECT name, desired, since FROM groups ORDER BY name")?
        .query_map([], |row| {
            Ok(Group {
                name: row.get("name")?,
                desired: optional_text(row, "desired")?,
                since: optional_instant(row, "since")?,
            })
        })?
        .collect()
}

/// Makes the group if there is none of the name.
pub(crate) fn add_group(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO groups (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
    Ok(())
}

pub(crate) fn set_desired(
    connection: &Connection,
    group: &str,
    digest: Digest,
    rollback: Option<&Note>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE groups SET desired = ?2, rollback = ?3, since = ?4 WHERE name = ?1")?
        .execute(params![group, digest.to_string(), rollback.map(ToString::to_string), at.as_micros()])?;
    Ok(())
}

/// What the nodes of a group are told.
pub(crate) fn desired(connection: &Connection, group: &str) -> rusqlite::Result<Option<Desired>> {
    connection
        .prepare_cached(
            "SELECT b.digest, b.version, b.signature, g.rollback FROM groups g JOIN bundles b ON b.digest = g.desired
             WHERE g.name = ?1",
        )?
        .query_row([group], |row| {
            Ok(Desired {
                digest: text(row, "digest")?,
                version: count(row, "version")?,
                signature: text(row, "signature")?,
                rollback: optional_text(row, "rollback")?,
            })
        })
        .optional()
}

fn bundle(row: &Row<'_>) -> rusqlite::Result<Bundle> {
    Ok(Bundle {
        digest: text(row, "digest")?,
        name: row.get("name")?,
        version: count(row, "version")?,
        pushed: instant(row, "pushed")?,
        by: row.get("by")?,
        manifest: row.get("manifest")?,
        signature: text(row, "signature")?,
    })
}
