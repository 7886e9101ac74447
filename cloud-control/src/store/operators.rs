//! Who may use the console and the operator API.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use shared::{digest::Digest, time::Timestamp};

use super::{instant, json, to_json};

/// The operator that the first start makes.
pub const ADMIN: &str = "admin";
/// The role that stands for all of them.
pub const EVERY_ROLE: &str = "*";

/// A named person, or a program that acts for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    pub name: String,
    /// The roles whose questions they may answer.
    pub roles: Vec<String>,
    pub created: Timestamp,
}

impl Operator {
    /// Whether they may answer a question to this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role || held == EVERY_ROLE)
    }

    /// Whether they may change the fleet: push bundles, make tokens and operators.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|held| held == EVERY_ROLE)
    }
}

/// Adds an operator; `false` when the name is taken.
pub(crate) fn insert(connection: &Connection, operator: &Operator, secret: Digest) -> rusqlite::Result<bool> {
    let added = connection
        .prepare_cached(
            "INSERT INTO operators (name, secret, roles, created) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![operator.name, secret.to_string(), to_json(&operator.roles), operator.created.as_micros()])?;
    Ok(added == 1)
}

/// Removes an operator; `false` when there is none of the name.
pub(crate) fn remove(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM operators WHERE name = ?1")?.execute([name])? == 1)
}

/// Gives an operator another secret; `false` when there is none of the name.
pub(crate) fn reset(connection: &Connection, name: &str, secret: Digest) -> rusqlite::Result<bool> {
    let sql = "UPDATE operators SET secret = ?2 WHERE name = ?1";
    Ok(connection.prepare_cached(sql)?.execute([name, &secret.to_string()])? == 1)
}

/// The operator whose secret has this digest. Looking a digest up leaks nothing of the secret by its timing.
///
/// # Errors
/// When SQLite fails.
pub fn by_secret(connection: &Connection, secret: Digest) -> rusqlite::Result<Option<Operator>> {
    connection
        .prepare_cached("SELECT name, roles, created FROM operators WHERE secret = ?1")?
        .query_row([secret.to_string()], operator)
        .optional()
}

/// The operator of this name.
///
/// # Errors
/// When SQLite fails.
pub fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<Operator>> {
    connection
        .prepare_cached("SELECT name, roles, created FROM operators WHERE name = ?1")?
        .query_row([name], operator)
        .optional()
}

/// All operators by name.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection) -> rusqlite::Result<Vec<Operator>> {
    connection
        .prepare_cached("SELECT name, roles, created FROM operators ORDER BY name")?
        .query_map([], operator)?
        .collect()
}

fn operator(row: &Row<'_>) -> rusqlite::Result<Operator> {
    Ok(Operator { name: row.get("name")?, roles: json(row, "roles")?, created: instant(row, "created")? })
}
