//! Appending to the ledger: the leaf's row, and the right edge of the tree over all of them.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::{
    digest::canonical_of,
    id::RunId,
    ledger::{
        entry::Entry,
        tree::{Hash, Tail},
    },
    time::Timestamp,
};

/// Where an entry stands in the ledger: its leaf index.
pub type Position = u64;

pub(super) fn load_tail(connection: &Connection) -> rusqlite::Result<Tail> {
    let row: Option<(i64, Vec<u8>)> = connection
        .query_row("SELECT size, roots FROM ledger_tail", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (size, roots) = row.unwrap_or_default();
    let tail = u64::try_from(size).ok().and_then(|size| Tail::from_bytes(size, &roots));
    tail.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, size))
}

pub(super) fn save_tail(connection: &Connection, tail: &Tail) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE ledger_tail SET size = ?1, roots = ?2")?
        .execute(params![integer(tail.size()), tail.to_bytes()])?;
    Ok(())
}

/// An entry in the form in which it is kept, with its hash. Making it takes longer than writing it, and there is one writer:
/// who has many makes them first.
#[derive(Debug, Clone)]
pub struct Leaf {
    at: Timestamp,
    fact: &'static str,
    run: Option<RunId>,
    body: String,
    hash: Hash,
}

impl Leaf {
    /// The leaf of this entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let body = canonical_of(entry);
        let hash = Hash::leaf(body.as_bytes());
        Self { at: entry.at, fact: entry.fact.name(), run: entry.run, body, hash }
    }
}

/// Entries of one run that stand one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    run: RunId,
    first: Position,
    count: u64,
}

/// Appends an entry. Its run's span is written by `keep_span`, and by this when another run's begins.
pub(super) fn append(
    connection: &Connection,
    tail: &mut Tail,
    span: &mut Option<Span>,
    leaf: &Leaf,
) -> rusqlite::Result<Position> {
    let position = tail.size();
    connection.prepare_cached("INSERT INTO ledger (seq, at, fact, body) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        integer(position),
        leaf.at.as_micros(),
        leaf.fact,
        leaf.body.as_bytes()
    ])?;
    tail.push(leaf.hash);
    match (span.as_mut(), leaf.run) {
        (Some(open), Some(run)) if open.run == run && open.first + open.count == position => open.count += 1,
        (_, run) => {
            keep_span(connection, span)?;
            *span = run.map(|run| Span { run, first: position, count: 1 });
        }
    }
    Ok(position)
}

/// Writes down where a run's last entries stand.
pub(super) fn keep_span(connection: &Connection, span: &mut Option<Span>) -> rusqlite::Result<()> {
    let Some(Span { run, first, count }) = span.take() else { return Ok(()) };
    connection.prepare_cached("INSERT INTO ledger_span (run, first, count) VALUES (?1, ?2, ?3)")?.execute(params![
        run.to_string(),
        integer(first),
        integer(count)
    ])?;
    Ok(())
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).expect("a ledger has fewer than 2^63 entries")
}
