//! How old things are that are kept for a time: they age by the time that the node was on, as ended runs do, and not by a wall clock, which
//! may be set years ahead. A node that is off for a week keeps them a week longer.

use std::{
    sync::{Mutex, OnceLock},
    time::Duration,
};

use rusqlite::Connection;

use super::locks::lock;
use crate::clock::Source;

/// A kill loses the age since it was written down last, so that things are kept for so much longer at most.
const WRITE_EVERY: Duration = Duration::from_secs(600);

/// How long the node has been on, as far as its memory knows.
pub(super) struct Age {
    source: Box<dyn Source>,
    began: Duration,
    /// What it was when this process began, in microseconds.
    before: OnceLock<i64>,
    written: Mutex<Duration>,
}

impl Age {
    pub fn by(source: Box<dyn Source>) -> Self {
        let began = source.passed();
        Self { source, began, before: OnceLock::new(), written: Mutex::new(began) }
    }

    /// Microseconds.
    pub fn now(&self, connection: &Connection) -> rusqlite::Result<i64> {
        let before = match self.before.get() {
            Some(before) => *before,
            None => {
                let stored = connection.query_row("SELECT age FROM memory_age", [], |row| row.get(0))?;
                *self.before.get_or_init(|| stored)
            }
        };
        Ok(before.saturating_add(micros(self.source.passed().saturating_sub(self.began))))
    }

    /// The age at which what is kept for so long from now on is found no more.
    pub fn after(&self, connection: &Connection, keep_for: Option<Duration>) -> rusqlite::Result<Option<i64>> {
        let now = self.now(connection)?;
        Ok(keep_for.map(|span| now.saturating_add(micros(span))))
    }

    /// Since some instant of this process.
    pub fn passed(&self) -> Duration {
        self.source.passed()
    }

    /// Whether it is time to write it down.
    pub fn is_due(&self) -> bool {
        let written = *lock(&self.written);
        self.source.passed().saturating_sub(written) >= WRITE_EVERY
    }

    /// Writes it down.
    pub fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let now = self.now(connection)?;
        connection.prepare_cached("UPDATE memory_age SET age = max(age, ?1)")?.execute([now])?;
        *lock(&self.written) = self.source.passed();
        Ok(())
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
