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
        ledger::append(self.connection, self.tail, leaf)
    }

    /// The ledger as of this job: size and root.
    #[must_use]
    pub const fn tail(&self) -> &Tail {
        self.tail
    }
}

/// Tells the waiting caller how its job ended, once that is certain.
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What a job leaves behind until the commit: its error, or the answer that waits for the commit.
type Ran = (Result<(), ()>, Answer);

/// What a job does in a transaction, or with the reason why there is none.
type Run = Box<dyn FnOnce(Result<&mut Transaction<'_>, Error>) -> Ran + Send>;

/// A change that waits for the next group commit.
pub(super) struct Job {
    operation: &'static str,
    run: Run,
}

impl Job {
    pub(super) fn new<T: Send + 'static>(
        operation: &'static str,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
        answer: oneshot::Sender<Result<T, Error>>,
    ) -> Self {
        let run = move |transaction: Result<&mut Transaction<'_>, Error>| -> Ran {
            let result = transaction.and_then(job).map_err(|error| named(operation, error));
            let failed = result.as_ref().map(|_| ()).map_err(|_| ());
            // A caller that no longer waits is no error: what it asked for is done all the same.
            let answer = move |commit: Result<(), Error>| drop(answer.send(commit.and(result)));
            (failed, Box::new(answer))
        };
        Self { operation, run: Box::new(run) }
    }
}

/// What is told to those who do not wait for an answer.
pub(super) struct Told {
    pub size: watch::Sender<u64>,
    /// Why the last jobs could not be committed.
    pub trouble: watch::Sender<Option<String>>,
}

pub(super) fn run(connection: Connection, mut tail: Tail, mut queue: mpsc::Receiver<Job>, told: &Told) {
    let mut group = Vec::with_capacity(GROUP_LEN_MAX);
    while queue.blocking_recv_many(&mut group, GROUP_LEN_MAX) > 0 {
        take(&connection, &mut tail, told, group.drain(..));
    }
    end(&connection);
}

/// Commits the jobs, and tells what trouble there was.
fn take(connection: &Connection, tail: &mut Tail, told: &Told, jobs: impl Iterator<Item = Job>) {
    let trouble = commit(connection, tail, &told.size, jobs).err();
    let trouble = trouble.map(|source| match from_sqlite("write to the store", source) {
        Error::Sqlite { operation, source } => format!("cannot {operation}: {source}"),
        full => full.to_string(),
    });
    told.trouble.send_if_modified(|known| std::mem::replace(known, trouble.clone()) != trouble);
}

/// Leaves a file that opens without recovery; losing this costs nothing but time at the next start.
fn end(connection: &Connection) {
    drop(connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);"));
}

/// Runs the jobs in one transaction. SQLite undoes a whole transaction by itself when some errors strike (a full disk
/// among them): then the jobs before are told so, and the rest goes on in a new one. The error is of the last transaction
/// that SQLite refused; a job's own does not count.
fn commit(
    connection: &Connection,
    tail: &mut Tail,
    size: &watch::Sender<u64>,
    jobs: impl Iterator<Item = Job>,
) -> rusqlite::Result<()> {
    let mut group = Group::begin(connection, tail);
    let mut trouble = None;
    for job in jobs {
        let undo = tail.clone();
        let begun = group.begun.as_ref().map_err(copy).and_then(|()| quickly(connection, "SAVEPOINT job"));
        if let Err(source) = begun {
            let (_, answer) = (job.run)(Err(from_sqlite(job.operation, copy(&source))));
            answer(Ok(()));
            trouble = Some(source);
            continue;
        }
        let (ran, answer) = (job.run)(Ok(&mut Transaction { connection, tail }));
        if connection.is_autocommit() {
            let lost = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
            group.answers.push((job.operation, answer));
            trouble = Some(copy(&lost));
            group.finish(tail, size, Err(lost));
            group = Group::begin(connection, tail);
            continue;
        }
        if ran.is_err() {
            *tail = undo;
            drop(quickly(connection, "ROLLBACK TO job"));
        }
        drop(quickly(connection, "RELEASE job"));
        group.answers.push((job.operation, answer));
    }
    let outcome = group.begun.as_ref().map_err(copy).and_then(|()| {
        if *tail != group.before {
            ledger::save_tail(connection, tail)?;
        }
        quickly(connection, "COMMIT")
    });
    if !connection.is_autocommit() {
        drop(connection.execute_batch("ROLLBACK"));
    }
    let trouble = outcome.as_ref().err().map(copy).or(trouble);
    group.finish(tail, size, outcome);
    trouble.map_or(Ok(()), Err)
}

/// Runs a statement that was compiled before: these come with every job.
fn quickly(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// The jobs of one transaction, between its begin and its end.
struct Group {
    begun: rusqlite::Result<()>,
    before: Tail,
    answers: Vec<(&'static str, Answer)>,
}

impl Group {
    fn begin(connection: &Connection, tail: &Tail) -> Self {
        Self { begun: quickly(connection, "BEGIN IMMEDIATE"), before: tail.clone(), answers: Vec::new() }
    }

    /// Publishes the ledger's size first: whoever has an answer finds what was answered counted.
    fn finish(self, tail: &mut Tail, size: &watch::Sender<u64>, outcome: rusqlite::Result<()>) {
        if outcome.is_err() {
            *tail = self.before;
        }
        size.send_if_modified(|known| std::mem::replace(known, tail.size()) != tail.size());
        for (operation, answer) in self.answers {
            answer(outcome.as_ref().map(|&()| ()).map_err(|source| from_sqlite(operation, copy(source))));
        }
    }
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
    queue: Vec<Job>,
}

#[cfg(test)]
impl Here {
    pub(super) const fn new(connection: Connection, tail: Tail, told: Told) -> Self {
        Self { connection, tail, told, queue: Vec::new() }
    }

    pub(super) fn push(&mut self, job: Job) {
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
