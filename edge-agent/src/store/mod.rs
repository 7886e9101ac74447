//! One SQLite file, one writer with group commit, a few readers.
//!
//! Every durable change of the node is a job for the writer. The writer takes all jobs that wait, runs each in a
//! savepoint of one transaction, commits once (`synchronous=FULL`: one fsync for all of them), and only then answers.
//! A job that fails undoes its own savepoint and nothing else. Ledger entries are appended in the job that they tell of.
//! It never decides anything; it knows no room's meaning, only that each room has a schema file.

pub mod documents;
mod ledger;
pub mod quarantine;
pub mod runs;
mod schema;
pub mod withheld;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rusqlite::{Connection, OpenFlags};
use shared::ledger::tree::Tail;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use ledger::{Leaf, Position};
pub use writer::Transaction;

/// Jobs that may wait for the writer: some group commits of the busiest node. Beyond it the callers wait, which is what
/// holds back the feeds.
const WRITER_QUEUE_LEN_MAX: usize = 4_096;

/// Queries at the same time, each on a connection that is kept; the others wait for one. Opening one reads the whole schema,
/// which takes longer than most queries.
const READERS_MAX: usize = 8;

/// KiB of pages that the writer keeps at hand: those that change all the time.
const WRITER_CACHE_KIB: i64 = 4_096;

/// The same for each reader. The system has the pages too, and what is more would count against an idle agent's memory.
const READER_CACHE_KIB: i64 = 1_024;

/// How long whoever empties the log waits for readers, and the writer for it.
const LOG_EMPTIED_WITHIN: std::time::Duration = std::time::Duration::from_millis(500);

/// What can go wrong between a room and its file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the store {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "the store {path} was made by a newer version (schema {found}, this version knows {known}); install that version or newer"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// The disk is full. Nothing of the job was kept; it may be tried again when there is room.
    #[error("no room on the disk to {operation}")]
    Full { operation: &'static str },
    #[error("cannot {operation}")]
    Sqlite { operation: &'static str, source: rusqlite::Error },
    #[error("cannot {operation}: {detail}")]
    Data { operation: &'static str, detail: String },
    #[error("cannot {operation}: the store is closed")]
    Closed { operation: &'static str },
}

impl Error {
    /// Whether trying again after a while may help.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// A handle to the node's store; clones share it. The writer ends when the last handle is gone.
#[derive(Clone)]
pub struct Store {
    jobs: Jobs,
    readers: Arc<Readers>,
    ledger_size: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<String>>,
}

/// Who takes the jobs.
#[derive(Clone)]
enum Jobs {
    Thread(mpsc::Sender<Box<dyn writer::Work>>),
    /// Whoever writes, after as many turns of the others as the simulation says; readers likewise.
    #[cfg(test)]
    Here {
        writer: Arc<Mutex<writer::Here>>,
        turns: Turns,
    },
}

/// How often a simulated caller of the store lets the others go first.
#[cfg(test)]
pub(crate) type Turns = Arc<dyn Fn() -> usize + Send + Sync>;

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Whose turn it is to read.
    turns: Arc<Semaphore>,
}

impl Readers {
    fn new(path: &Path) -> Arc<Self> {
        let (idle, turns) = (Mutex::new(Vec::new()), Arc::new(Semaphore::new(READERS_MAX)));
        Arc::new(Self { path: path.to_owned(), idle, turns })
    }
}

impl Store {
    /// Opens the store, making it if there is none, brings its schema up to this version, and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened or was made by a newer version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (connection, tail) = open_writer(path)?;
        let (size, ledger_size) = watch::channel(tail.size());
        let (trouble_sender, trouble) = watch::channel(None);
        let told = writer::Told { size, trouble: trouble_sender };
        let (jobs, queue) = mpsc::channel(WRITER_QUEUE_LEN_MAX);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(connection, tail, queue, &told))
            .expect("a thread for the store's writer can be started");
        let readers = Readers::new(path);
        Ok(Self { jobs: Jobs::Thread(jobs), readers, ledger_size, trouble })
    }

    /// Opens the store without threads: the same callers take the same turns each time.
    #[cfg(test)]
    pub(crate) fn open_here(path: &Path, checkpoint_pages: u32, turns: Turns) -> Result<Self, Error> {
        let (connection, tail) = open_writer(path)?;
        let failed = |source| Error::Open { path: path.to_owned(), source };
        connection.pragma_update(None, "wal_autocheckpoint", checkpoint_pages).map_err(failed)?;
        let (size, ledger_size) = watch::channel(tail.size());
        let (trouble_sender, trouble) = watch::channel(None);
        let told = writer::Told { size, trouble: trouble_sender };
        let writer = Arc::new(Mutex::new(writer::Here::new(connection, tail, told)));
        let readers = Readers::new(path);
        Ok(Self { jobs: Jobs::Here { writer, turns }, readers, ledger_size, trouble })
    }

    /// Runs a job in the next group commit and answers when it is on the disk. `operation` completes the sentence
    /// "cannot ..." in errors.
    ///
    /// # Errors
    /// The job's own, `Full` when the disk is, `Closed` when the writer has ended. Nothing of the job was kept then.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.send(operation, writer::Once(Some(job))).await
    }

    /// Like `write`, for a job that can be run again after it was undone: many of these cost less.
    ///
    /// # Errors
    /// As `write`.
    pub async fn write_repeatable<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl Fn(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.send(operation, writer::Repeatable(job)).await
    }

    async fn send<T: Send + 'static>(
        &self,
        operation: &'static str,
        attempt: impl writer::Attempt<T> + 'static,
    ) -> Result<T, Error> {
        let (answer, outcome) = oneshot::channel();
        let job = Box::new(writer::Job { operation, attempt, result: None, answer });
        match &self.jobs {
            Jobs::Thread(jobs) => jobs.send(job).await.map_err(|_| Error::Closed { operation })?,
            #[cfg(test)]
            Jobs::Here { writer, turns } => {
                writer.lock().expect("no writer panicked").push(job);
                take_turns(turns).await;
                writer.lock().expect("no writer panicked").commit_waiting();
            }
        }
        outcome.await.map_err(|_| Error::Closed { operation })?
    }

    /// Like `write`, from a thread that may block.
    ///
    /// # Errors
    /// As `write`.
    pub fn write_blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, outcome) = oneshot::channel();
        let job = Box::new(writer::Job { operation, attempt: writer::Once(Some(job)), result: None, answer });
        match &self.jobs {
            Jobs::Thread(jobs) => jobs.blocking_send(job).map_err(|_| Error::Closed { operation })?,
            #[cfg(test)]
            Jobs::Here { writer, .. } => {
                let mut writer = writer.lock().expect("no writer panicked");
                writer.push(job);
                writer.commit_waiting();
            }
        }
        outcome.blocking_recv().map_err(|_| Error::Closed { operation })?
    }

    /// Runs a query on a read-only connection, on a thread that may block. It sees all that was answered before.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        #[cfg(test)]
        if let Jobs::Here { turns, .. } = &self.jobs {
            take_turns(turns).await;
            return self.read_blocking(operation, query);
        }
        let turn = Arc::clone(&self.readers.turns).acquire_owned().await.map_err(|_| Error::Closed { operation })?;
        let store = self.clone();
        let read = move || {
            let answer = store.read_blocking(operation, query);
            drop(turn);
            answer
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| Error::Closed { operation })?
    }

    /// Like `read`, from a thread that may block.
    ///
    /// # Errors
    /// When the query fails.
    ///
    /// # Panics
    /// When another reader panicked while it gave its connection back.
    pub fn read_blocking<T>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let failed = |source| Error::Sqlite { operation, source };
        let idle = self.readers.idle.lock().expect("no reader panicked").pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.readers.path).map_err(failed)?,
        };
        let answer = query(&connection).map_err(failed);
        let mut idle = self.readers.idle.lock().expect("no reader panicked");
        if idle.len() < READERS_MAX {
            idle.push(connection);
        }
        answer
    }

    /// Brings what stands in the log into the file and empties the log, so that nothing is left in it of what was overwritten since. Blocks;
    /// false when a reader was in the way.
    ///
    /// # Errors
    /// When SQLite fails, as on a full disk.
    pub fn empty_log(&self) -> Result<bool, Error> {
        let failed = |source| Error::Sqlite { operation: "empty the store's log", source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.readers.path, flags).map_err(failed)?;
        // The writer waits while the log is emptied: so most of it is brought over before, beside its work.
        connection.busy_timeout(LOG_EMPTIED_WITHIN).map_err(failed)?;
        let pass = |how: &str| {
            let sql = format!("PRAGMA wal_checkpoint({how})");
            connection.query_row(&sql, [], |row| row.get::<_, bool>(0)).map_err(failed)
        };
        pass("PASSIVE")?;
        Ok(!pass("TRUNCATE")?)
    }

    /// Why nothing can be written just now, such as a full disk; `None` when the last commit was kept.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// How many entries the ledger has on disk; changes with each commit that appended some.
    #[must_use]
    pub fn ledger_size(&self) -> watch::Receiver<u64> {
        self.ledger_size.clone()
    }
}

#[cfg(test)]
async fn take_turns(turns: &Turns) {
    for _ in 0..turns() {
        tokio::task::yield_now().await;
    }
}

fn open_writer(path: &Path) -> Result<(Connection, Tail), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let connection = Connection::open(path).map_err(failed)?;
    configure(&connection, WRITER_CACHE_KIB).map_err(failed)?;
    // What a job would have to undo is kept in memory: otherwise each page that it changes is written to a file first.
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(failed)?;
    schema::migrate(&connection, path)?;
    let tail = ledger::load_tail(&connection).map_err(failed)?;
    Ok((connection, tail))
}

/// Opens a store's file for reading alone, as the command line does beside a running agent.
///
/// # Errors
/// When there is no such file or it cannot be opened.
pub fn open_read_only(path: &Path) -> Result<Connection, Error> {
    open_reader(path).map_err(|source| Error::Open { path: path.to_owned(), source })
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    configure(&connection, READER_CACHE_KIB)?;
    Ok(connection)
}

fn configure(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.set_prepared_statement_cache_capacity(64);
    schema::with_functions(connection)
}

#[cfg(test)]
pub(crate) mod tests;
