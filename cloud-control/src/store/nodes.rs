//! The fleet: every node that ever enrolled, with what it said last.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use shared::{digest::Digest, id::NodeName, ledger::note::VerifierKey, time::Timestamp, wire::v1::NodeStatus};

use super::{count, instant, optional_instant, optional_json, optional_text, text, to_json};

/// A node as the store knows it. Whether its link is up is `Control::link`'s to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub name: NodeName,
    pub group: String,
    pub jurisdiction: String,
    pub enrolled: Timestamp,
    pub ledger_key: VerifierKey,
    /// When it last asked; `None` before its first sync.
    pub seen: Option<Timestamp>,
    pub status: Option<NodeStatus>,
    /// The bundle that its group shall run.
    pub desired: Option<Digest>,
    /// The version of that bundle.
    pub desired_version: Option<u64>,
    /// Entries of its ledger that were verified and countersigned here.
    pub archived: u64,
    /// Why its ledger is no longer taken.
    pub halted: Option<String>,
}

/// What an enrolment adds.
#[derive(Debug, Clone)]
pub(crate) struct Enrolled {
    pub name: NodeName,
    pub group: String,
    pub jurisdiction: String,
    pub at: Timestamp,
    pub token: String,
    pub certificate: Digest,
    pub public_key: Digest,
    pub ledger_key: VerifierKey,
}

const NODES: &str = r#"
    SELECT n.name, n."group", n.jurisdiction, n.enrolled, n.ledger_key, n.seen, n.status, g.desired,
           b.version AS desired_version, coalesce(h.size, 0) AS archived, h.halted
    FROM nodes n JOIN groups g ON g.name = n."group"
    LEFT JOIN bundles b ON b.digest = g.desired
    LEFT JOIN heads h ON h.node = n.name"#;

/// All nodes by name.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection) -> rusqlite::Result<Vec<Node>> {
    connection.prepare_cached(&format!("{NODES} ORDER BY n.name"))?.query_map([], node)?.collect()
}

/// One node.
///
/// # Errors
/// When SQLite fails.
pub fn get(connection: &Connection, name: &NodeName) -> rusqlite::Result<Option<Node>> {
    connection.prepare_cached(&format!("{NODES} WHERE n.name = ?1"))?.query_row([name.as_str()], node).optional()
}

/// The node that holds this client certificate.
pub(crate) fn by_certificate(connection: &Connection, certificate: Digest) -> rusqlite::Result<Option<NodeName>> {
    connection
        .prepare_cached("SELECT name FROM nodes WHERE certificate = ?1")?
        .query_row([certificate.to_string()], |row| text(row, "name"))
        .optional()
}

/// The digests of the public key in a node's certificate, and its ledger key.
pub(crate) fn keys(connection: &Connection, name: &NodeName) -> rusqlite::Result<Option<(Digest, VerifierKey)>> {
    connection
        .prepare_cached("SELECT public_key, ledger_key FROM nodes WHERE name = ?1")?
        .query_row([name.as_str()], |row| Ok((text(row, "public_key")?, text(row, "ledger_key")?)))
        .optional()
}

/// Adds a node, or gives a known one its new certificate.
pub(crate) fn enroll(connection: &Connection, node: &Enrolled) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            r#"INSERT INTO nodes (name, "group", jurisdiction, enrolled, token, certificate, public_key, ledger_key)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
               ON CONFLICT (name) DO UPDATE SET certificate = excluded.certificate"#,
        )?
        .execute(params![
            node.name.as_str(),
            node.group,
            node.jurisdiction,
            node.at.as_micros(),
            node.token,
            node.certificate.to_string(),
            node.public_key.to_string(),
            node.ledger_key.to_string(),
        ])?;
    Ok(())
}

/// Notes what a node said of itself.
pub(crate) fn report(
    connection: &Connection,
    name: &NodeName,
    at: Timestamp,
    status: &NodeStatus,
) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE nodes SET seen = ?2, status = ?3 WHERE name = ?1")?.execute(params![
        name.as_str(),
        at.as_micros(),
        to_json(status)
    ])?;
    Ok(())
}

fn node(row: &Row<'_>) -> rusqlite::Result<Node> {
    Ok(Node {
        name: text(row, "name")?,
        group: row.get("group")?,
        jurisdiction: row.get("jurisdiction")?,
        enrolled: instant(row, "enrolled")?,
        ledger_key: text(row, "ledger_key")?,
        seen: optional_instant(row, "seen")?,
        status: optional_json(row, "status")?,
        desired: optional_text(row, "desired")?,
        desired_version: row.get::<_, Option<i64>>("desired_version")?.and_then(|version| u64::try_from(version).ok()),
        archived: count(row, "archived")?,
        halted: row.get("halted")?,
    })
}
