//! Join tokens: each admits one node once.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use shared::{digest::Digest, id::NodeName, time::Timestamp};

use super::{instant, optional_instant, optional_text};

/// What is known of a token. The secret itself is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The first digits of the secret's digest.
    pub id: String,
    pub group: String,
    pub created: Timestamp,
    pub by: String,
    pub expires: Timestamp,
    pub used: Option<Timestamp>,
    pub node: Option<NodeName>,
}

pub(crate) fn insert(connection: &Connection, token: &Token, secret: Digest) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            r#"INSERT INTO tokens (id, secret, "group", created, by, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"#,
        )?
        .execute(params![
            token.id,
            secret.to_string(),
            token.group,
            token.created.as_micros(),
            token.by,
            token.expires.as_micros()
        ])?;
    Ok(())
}

pub(crate) fn by_secret(connection: &Connection, secret: Digest) -> rusqlite::Result<Option<Token>> {
    connection
        .prepare_cached("SELECT * FROM tokens WHERE secret = ?1")?
        .query_row([secret.to_string()], token)
        .optional()
}

pub(crate) fn spend(connection: &Connection, id: &str, node: &NodeName, at: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE tokens SET used = ?2, node = ?3 WHERE id = ?1 AND used IS NULL")?
        .execute(params![id, at.as_micros(), node.as_str()])?;
    Ok(())
}

/// All tokens, newest first.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection) -> rusqlite::Result<Vec<Token>> {
    connection.prepare_cached("SELECT * FROM tokens ORDER BY created DESC")?.query_map([], token)?.collect()
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row.get("id")?,
        group: row.get("group")?,
        created: instant(row, "created")?,
        by: row.get("by")?,
        expires: instant(row, "expires")?,
        used: optional_instant(row, "used")?,
        node: optional_text(row, "node")?,
    })
}
