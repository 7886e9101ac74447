//! The one writer: takes what waits, commits once, answers.

use rusqlite::Connection;
use shared::ledger::{entry::Entry, tree::Tail};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Error, Leaf, Position, ledger};

/// Jobs in one commit. More would make the first of them wait for the last; fewer would waste fsyncs under load.
const GROUP_LEN_MAX: usize = 512;

/// What a job writes through.
pub struct Transaction<'a> {
    connection: &'a Connection,
    tail: &'a mut Tail,
    span: Option<ledger::Span>,
}

impl Transaction<'_> {
    /// The connection, inside the group's transaction. Never commit or roll back on it.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        self.connection
    }

    /// Appends an entry to the ledger.
    ///
    /// # Errors
    /// When SQLite refuses the row.
    pub fn append(&mut self, entry: &Entry) -> rusqlite::Result<Position> {
        self.append_leaf(&Leaf::of(entry))
    }

    /// Appends an entry that was made ready before.
    ///
    /// # Errors
    /// When SQLite refuses the row.
    pub fn append_leaf(&mut self, leaf: &Leaf) -> rusqlite::Result<Position> {
        ledger::append(self.connection, self.tail, &mut self.span, leaf)
    }

    /// The ledger as of this job: size and root.
    #[must_use]
    pub const fn tail(&self) -> &Tail {
        self.tail
    }
}

/// A change that waits for the next group commit.
pub(super) trait Work: Send {
    fn operation(&self) -> &'static str;

    /// Whether it may be run again when what it did was undone.
    fn is_repeatable(&self) -> bool;

    /// `false`: what it did must be undone.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool;

    /// Tells the waiting caller how its job ended, once that is certain.
    fn answer(self: Box<Self>, commit: Result<(), Error>);
}

/// How a job is run.
pub(super) trait Attempt<T>: Send {
    const IS_REPEATABLE: bool;

    fn attempt(&mut self, transaction: &mut Transaction<'_>) -> Result<T, Error>;
}

/// A job that uses up what it writes.
pub(super) struct Once<F>(pub Option<F>);

impl<T, F: FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send> Attempt<T> for Once<F> {
    const IS_REPEATABLE: bool = false;

    fn attempt(&mut self, transaction: &mut Transaction<'_>) -> Result<T, Error> {
        self.0.take().expect("run once: it is not repeatable")(transaction)
    }
}

/// A job that leaves what it writes as it was.
pub(super) struct Repeatable<F>(pub F);

impl<T, F: Fn(&mut Transaction<'_>) -> Result<T, Error> + Send> Attempt<T> for Repeatable<F> {
    const IS_REPEATABLE: bool = true;

    fn attempt(&mut self, transaction: &mut Transaction<'_>) -> Result<T, Error> {
        (self.0)(transaction)
    }
}

/// A job, what came of it, and who waits for that.
pub(super) struct Job<T, A> {
    pub operation: &'static str,
    pub attempt: A,
    pub result: Option<Result<T, Error>>,
    pub answer: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send, A: Attempt<T>> Work for Job<T, A> {
    fn operation(&self) -> &'static str {
        self.operation
    }

    fn is_repeatable(&self) -> bool {
        A::IS_REPEATABLE
    }

    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool {
        let result = self.attempt.attempt(transaction).and_then(|given| {
            ledger::keep_span(transaction.connection, &mut transaction.span)?;
            Ok(given)
        });
        let is_kept = result.is_ok();
        self.result = Some(result.map_err(|error| named(self.operation, error)));
        is_kept
    }

    fn answer(self: Box<Self>, commit: Result<(), Error>) {
        let Self { operation, result, answer, .. } = *self;
        // A caller that no longer waits is no error: what it asked for is done all the same.
        drop(answer.send(commit.and_then(|()| result.unwrap_or(Err(Error::Closed { operation })))));
    }
}

/// What is told to those who do not wait for an answer.
pub(super) struct Told {
    pub size: watch::Sender<u64>,
    /// Why the last jobs could not be committed.
    pub trouble: watch::Sender<Option<String>>,
}

pub(super) fn run(connection: Connection, mut tail: Tail, mut queue: mpsc::Receiver<Box<dyn Work>>, told: &Told) {
    let mut waiting = Vec::with_capacity(GROUP_LEN_MAX);
    while queue.blocking_recv_many(&mut waiting, GROUP_LEN_MAX) > 0 {
        take(&connection, &mut tail, told, waiting.drain(..));
    }
    end(&connection);
}

/// Commits the jobs, and tells what trouble there was.
fn take(connection: &Connection, tail: &mut Tail, told: &Told, jobs: impl Iterator<Item = Box<dyn Work>>) {
    let mut group = Group::begin(connection, tail, &told.size);
    for job in jobs {
        group.take(job);
    }
    let trouble = group.end().map(|source| match from_sqlite("write to the store", source) {
        Error::Sqlite { operation, source } => format!("cannot {operation}: {source}"),
        full => full.to_string(),
    });
    told.trouble.send_if_modified(|known| std::mem::replace(known, trouble.clone()) != trouble);
}

/// Leaves a file that opens without recovery; losing this costs nothing but time at the next start.
fn end(connection: &Connection) {
    drop(connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);"));
}

/// The jobs of one transaction, between its begin and its end.
///
/// Each job is kept or undone by itself. A savepoint for each would copy the pages that they all write to once for each of
/// them, so jobs that can be run again share one: when one of them fails, all are undone and run again, each by itself.
struct Group<'a> {
    connection: &'a Connection,
    tail: &'a mut Tail,
    size: &'a watch::Sender<u64>,
    begun: rusqlite::Result<()>,
    /// The ledger before the transaction.
    before: Tail,
    /// Have run, each kept or undone.
    done: Vec<Box<dyn Work>>,
    /// Have run and are still in their common savepoint.
    together: Vec<Box<dyn Work>>,
    /// The ledger before them.
    undo: Tail,
    trouble: Option<rusqlite::Error>,
}

impl<'a> Group<'a> {
    fn begin(connection: &'a Connection, tail: &'a mut Tail, size: &'a watch::Sender<u64>) -> Self {
        let (before, undo) = (tail.clone(), tail.clone());
        let begun = quickly(connection, "BEGIN IMMEDIATE");
        let (done, together, trouble) = (Vec::new(), Vec::new(), None);
        Self { connection, tail, size, begun, before, done, together, undo, trouble }
    }

    fn take(&mut self, job: Box<dyn Work>) {
        if job.is_repeatable() {
            self.run_together(job);
        } else {
            self.keep_together();
            self.run_alone(job);
        }
    }

    fn run_together(&mut self, mut job: Box<dyn Work>) {
        if self.together.is_empty() {
            if let Err(source) = self.savepoint("SAVEPOINT together") {
                return self.refuse(job, source);
            }
            self.undo = self.tail.clone();
        }
        let is_kept = self.run(&mut *job);
        self.together.push(job);
        if self.connection.is_autocommit() {
            self.lost();
        } else if !is_kept {
            drop(quickly(self.connection, "ROLLBACK TO together"));
            drop(quickly(self.connection, "RELEASE together"));
            self.tail.clone_from(&self.undo);
            for job in std::mem::take(&mut self.together) {
                self.run_alone(job);
            }
        }
    }

    fn keep_together(&mut self) {
        if !self.together.is_empty() {
            drop(quickly(self.connection, "RELEASE together"));
            self.done.append(&mut self.together);
        }
    }

    fn run_alone(&mut self, mut job: Box<dyn Work>) {
        if let Err(source) = self.savepoint("SAVEPOINT job") {
            return self.refuse(job, source);
        }
        let undo = self.tail.clone();
        let is_kept = self.run(&mut *job);
        self.done.push(job);
        if self.connection.is_autocommit() {
            return self.lost();
        }
        if !is_kept {
            *self.tail = undo;
            drop(quickly(self.connection, "ROLLBACK TO job"));
        }
        drop(quickly(self.connection, "RELEASE job"));
    }

    fn savepoint(&self, sql: &str) -> rusqlite::Result<()> {
        self.begun.as_ref().map_err(copy).and_then(|()| quickly(self.connection, sql))
    }

    fn run(&mut self, job: &mut dyn Work) -> bool {
        job.run(&mut Transaction { connection: self.connection, tail: self.tail, span: None })
    }

    fn refuse(&mut self, job: Box<dyn Work>, source: rusqlite::Error) {
        let operation = job.operation();
        job.answer(Err(from_sqlite(operation, copy(&source))));
        self.trouble = Some(source);
    }

    /// SQLite undoes a whole transaction by itself when some errors strike (a full disk among them): the jobs before are told
    /// so, and the rest goes on in a new one.
    fn lost(&mut self) {
        let lost = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        self.trouble = Some(copy(&lost));
        self.finish(&Err(lost));
        self.begun = quickly(self.connection, "BEGIN IMMEDIATE");
    }

    /// Commits. The error is of the last transaction that SQLite refused; a job's own does not count.
    fn end(mut self) -> Option<rusqlite::Error> {
        self.keep_together();
        let outcome = self.begun.as_ref().map_err(copy).and_then(|()| {
            if *self.tail != self.before {
                ledger::save_tail(self.connection, self.tail)?;
            }
            quickly(self.connection, "COMMIT")
        });
        if !self.connection.is_autocommit() {
            drop(self.connection.execute_batch("ROLLBACK"));
        }
        self.finish(&outcome);
        outcome.err().or(self.trouble)
    }

    /// Publishes the ledger's size first: whoever has an answer finds what was answered counted.
    fn finish(&mut self, outcome: &rusqlite::Result<()>) {
        if outcome.is_err() {
            self.tail.clone_from(&self.before);
        }
        self.before.clone_from(self.tail);
        let size = self.tail.size();
        self.size.send_if_modified(|known| std::mem::replace(known, size) != size);
        for job in self.done.drain(..).chain(self.together.drain(..)) {
            let operation = job.operation();
            job.answer(outcome.as_ref().map(|&()| ()).map_err(|source| from_sqlite(operation, copy(source))));
        }
    }
}

/// Runs a statement that was compiled before: these come with every job.
fn quickly(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn named(operation: &'static str, error: Error) -> Error {
    match error {
        Error::Sqlite { source, .. } => from_sqlite(operation, source),
        other => other,
    }
}

fn from_sqlite(operation: &'static str, source: rusqlite::Error) -> Error {
    if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        Error::Full { operation }
    } else {
        Error::Sqlite { operation, source }
    }
}

/// One failed commit is told to every job of its group; SQLite's error is not `Clone`.
fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
            Some(other.to_string()),
        ),
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        // The job's `operation` is put in by `named` before anyone reads it.
        Self::Sqlite { operation: "use the store", source }
    }
}

/// The writer without a thread of its own, for simulations: whoever writes commits all that waits by then.
#[cfg(test)]
pub(super) struct Here {
    connection: Connection,
    tail: Tail,
    told: Told,
    queue: Vec<Box<dyn Work>>,
}

#[cfg(test)]
impl Here {
    pub(super) const fn new(connection: Connection, tail: Tail, told: Told) -> Self {
        Self { connection, tail, told, queue: Vec::new() }
    }

    pub(super) fn push(&mut self, job: Box<dyn Work>) {
        self.queue.push(job);
    }

    pub(super) fn commit_waiting(&mut self) {
        if !self.queue.is_empty() {
            take(&self.connection, &mut self.tail, &self.told, self.queue.drain(..));
        }
    }
}

#[cfg(test)]
impl Drop for Here {
    fn drop(&mut self) {
        end(&self.connection);
    }
}
