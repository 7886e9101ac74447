//! What the node and its control plane have agreed on, in the store.

use rusqlite::{Connection, params};
use serde::{Serialize, de::DeserializeOwned};
use shared::{
    bundle::floor::Floor,
    digest::Digest,
    ledger::{note::Note, tree::Tail},
    wire::v1::{AnswerOutcome, Applied, Rejected},
};

/// Where the node stands towards its control plane.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standing {
    /// The bundle from the control plane that this node runs; the agent loads it at its start.
    pub applied: Option<Applied>,
    pub previous: Option<Applied>,
    pub rejected: Option<Rejected>,
    pub floor: Option<Floor>,
    /// Ledger entries that the control plane has verified.
    pub shipped: u64,
    /// The head there, with its cosignature.
    pub countersigned: Option<Note>,
    /// Why the control plane takes nothing more of the ledger, or this node will not ship it.
    pub halted: Option<String>,
    /// Why the bundle that ran last is not what runs: a start could not use it.
    pub lost: Option<String>,
}

impl Standing {
    /// What is wrong with the ledger, for people.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        self.halted.as_ref().map(|why| format!("the ledger is halted: {why}"))
    }
}

/// Where the node stands.
///
/// # Errors
/// When SQLite fails.
pub fn standing(connection: &Connection) -> rusqlite::Result<Standing> {
    let sql = "SELECT applied, previous, rejected, floor, shipped, countersigned, halted, lost FROM sync";
    connection.prepare_cached(sql)?.query_row([], |row| {
        let json = |index: usize| row.get::<_, Option<String>>(index);
        Ok(Standing {
            applied: parse(json(0)?)?,
            previous: parse(json(1)?)?,
            rejected: parse(json(2)?)?,
            floor: parse(json(3)?)?,
            shipped: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
            countersigned: json(5)?.map(|note| note.parse()).transpose().map_err(unreadable)?,
            halted: json(6)?,
            lost: json(7)?,
        })
    })
}

/// The ledger is no longer taken, for this reason, or is again.
pub(super) fn halted(connection: &Connection, why: Option<&str>) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE sync SET halted = ?1")?.execute([why])?;
    Ok(())
}

/// The bundle came up: it is what runs now, and the floor is this.
pub(super) fn applied(connection: &Connection, now: Applied, floor: Floor) -> rusqlite::Result<()> {
    let sql = "UPDATE sync SET previous = CASE WHEN applied = ?1 THEN previous ELSE applied END, applied = ?1,
               rejected = NULL, floor = ?2, trying = NULL, trials = 0, lost = NULL";
    connection.prepare_cached(sql)?.execute(params![to_json(&now), to_json(&floor)])?;
    Ok(())
}

/// What ran last cannot be used, and this runs in its place; without a bundle it is the node's own site, or nothing.
pub(super) fn lost(connection: &Connection, why: &str, now: Option<Applied>) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync SET applied = ?1, previous = NULL, lost = ?2")?
        .execute(params![now.as_ref().map(to_json), why])?;
    Ok(())
}

/// What was lost is no longer wanted: the control plane wants what runs.
pub(super) fn not_missed(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE sync SET lost = NULL", [])?;
    Ok(())
}

/// The bundle is about to be tried. Answers how often it was tried before without an end: the agent was killed or lost
/// its power meanwhile.
pub(super) fn trying(connection: &Connection, bundle: Digest) -> rusqlite::Result<u32> {
    let sql = "UPDATE sync SET trials = CASE WHEN trying = ?1 THEN trials + 1 ELSE 1 END, trying = ?1 RETURNING trials";
    let trials: u32 = connection.prepare_cached(sql)?.query_row([bundle.to_string()], |row| row.get(0))?;
    Ok(trials.saturating_sub(1))
}

/// The trial ended without a verdict, because the agent was told to stop.
///
/// # Errors
/// When SQLite fails.
pub fn trial_ended(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE sync SET trying = NULL, trials = 0", [])?;
    Ok(())
}

/// The bundle did not come up.
pub(super) fn rejected(connection: &Connection, rejected: &Rejected) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync SET rejected = ?1, trying = NULL, trials = 0")?
        .execute([to_json(rejected)])?;
    Ok(())
}

/// The tree's right edge at what was shipped last; `None` when it was not kept.
pub(super) fn shipped_tail(connection: &Connection) -> rusqlite::Result<Option<Tail>> {
    connection.prepare_cached("SELECT shipped, shipped_roots FROM sync")?.query_row([], |row| {
        let size = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        Ok(Tail::from_bytes(size, &row.get::<_, Vec<u8>>(1)?))
    })
}

/// The control plane has verified the ledger up to here.
pub(super) fn shipped(connection: &Connection, tail: &Tail, head: &Note) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync SET shipped = ?1, shipped_roots = ?2, countersigned = ?3")?
        .execute(params![i64::try_from(tail.size()).unwrap_or(i64::MAX), tail.to_bytes(), head.to_string()])?;
    Ok(())
}

/// Outcomes that the control plane has not heard of yet.
pub(super) fn outcomes(connection: &Connection) -> rusqlite::Result<Vec<AnswerOutcome>> {
    let mut statement = connection.prepare_cached("SELECT outcome FROM sync_outcomes")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|json| serde_json::from_str(&json?).map_err(unreadable)).collect()
}

/// Keeps what became of an answer.
pub(super) fn add_outcome(connection: &Connection, outcome: &AnswerOutcome) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO sync_outcomes VALUES (?1, ?2)")?
        .execute([outcome.approval.to_string(), to_json(outcome)])?;
    Ok(())
}

/// Forgets outcomes that the control plane has heard of.
pub(super) fn drop_outcomes(connection: &Connection, heard: &[AnswerOutcome]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM sync_outcomes WHERE approval = ?1")?;
    for outcome in heard {
        statement.execute([outcome.approval.to_string()])?;
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(json: Option<String>) -> rusqlite::Result<Option<T>> {
    json.map(|json| serde_json::from_str(&json)).transpose().map_err(unreadable)
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is kept is plain data")
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}
