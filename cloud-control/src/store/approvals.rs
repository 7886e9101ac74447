//! Questions from nodes that wait for a person, and the answers on their way back.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use shared::{
    id::{ApprovalId, NodeName},
    ledger::entry::{Entry, Fact, Verdict},
    time::Timestamp,
    wire::v1::{AnswerOutcome, PendingApproval, SignedAnswer},
};

use super::{int, json, optional_instant, optional_json, text, to_json};

/// A question and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    pub node: NodeName,
    pub question: PendingApproval,
    /// Whether the node said last that it waits.
    pub open: bool,
    /// The answer that was given here.
    pub answer: Option<SignedAnswer>,
    pub by: Option<String>,
    pub answered: Option<Timestamp>,
    /// What the node made of the answer.
    pub outcome: Option<AnswerOutcome>,
    /// How it was decided, as the node's ledger says it; `None` until that entry is here.
    #[serde(default)]
    pub decided: Option<Decided>,
}

/// A decision as it stands in a node's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub verdict: Verdict,
    /// Empty when nobody answered in time.
    pub by: String,
    pub place: String,
    pub role: Option<String>,
}

/// Where a question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Waits for a person.
    Open,
    /// Answered here; the node has not said yet what became of it.
    Answered,
    /// The node took the answer.
    Delivered,
    /// Decided on site, expired, or the answer came too late.
    Closed,
}

impl Approval {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.outcome, &self.answer, self.open) {
            (Some(outcome), ..) if outcome.taken => State::Delivered,
            (Some(_), ..) | (None, None, false) => State::Closed,
            (None, Some(_), _) => State::Answered,
            (None, None, true) => State::Open,
        }
    }
}

const COLUMNS: &str = "SELECT node, question, open, answer, by, answered, outcome FROM approvals";

/// The newest questions first; with `open_only`, those that a person can answer.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection, open_only: bool, limit: usize) -> rusqlite::Result<Vec<Approval>> {
    let sql = format!("{COLUMNS} WHERE NOT ?1 OR (open AND answer IS NULL) ORDER BY asked DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![open_only, int(limit)], approval)?;
    rows.map(|row| row.and_then(|row| with_decision(connection, row))).collect()
}

/// Looks up in the node's ledger how a question was decided.
fn with_decision(connection: &Connection, mut approval: Approval) -> rusqlite::Result<Approval> {
    if approval.open {
        return Ok(approval);
    }
    let sql = "SELECT body FROM ledger WHERE run = ?1 AND node = ?2 AND fact = 'approval-decided'";
    let mut entries = connection.prepare_cached(sql)?;
    let run = approval.question.run.to_string();
    let mut rows = entries.query(params![run, approval.node.as_str()])?;
    while let Some(row) = rows.next()? {
        // What cannot be read was verified all the same: it is of another version, and says nothing here.
        if let Ok(Entry { fact: Fact::ApprovalDecided { approval: id, verdict, by, place, role, .. }, .. }) =
            serde_json::from_str(row.get_ref("body")?.as_str()?)
            && id == approval.question.approval
        {
            approval.decided = Some(Decided { verdict, by, place, role });
        }
    }
    Ok(approval)
}

/// One question.
///
/// # Errors
/// When SQLite fails.
pub fn get(connection: &Connection, id: ApprovalId) -> rusqlite::Result<Option<Approval>> {
    connection
        .prepare_cached(&format!("{COLUMNS} WHERE approval = ?1"))?
        .query_row([id.to_string()], approval)
        .optional()?
        .map(|found| with_decision(connection, found))
        .transpose()
}

/// Takes the questions that are open on a node now; those that it no longer names are closed, unless it says that there are
/// more. Answers whether anything changed.
pub(crate) fn report(
    connection: &Connection,
    node: &NodeName,
    open: &[PendingApproval],
    more: bool,
) -> rusqlite::Result<bool> {
    let names = to_json(&open.iter().map(|question| question.approval.to_string()).collect::<Vec<_>>());
    let mut changed = connection
        .prepare_cached(
            "UPDATE approvals SET open = 0
             WHERE node = ?1 AND open AND NOT ?3 AND approval NOT IN (SELECT value FROM json_each(?2))",
        )?
        .execute(params![node.as_str(), names, more])?;
    // A question never changes, but its proposal may have been left out when it was first named; another node cannot take
    // it over.
    let mut insert = connection.prepare_cached(
        "INSERT INTO approvals (approval, node, question, asked, open) VALUES (?1, ?2, ?3, ?4, 1)
         ON CONFLICT (approval) DO UPDATE SET open = 1,
            question = iif(excluded.question ->> 'proposal' IS NULL, question, excluded.question)
         WHERE node = excluded.node
            AND (NOT open OR (question ->> 'proposal' IS NULL AND excluded.question ->> 'proposal' IS NOT NULL))",
    )?;
    for question in open {
        changed += insert.execute(params![
            question.approval.to_string(),
            node.as_str(),
            to_json(question),
            question.asked.as_micros()
        ])?;
    }
    Ok(changed > 0)
}

pub(crate) fn answer(
    connection: &Connection,
    id: ApprovalId,
    answer: &SignedAnswer,
    by: &str,
    at: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE approvals SET answer = ?2, by = ?3, answered = ?4 WHERE approval = ?1")?
        .execute(params![id.to_string(), to_json(answer), by, at.as_micros()])?;
    Ok(())
}

/// Answers that a node has not reported the outcome of, oldest first.
pub(crate) fn undelivered(connection: &Connection, node: &NodeName) -> rusqlite::Result<Vec<SignedAnswer>> {
    connection
        .prepare_cached(
            "SELECT answer FROM approvals WHERE node = ?1 AND answer IS NOT NULL AND outcome IS NULL ORDER BY answered",
        )?
        .query_map([node.as_str()], |row| json(row, "answer"))?
        .collect()
}

/// Takes what became of answers. Answers whether anything changed.
pub(crate) fn outcomes(connection: &Connection, node: &NodeName, outcomes: &[AnswerOutcome]) -> rusqlite::Result<bool> {
    let mut changed = 0;
    let mut update = connection.prepare_cached(
        "UPDATE approvals SET outcome = ?3 WHERE approval = ?1 AND node = ?2 AND answer IS NOT NULL AND outcome IS NULL",
    )?;
    for outcome in outcomes {
        changed += update.execute(params![outcome.approval.to_string(), node.as_str(), to_json(outcome)])?;
    }
    Ok(changed > 0)
}

fn approval(row: &Row<'_>) -> rusqlite::Result<Approval> {
    Ok(Approval {
        node: text(row, "node")?,
        question: json(row, "question")?,
        open: row.get("open")?,
        answer: optional_json(row, "answer")?,
        by: row.get("by")?,
        answered: optional_instant(row, "answered")?,
        outcome: optional_json(row, "outcome")?,
        decided: None,
    })
}
