//! The control plane's SQLite file: one writer, some readers, one file of queries per kind of thing.
//!
//! The query functions take a connection and answer plain types; `Store::read` and `Store::write` bring them to a thread
//! that may block. Nothing here decides: that is `fleet`'s.

pub mod actions;
pub mod approvals;
pub mod bundles;
pub mod ledger;
pub mod nodes;
pub mod operators;
pub mod runs;
pub mod tokens;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags, Row, types::Type};
use serde::{Serialize, de::DeserializeOwned};
use shared::time::Timestamp;

/// Which schema this version knows (`PRAGMA user_version`).
const SCHEMA: i64 = 1;
/// Connections kept for readers; one more reader opens its own and drops it afterwards.
const IDLE_READERS_MAX: usize = 8;

/// What can go wrong between the control plane and its file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the store {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("the store {path} was made by another version (schema {found}, this version knows {SCHEMA})")]
    Schema { path: PathBuf, found: i64 },
    #[error("cannot {operation}")]
    Sqlite { operation: &'static str, source: rusqlite::Error },
    #[error("cannot {operation}: the process is shutting down")]
    Closed { operation: &'static str },
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    idle: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens the store, making it if there is none.
    ///
    /// # Errors
    /// When the file cannot be opened or another version made it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        // A node drops what was acknowledged, so an acknowledgement must be on the disk.
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if found == 0 {
            let script = include_str!("schema.sql");
            let script = format!("BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {SCHEMA};\nCOMMIT;");
            connection.execute_batch(&script).map_err(failed)?;
        } else if found != SCHEMA {
            return Err(Error::Schema { path: path.to_owned(), found });
        }
        let inner = Inner { path: path.to_owned(), writer: Mutex::new(connection), idle: Mutex::new(Vec::new()) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a change in its own transaction; when it answers an error nothing of it is kept. `operation` completes the
    /// sentence "cannot ..." in errors.
    ///
    /// # Errors
    /// The change's own, or SQLite's.
    pub async fn write<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&Connection) -> Result<Result<T, E>, rusqlite::Error> + Send + 'static,
    ) -> Result<T, E> {
        let inner = self.inner.clone();
        let outcome = tokio::task::spawn_blocking(move || -> rusqlite::Result<Result<T, E>> {
            // A panic in a change rolled its transaction back: the connection is as good as before.
            let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let outcome = change(&transaction)?;
            if outcome.is_ok() {
                transaction.commit()?;
            }
            Ok(outcome)
        })
        .await
        .map_err(|_| Error::Closed { operation })?;
        outcome.map_err(|source| Error::Sqlite { operation, source })?
    }

    /// Runs a query on a read-only connection. It sees all that was written before.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.read(query))
            .await
            .map_err(|_| Error::Closed { operation })?
            .map_err(|source| Error::Sqlite { operation, source })
    }
}

impl Inner {
    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                configure(&connection)?;
                connection
            }
        };
        let answer = query(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_READERS_MAX {
            idle.push(connection);
        }
        answer
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// A column that holds the text form of a type.
fn text<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    let text = row.get_ref(index)?.as_str()?;
    text.parse().map_err(|error: T::Err| unreadable(index, error))
}

/// Like `text`, for a column that may be null.
fn optional_text<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let null = matches!(row.get_ref(column)?, rusqlite::types::ValueRef::Null);
    if null { Ok(None) } else { text(row, column).map(Some) }
}

/// A column that holds JSON.
fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|error| unreadable(index, error))
}

/// Like `json`, for a column that may be null.
fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let null = matches!(row.get_ref(column)?, rusqlite::types::ValueRef::Null);
    if null { Ok(None) } else { json(row, column).map(Some) }
}

fn instant(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_micros(row.get(column)?))
}

fn optional_instant(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is stored is plain data")
}

fn unreadable(index: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
}

/// A count or index as SQLite keeps it; its integers are signed.
fn int(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// A column that holds a count or an index.
fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let index = row.as_ref().column_index(column)?;
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}
