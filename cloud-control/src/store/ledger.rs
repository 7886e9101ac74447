//! The audit archive: the nodes' entries byte for byte, the heads that were countersigned, and the alarms.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    id::{NodeName, RunId},
    ledger::{entry::Entry, note::Note, tree::Tail},
    time::Timestamp,
};

use super::{count, instant, int, json, optional_instant, optional_text, text};

/// An entry and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Archived {
    pub node: NodeName,
    /// Its index in the node's ledger.
    pub seq: u64,
    pub at: Timestamp,
    /// The entry's kind, such as `model-called`.
    pub fact: String,
    pub run: Option<RunId>,
    /// The whole entry.
    pub entry: Value,
}

/// Which entries to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Filter {
    pub node: Option<NodeName>,
    pub run: Option<RunId>,
    pub fact: Option<String>,
    /// Only entries recorded before this instant: where the page before ended.
    pub before: Option<Timestamp>,
    /// The node and index of the page's last entry: those of the same instant that come behind it are listed, too.
    pub before_node: Option<NodeName>,
    pub before_seq: Option<u64>,
    /// At most this many; 0 means 100.
    #[serde(default)]
    pub limit: usize,
}

/// The last head of a node that was verified and countersigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub tail: Tail,
    /// `None` before the first entries came.
    pub note: Option<Note>,
    pub at: Option<Timestamp>,
    pub halted: Option<String>,
}

/// Something that an auditor must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    pub id: i64,
    pub at: Timestamp,
    pub node: NodeName,
    /// `fork`, `gap`, `tampered`, `shrunk`, ..: `ledger::verify::Fault::kind`.
    pub kind: String,
    pub message: String,
    /// The head that the node signed.
    pub evidence: Option<Note>,
    pub cleared: Option<Timestamp>,
    pub by: Option<String>,
}

/// Entries of all nodes or one, newest first.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Archived>> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    connection
        .prepare_cached(
            "SELECT node, seq, at, fact, run, body FROM ledger
             WHERE (?1 IS NULL OR node = ?1) AND (?2 IS NULL OR run = ?2) AND (?3 IS NULL OR fact = ?3)
               AND (?4 IS NULL OR at < ?4 OR (at = ?4 AND (node > ?6 OR (node = ?6 AND seq < ?7))))
             ORDER BY at DESC, node, seq DESC LIMIT ?5",
        )?
        .query_map(
            params![
                filter.node.as_ref().map(NodeName::as_str),
                filter.run.map(|run| run.to_string()),
                filter.fact,
                filter.before.map(Timestamp::as_micros),
                int(limit),
                filter.before_node.as_ref().map(NodeName::as_str),
                filter.before_seq.map(int)
            ],
            archived,
        )?
        .collect()
}

/// A node's entries from `from` on, in order, at most `limit`: their exact bytes.
///
/// # Errors
/// When SQLite fails.
pub fn bodies(
    connection: &Connection,
    node: &NodeName,
    from: u64,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, String)>> {
    connection
        .prepare_cached("SELECT seq, body FROM ledger WHERE node = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3")?
        .query_map(params![node.as_str(), int(from), int(limit)], |row| Ok((count(row, "seq")?, row.get("body")?)))?
        .collect()
}

/// A node's head; empty before its first entries came.
///
/// # Errors
/// When SQLite fails.
pub fn head(connection: &Connection, node: &NodeName) -> rusqlite::Result<Head> {
    let head = connection
        .prepare_cached("SELECT size, roots, note, at, halted FROM heads WHERE node = ?1")?
        .query_row([node.as_str()], |row| {
            let size = count(row, "size")?;
            let tail = Tail::from_bytes(size, &row.get::<_, Vec<u8>>("roots")?)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, i64::try_from(size).unwrap_or(-1)))?;
            let note: String = row.get("note")?;
            let note = if note.is_empty() { None } else { Some(text(row, "note")?) };
            Ok(Head { tail, note, at: optional_instant(row, "at")?, halted: row.get("halted")? })
        })
        .optional()?;
    Ok(head.unwrap_or(Head { tail: Tail::default(), note: None, at: None, halted: None }))
}

/// Adds entries behind the head and moves it.
pub(crate) fn extend(
    connection: &Connection,
    node: &NodeName,
    from: u64,
    entries: &[(Entry, String)],
    tail: &Tail,
    note: &Note,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT INTO ledger (node, seq, at, fact, run, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for ((entry, body), seq) in entries.iter().zip(from..) {
        insert.execute(params![
            node.as_str(),
            int(seq),
            entry.at.as_micros(),
            kind_of(body),
            entry.run.map(|run| run.to_string()),
            body
        ])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO heads (node, size, roots, note, at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (node) DO UPDATE SET size = excluded.size, roots = excluded.roots, note = excluded.note,
                at = excluded.at",
        )?
        .execute(params![node.as_str(), int(tail.size()), tail.to_bytes(), note.to_string(), at.as_micros()])?;
    Ok(())
}

/// Notes an alarm and stops taking the node's ledger.
pub(crate) fn halt(
    connection: &Connection,
    node: &NodeName,
    at: Timestamp,
    kind: &str,
    message: &str,
    evidence: Option<&Note>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO alarms (at, node, kind, message, evidence) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![at.as_micros(), node.as_str(), kind, message, evidence.map(ToString::to_string)])?;
    connection
        .prepare_cached(
            "INSERT INTO heads (node, size, roots, note, at, halted) VALUES (?1, 0, x'', '', ?2, ?3)
             ON CONFLICT (node) DO UPDATE SET halted = excluded.halted",
        )?
        .execute(params![node.as_str(), at.as_micros(), message])?;
    Ok(())
}

/// Lets a node's ledger be taken again; its alarms stay, marked as looked into.
pub(crate) fn resume(connection: &Connection, node: &NodeName, by: &str, at: Timestamp) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("UPDATE alarms SET cleared = ?2, by = ?3 WHERE node = ?1 AND cleared IS NULL")?
        .execute(params![node.as_str(), at.as_micros(), by])?;
    let resumed = connection
        .prepare_cached("UPDATE heads SET halted = NULL WHERE node = ?1 AND halted IS NOT NULL")?
        .execute([node.as_str()])?;
    Ok(resumed > 0)
}

/// The newest alarms first.
///
/// # Errors
/// When SQLite fails.
pub fn alarms(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<Alarm>> {
    connection
        .prepare_cached("SELECT * FROM alarms ORDER BY id DESC LIMIT ?1")?
        .query_map([int(limit)], |row| {
            Ok(Alarm {
                id: row.get("id")?,
                at: instant(row, "at")?,
                node: text(row, "node")?,
                kind: row.get("kind")?,
                message: row.get("message")?,
                evidence: optional_text(row, "evidence")?,
                cleared: optional_instant(row, "cleared")?,
                by: row.get("by")?,
            })
        })?
        .collect()
}

/// The `fact` of an entry's JSON.
fn kind_of(body: &str) -> String {
    #[derive(Deserialize)]
    struct Kind {
        fact: String,
    }
    serde_json::from_str::<Kind>(body).map(|kind| kind.fact).unwrap_or_default()
}

fn archived(row: &Row<'_>) -> rusqlite::Result<Archived> {
    Ok(Archived {
        node: text(row, "node")?,
        seq: count(row, "seq")?,
        at: instant(row, "at")?,
        fact: row.get("fact")?,
        run: optional_text(row, "run")?,
        entry: json(row, "body")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_leave_no_entry_out_although_many_have_one_instant() {
        let connection = Connection::open_in_memory().expect("opens");
        connection
            .execute_batch("CREATE TABLE ledger (node TEXT, seq INTEGER, at INTEGER, fact TEXT, run TEXT, body TEXT)")
            .expect("made");
        let nodes = ["basel", "houston"];
        for (node, seq) in nodes.iter().flat_map(|node| (0..7).map(move |seq| (node, seq))) {
            connection
                .execute("INSERT INTO ledger VALUES (?1, ?2, ?3, 'f', NULL, '{}')", params![node, seq, 5 + seq / 4])
                .expect("written");
        }
        let mut filter = Filter { limit: 3, ..Filter::default() };
        let mut found = Vec::new();
        loop {
            let page = list(&connection, &filter).expect("readable");
            let Some(last) = page.last() else { break };
            filter.before = Some(last.at);
            filter.before_node = Some(last.node.clone());
            filter.before_seq = Some(last.seq);
            found.extend(page.into_iter().map(|entry| (entry.node.to_string(), entry.seq)));
        }
        let expected =
            |node: &str, range: std::ops::Range<u64>| range.rev().map(|seq| (node.to_owned(), seq)).collect::<Vec<_>>();
        let parts =
            [expected("basel", 4..7), expected("houston", 4..7), expected("basel", 0..4), expected("houston", 0..4)];
        assert_eq!(found, parts.concat());
        let older = Filter { before: Some(Timestamp::from_micros(6)), ..Filter::default() };
        assert_eq!(list(&connection, &older).expect("readable").len(), 8, "an instant alone is a bound, too");
    }
}
