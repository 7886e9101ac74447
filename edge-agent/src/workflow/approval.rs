//! Questions to people. A question is bound to the exact bytes that it shows: an answer names their digest. It waits in
//! the store, not in memory; the run waits with it, and the run's own deadline ends it.

use edge_core::engine::effect::{Ask, Call, Keep};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};
use shared::{
    digest::{Digest, canonical_json},
    id::{ApprovalId, RunId},
    label::Label,
    ledger::entry::{Entry, Fact, Verdict},
    time::Timestamp,
};

use super::{
    child,
    journal::{self, unreadable},
    perform::Proposal,
};
use crate::store::Transaction;

/// A person's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub approval: ApprovalId,
    /// The digest of what the person was shown: of the proposal's canonical JSON.
    pub shown: Digest,
    /// `Approved` or `Rejected`.
    pub verdict: Verdict,
    pub by: String,
    pub authority: Authority,
    pub comment: Option<String>,
    /// Where it was given: `local page`, `command line`, `api`, `control plane`.
    pub place: String,
}

/// By what right a person answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The roles that the node's own list gives them.
    Roles(Vec<String>),
    /// The control plane has held the question's role against its operator's, and signed the answer.
    ControlPlane,
}

/// Why an answer decides nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    #[error("there is no approval {0}")]
    Unknown(ApprovalId),
    #[error("approval {approval} was already {status} by {by}")]
    AlreadyDecided { approval: ApprovalId, status: String, by: String },
    #[error("what was shown for approval {0} differs from what is asked now; look at it again")]
    ShownDiffers(ApprovalId),
    #[error("approval {0} has expired")]
    Expired(ApprovalId),
    #[error("{by} may answer for {}, not for {role}", has.join(", "))]
    Role { by: String, has: Vec<String>, role: String },
    #[error("an answer is `approved` or `rejected`; expiry is not for people to say")]
    NoVerdict,
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// What became of an answer inside its transaction.
pub(super) enum Decided {
    /// The run that asked, what its task gets, and what the ledger says.
    Taken {
        run: RunId,
        ask: Ask,
        output: Value,
        entry: Box<Entry>,
    },
    Not(ApprovalError),
}

/// Writes the question down, once for each asking. `Some`: it was answered before, and this is what the task gets.
pub(super) fn request(
    tx: &mut Transaction<'_>,
    call: &Call,
    ask: Ask,
    proposal: &Proposal,
    facts: &[Fact],
    now: Timestamp,
) -> Result<Option<Value>, crate::store::Error> {
    if let Some(output) = answer_of(tx.connection(), call.run, ask)? {
        return Ok(Some(output));
    }
    // The key alone would name the question of an earlier attempt too, which has expired.
    let id = ApprovalId::derive(call.asked_at, child::seed(call, ask).as_bytes());
    let shown = canonical_json(&proposal.shown);
    let inserted = tx
        .connection()
        .prepare_cached(
            "INSERT OR IGNORE INTO approval (id, run, ask, task, workflow, role, title, shown, digest, label, \
             requested_at, deadline, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'pending')",
        )?
        .execute(params![
            id.to_string(),
            call.run.to_string(),
            ask.0,
            call.task,
            call.workflow,
            proposal.role,
            proposal.title,
            shown,
            Digest::of(shown.as_bytes()).to_string(),
            journal::json(&call.label),
            now.as_micros(),
            call.deadline.map(Timestamp::as_micros),
        ])?;
    if inserted == 0 {
        return Ok(None);
    }
    // What it waits for was said when it asked.
    tx.connection()
        .prepare_cached("UPDATE run SET changed_at = ?2 WHERE id = ?1")?
        .execute(params![call.run.to_string(), now.as_micros()])?;
    let requested = Fact::ApprovalRequested {
        approval: id,
        shown: proposal.keep.content(&shown),
        role: proposal.role.clone(),
        deadline: call.deadline,
    };
    for fact in facts.iter().cloned().chain([requested]) {
        tx.append(&Entry { at: now, run: Some(call.run), task: Some(call.task.clone()), fact })?;
    }
    Ok(None)
}

struct Row {
    run: RunId,
    ask: Ask,
    task: String,
    /// `namespace/name:version`.
    workflow: String,
    label: Label,
    role: String,
    digest: Digest,
    deadline: Option<Timestamp>,
    status: String,
    by: Option<String>,
    /// Whether the run is suspended.
    rests: bool,
}

/// Decides a question, if it is open, the person may answer it and saw what is asked. `keep` says whether the ledger may
/// keep the comment of this workflow's question with this label.
pub(super) fn decide(
    tx: &mut Transaction<'_>,
    answer: &Answer,
    keep: &dyn Fn(&str, &Label) -> Keep,
    now: Timestamp,
) -> Result<Decided, crate::store::Error> {
    let id = answer.approval;
    let status = match answer.verdict {
        Verdict::Approved => "approved",
        Verdict::Rejected => "rejected",
        Verdict::Expired => return Ok(Decided::Not(ApprovalError::NoVerdict)),
    };
    let Some(row) = read(tx.connection(), id)? else { return Ok(Decided::Not(ApprovalError::Unknown(id))) };
    if let Authority::Roles(has) = &answer.authority
        && !has.contains(&row.role)
    {
        let (by, has) = (answer.by.clone(), has.clone());
        return Ok(Decided::Not(ApprovalError::Role { by, has, role: row.role }));
    }
    if row.status == "expired" {
        return Ok(Decided::Not(ApprovalError::Expired(id)));
    }
    if row.status != "pending" {
        let by = row.by.unwrap_or_default();
        return Ok(Decided::Not(ApprovalError::AlreadyDecided { approval: id, status: row.status, by }));
    }
    if row.digest != answer.shown {
        return Ok(Decided::Not(ApprovalError::ShownDiffers(id)));
    }
    // While a run rests its deadlines stand still.
    if !row.rests && row.deadline.is_some_and(|deadline| deadline <= now) {
        return Ok(Decided::Not(ApprovalError::Expired(id)));
    }
    tx.connection()
        .prepare_cached(
            "UPDATE approval SET status = ?2, by = ?3, place = ?4, comment = ?5, decided_at = ?6 WHERE id = ?1",
        )?
        .execute(params![id.to_string(), status, answer.by, answer.place, answer.comment, now.as_micros()])?;
    let fact = Fact::ApprovalDecided {
        approval: id,
        shown: row.digest,
        verdict: answer.verdict,
        by: answer.by.clone(),
        place: answer.place.clone(),
        comment: answer.comment.as_deref().map(|comment| keep(&row.workflow, &row.label).content(comment)),
        role: Some(row.role),
    };
    let entry = Entry { at: now, run: Some(row.run), task: Some(row.task), fact };
    tx.append(&entry)?;
    let output = output(status, &answer.by, now, answer.comment.as_deref());
    Ok(Decided::Taken { run: row.run, ask: row.ask, output, entry: Box::new(entry) })
}

fn read(connection: &Connection, id: ApprovalId) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(
            "SELECT run, ask, task, digest, deadline, status, by, workflow, label, role, \
             EXISTS (SELECT 1 FROM run WHERE run.id = approval.run AND suspended_at IS NOT NULL) FROM approval WHERE id = ?1",
        )?
        .query_row([id.to_string()], |row| {
            Ok(Row {
                run: row.get::<_, String>(0)?.parse().map_err(|error| unreadable(&error))?,
                ask: Ask(row.get(1)?),
                task: row.get(2)?,
                digest: row.get::<_, String>(3)?.parse().map_err(|error| unreadable(&error))?,
                deadline: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
                status: row.get(5)?,
                by: row.get(6)?,
                workflow: row.get(7)?,
                label: journal::read_json(row.get_ref(8)?.as_str()?)?,
                role: row.get(9)?,
                rests: row.get(10)?,
            })
        })
        .optional()
}

/// What a person's answer gives the task that asked, if there is one.
pub(super) fn answer_of(connection: &Connection, run: RunId, ask: Ask) -> rusqlite::Result<Option<Value>> {
    connection
        .prepare_cached(
            "SELECT status, by, decided_at, comment FROM approval \
             WHERE run = ?1 AND ask = ?2 AND status IN ('approved', 'rejected')",
        )?
        .query_row(params![run.to_string(), ask.0], |row| {
            let (status, by): (String, String) = (row.get(0)?, row.get(1)?);
            let (at, comment): (i64, Option<String>) = (row.get(2)?, row.get(3)?);
            Ok(output(&status, &by, Timestamp::from_micros(at), comment.as_deref()))
        })
        .optional()
}

fn output(status: &str, by: &str, at: Timestamp, comment: Option<&str>) -> Value {
    json!({ "approved": status == "approved", "verdict": status, "by": by, "at": at, "comment": comment })
}

/// An open question has until then.
pub(super) fn put_off(
    connection: &Connection,
    run: RunId,
    ask: Ask,
    deadline: Option<Timestamp>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE approval SET deadline = ?3 WHERE run = ?1 AND ask = ?2 AND status = 'pending'")?
        .execute(params![run.to_string(), ask.0, deadline.map(Timestamp::as_micros)])?;
    Ok(())
}

/// Ends an open question that nobody waits for any more.
pub(super) fn expire(connection: &Connection, run: RunId, ask: Ask, now: Timestamp) -> rusqlite::Result<Option<Entry>> {
    let open = connection
        .prepare_cached("SELECT id, task, digest FROM approval WHERE run = ?1 AND ask = ?2 AND status = 'pending'")?
        .query_row(params![run.to_string(), ask.0], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    let Some((id, task, digest)) = open else { return Ok(None) };
    connection
        .prepare_cached("UPDATE approval SET status = 'expired', decided_at = ?2 WHERE id = ?1")?
        .execute(params![id, now.as_micros()])?;
    let id = id.parse().map_err(|error| unreadable(&error))?;
    let digest = digest.parse().map_err(|error| unreadable(&error))?;
    let (by, place) = (String::new(), "node".to_owned());
    let verdict = Verdict::Expired;
    let fact = Fact::ApprovalDecided { approval: id, shown: digest, verdict, by, place, role: None, comment: None };
    Ok(Some(Entry { at: now, run: Some(run), task: Some(task), fact }))
}
