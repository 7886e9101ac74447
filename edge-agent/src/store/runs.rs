//! Runs, questions and findings as pages, command lines and the control plane are told of them. Reads alone; the
//! `workflow` room writes these tables.

use std::str::FromStr;

use edge_core::engine::{
    Record,
    history::{self, TaskView},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};
use serde::Serialize;
use serde_json::Value;
use shared::{
    event::Event,
    id::{ApprovalId, RunId},
    time::Timestamp,
    wire::v1::{PendingApproval, RunSummary},
    workflow::{Workflow, draw::Path},
};

/// What a run may be, as pages, command lines and the API call it.
pub const STATUSES: [&str; 8] =
    ["pending", "running", "waiting", "parked", "suspended", "completed", "faulted", "cancelled"];

/// One run in full.
#[derive(Debug, Clone, Serialize)]
pub struct RunDetail {
    #[serde(flatten)]
    pub summary: RunSummary,
    /// What started it: `event <source> <id>`, `schedule <instant>`, `by hand`.
    pub trigger: String,
    pub input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// In the order in which they began.
    pub tasks: Vec<TaskView>,
}

/// One question in full.
#[derive(Debug, Clone, Serialize)]
pub struct ApprovalView {
    #[serde(flatten)]
    pub question: PendingApproval,
    pub task: String,
    /// `pending`, `approved`, `rejected` or `expired`.
    pub status: String,
    pub by: Option<String>,
    pub place: Option<String>,
    pub comment: Option<String>,
    pub decided: Option<Timestamp>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A status, `parked` (waiting for a target that is out of reach) or `suspended` (at rest until somebody resumes it).
    pub status: Option<String>,
    /// `namespace/name`.
    pub workflow: Option<String>,
    /// Changed at this instant or later.
    pub since: Option<Timestamp>,
    /// What they are about, in part: `press-1` finds `press-1/temperature`.
    pub subject: Option<String>,
    /// At most this many; 0 means 100.
    pub limit: usize,
}

const SUMMARY: &str = "SELECT run.id, run.workflow, run.version, run.bundle, run.status, run.input, run.label, run.error, \
     run.created_at, run.changed_at, run.ended_at, \
     (SELECT function FROM outbox WHERE outbox.run = run.id AND ask_again_at IS NOT NULL ORDER BY ask_again_at LIMIT 1), \
     (SELECT role FROM approval WHERE approval.run = run.id AND approval.status = 'pending' LIMIT 1), \
     run.task, run.subject, run.note, run.suspended_at, \
     (SELECT min(ask_again_at) FROM outbox WHERE outbox.run = run.id) FROM run";
/// The word for how a run stands.
const WORD: &str = "CASE WHEN run.suspended_at IS NOT NULL AND run.ended_at IS NULL THEN 'suspended' \
     WHEN EXISTS (SELECT 1 FROM outbox WHERE outbox.run = run.id AND ask_again_at IS NOT NULL) THEN 'parked' \
     ELSE run.status END";

/// Runs by their last change, the newest first.
///
/// # Errors
/// When SQLite fails or a row is not what this version writes.
pub fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<RunSummary>> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let sql = format!(
        "{SUMMARY} WHERE (?1 IS NULL OR run.status = ?1 OR {WORD} = ?1) AND (?2 IS NULL OR run.workflow = ?2) \
         AND (?3 IS NULL OR run.changed_at >= ?3) ORDER BY run.changed_at DESC, run.id DESC"
    );
    let since = filter.since.map(Timestamp::as_micros);
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(params![filter.status, filter.workflow, since], summary)?;
    // What a run is about may stand in its input alone, so it is looked at here; rows are read as they are needed.
    let is_meant = |run: &RunSummary| {
        let about = run.subject.as_deref().unwrap_or_default();
        filter.subject.as_deref().is_none_or(|subject| about.contains(subject))
    };
    found.filter(|run| run.as_ref().map_or(true, is_meant)).take(limit).collect()
}

/// One run.
///
/// # Errors
/// As `list`.
pub fn one(connection: &Connection, run: RunId) -> rusqlite::Result<Option<RunSummary>> {
    let sql = format!("{SUMMARY} WHERE run.id = ?1");
    connection.prepare_cached(&sql)?.query_row([run.to_string()], summary).optional()
}

/// Runs behind a place in the order of their last change and id, the oldest change first.
///
/// # Errors
/// As `list`.
pub fn changed_since(
    connection: &Connection,
    (since, run): (Timestamp, Option<RunId>),
    limit: usize,
) -> rusqlite::Result<Vec<RunSummary>> {
    let sql = format!("{SUMMARY} WHERE (run.changed_at, run.id) > (?1, ?2) ORDER BY run.changed_at, run.id LIMIT ?3");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let run = run.map(|run| run.to_string()).unwrap_or_default();
    connection.prepare_cached(&sql)?.query_map(params![since.as_micros(), run, limit], summary)?.collect()
}

/// Workflows told to somebody who is to choose one.
const WORKFLOWS_MAX: usize = 500;

/// The names of the workflows that this node has or had, in order.
///
/// # Errors
/// When SQLite fails.
pub fn workflows(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT DISTINCT name FROM workflow ORDER BY name";
    connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.take(WORKFLOWS_MAX).collect()
}

/// Runs by status; parked and suspended ones are not among the waiting.
///
/// # Errors
/// When SQLite fails.
pub fn counts(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let sql = format!("SELECT {WORD} AS word, count(*) FROM run GROUP BY word");
    let read = |row: &Row<'_>| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)));
    connection.prepare_cached(&sql)?.query_map([], read)?.collect()
}

/// One run with its tasks.
///
/// # Errors
/// As `list`.
pub fn detail(connection: &Connection, run: RunId) -> rusqlite::Result<Option<RunDetail>> {
    let Some(summary) = one(connection, run)? else { return Ok(None) };
    let maybe = |row: &Row<'_>, column| row.get::<_, Option<String>>(column)?.map(|_| json(row, column)).transpose();
    let (trigger, input, output, error) = connection
        .prepare_cached("SELECT trigger, input, output, error FROM run WHERE id = ?1")?
        .query_row([run.to_string()], |row| Ok((row.get(0)?, json(row, 1)?, maybe(row, 2)?, maybe(row, 3)?)))?;
    let tasks = history::tasks(&records(connection, run)?);
    Ok(Some(RunDetail { summary, trigger, input, output, error, tasks }))
}

/// The version of the workflow that a run keeps, and the path that it took through it.
///
/// # Errors
/// As `list`.
pub fn path(connection: &Connection, run: RunId) -> rusqlite::Result<Option<(Workflow, Path)>> {
    let sql = "SELECT workflow.text FROM workflow JOIN run ON run.definition = workflow.digest WHERE run.id = ?1";
    let text: Option<String> =
        connection.prepare_cached(sql)?.query_row([run.to_string()], |row| row.get(0)).optional()?;
    let Some(text) = text else { return Ok(None) };
    let workflow = Workflow::parse("stored workflow", &text)
        .map_err(|problems| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(problems)))?;
    Ok(Some((workflow, history::path(&records(connection, run)?))))
}

fn records(connection: &Connection, run: RunId) -> rusqlite::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut statement = connection.prepare_cached("SELECT records FROM run_step WHERE run = ?1 ORDER BY seq")?;
    let mut rows = statement.query([run.to_string()])?;
    while let Some(row) = rows.next()? {
        records.extend(json::<Vec<Record>>(row, 0)?);
    }
    Ok(records)
}

const QUESTION: &str = "SELECT id, run, workflow, role, title, shown, digest, label, requested_at, deadline, \
     task, status, by, place, comment, decided_at FROM approval";

/// The questions that wait for a person, the oldest first.
///
/// # Errors
/// As `list`.
pub fn approvals_pending(connection: &Connection) -> rusqlite::Result<Vec<PendingApproval>> {
    let sql = format!("{QUESTION} WHERE status = 'pending' ORDER BY requested_at, id");
    connection.prepare_cached(&sql)?.query_map([], question)?.collect()
}

/// One question, open or not.
///
/// # Errors
/// As `list`.
pub fn approval(connection: &Connection, id: ApprovalId) -> rusqlite::Result<Option<ApprovalView>> {
    let sql = format!("{QUESTION} WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.to_string()], approval_view).optional()
}

/// Questions, open or not, the newest first.
///
/// # Errors
/// As `list`.
pub fn approvals(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<ApprovalView>> {
    let sql = format!("{QUESTION} ORDER BY requested_at DESC, id DESC LIMIT ?1");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection.prepare_cached(&sql)?.query_map([limit], approval_view)?.collect()
}

/// Findings with the instant at which the node took them, the newest first.
///
/// # Errors
/// As `list`.
pub fn findings(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<(Timestamp, Event)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached("SELECT at, event FROM finding ORDER BY at DESC, id DESC LIMIT ?1")?
        .query_map([limit], |row| Ok((Timestamp::from_micros(row.get(0)?), json(row, 1)?)))?
        .collect()
}

fn question(row: &Row<'_>) -> rusqlite::Result<PendingApproval> {
    Ok(PendingApproval {
        approval: text(row, 0)?,
        run: text(row, 1)?,
        workflow: row.get(2)?,
        role: row.get(3)?,
        title: row.get(4)?,
        proposal: Some(json(row, 5)?),
        shown: text(row, 6)?,
        label: json(row, 7)?,
        asked: Timestamp::from_micros(row.get(8)?),
        deadline: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
    })
}

fn approval_view(row: &Row<'_>) -> rusqlite::Result<ApprovalView> {
    Ok(ApprovalView {
        question: question(row)?,
        task: row.get(10)?,
        status: row.get(11)?,
        by: row.get(12)?,
        place: row.get(13)?,
        comment: row.get(14)?,
        decided: row.get::<_, Option<i64>>(15)?.map(Timestamp::from_micros),
    })
}

fn summary(row: &Row<'_>) -> rusqlite::Result<RunSummary> {
    let (parked, asked): (Option<String>, Option<String>) = (row.get(11)?, row.get(12)?);
    let error: Option<String> = row.get(7)?;
    let ended: Option<i64> = row.get(10)?;
    let rests = row.get::<_, Option<i64>>(16)?.is_some() && ended.is_none();
    let status = match parked {
        _ if rests => "suspended".to_owned(),
        Some(_) => "parked".to_owned(),
        None => row.get(4)?,
    };
    let note = match (error, parked, asked) {
        _ if rests => row.get(15)?,
        (Some(error), _, _) => Some(reason(&error)),
        (_, Some(function), _) => {
            let again: Option<i64> = row.get(17)?;
            let again = again.map(|at| format!("; asked again at {} at the latest", Timestamp::from_micros(at)));
            Some(format!("`{function}` waits until its target is in reach{}", again.unwrap_or_default()))
        }
        (_, _, asked) => row.get::<_, Option<String>>(15)?.or(asked.map(|role| format!("waits for {role}"))),
    };
    let input: String = row.get(5)?;
    let about = serde_json::from_str(&input).ok().and_then(|input| subject(&input));
    Ok(RunSummary {
        run: text(row, 0)?,
        workflow: row.get(1)?,
        version: row.get(2)?,
        bundle: text(row, 3)?,
        status,
        task: row.get(13)?,
        note,
        subject: about.or(row.get(14)?),
        label: json(row, 6)?,
        started: Timestamp::from_micros(row.get(8)?),
        updated: Timestamp::from_micros(row.get(9)?),
        ended: ended.map(Timestamp::from_micros),
    })
}

/// What a run is about: the device and channel of a finding, or the id of a message or record.
fn subject(input: &Value) -> Option<String> {
    let first = input.get(0).unwrap_or(input);
    let data = first.get("data").unwrap_or(first);
    let of = |value: &Value, name: &str| value.get(name)?.as_str().map(str::to_owned);
    match (of(data, "device"), of(data, "channel")) {
        (Some(device), Some(channel)) => Some(format!("{device}/{channel}")),
        (Some(device), None) => Some(device),
        _ => of(data, "id").or_else(|| of(first, "subject")),
    }
}

/// An error of the DSL in one sentence.
fn reason(error: &str) -> String {
    let value: Value = serde_json::from_str(error).unwrap_or(Value::Null);
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    match (text("title"), text("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => error.to_owned(),
    }
}

fn text<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::digest::Digest;

    use super::*;

    fn store() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema/03_runs.sql")).unwrap();
        connection.execute_batch(include_str!("schema/06_engine.sql")).unwrap();
        connection.execute("INSERT INTO workflow VALUES ('d', 'plant/a', '')", []).unwrap();
        connection
    }

    fn add(connection: &Connection, number: i64, status: &str, input: &Value) -> RunId {
        let run = RunId::derive(Timestamp::from_millis(number), b"run");
        let bundle = Digest::of(b"").to_string();
        connection
            .execute(
                "INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, changed_at) \
                 VALUES (?1, 'plant/a', '1.0.0', 'd', ?2, 'by hand', ?3, '{\"class\":\"internal\"}', ?4, ?5, ?5)",
                params![run.to_string(), bundle, input.to_string(), status, number],
            )
            .unwrap();
        run
    }

    #[test]
    fn a_run_that_waits_for_a_target_is_parked_and_says_so() {
        let connection = store();
        let parked = add(&connection, 1, "waiting", &json!([{"data": {"id": "note-7"}}]));
        add(&connection, 2, "waiting", &json!([{"data": {"device": "pump-7", "channel": "vibration"}}]));
        let outbox = "INSERT INTO outbox VALUES (?1, 0, ?2, 'infer', 1, 99)";
        connection.execute(outbox, params![parked.to_string(), format!("{parked}:/do/2/ask")]).unwrap();
        connection.execute("UPDATE run SET task = '/do/2/ask' WHERE id = ?1", [parked.to_string()]).unwrap();

        let filter = Filter { status: Some("parked".to_owned()), ..Filter::default() };
        let rows = list(&connection, &filter).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].run, rows[0].status.as_str()), (parked, "parked"));
        assert_eq!((rows[0].task.as_deref(), rows[0].subject.as_deref()), (Some("/do/2/ask"), Some("note-7")));
        assert_eq!(counts(&connection).unwrap(), [("parked".to_owned(), 1), ("waiting".to_owned(), 1)]);
        let all = list(&connection, &Filter::default()).unwrap();
        assert_eq!(all[0].subject.as_deref(), Some("pump-7/vibration"), "the newest change first");
    }

    #[test]
    fn a_question_is_told_with_exactly_what_is_shown() {
        let connection = store();
        let run = add(&connection, 1, "waiting", &json!({}));
        let proposal = json!({"command": "stop"});
        let shown = Digest::of_json(&proposal);
        connection
            .execute(
                "INSERT INTO approval (id, run, ask, task, workflow, role, title, shown, digest, label, requested_at, status) \
                 VALUES (?1, ?2, 0, '/do/1/ask', 'plant/a', 'lead', 'Stop?', ?3, ?4, '{\"class\":\"public\"}', 5, 'pending')",
                params![run.to_string(), run.to_string(), proposal.to_string(), shown.to_string()],
            )
            .unwrap();
        let open = approvals_pending(&connection).unwrap();
        assert_eq!((open[0].proposal.as_ref(), open[0].shown), (Some(&proposal), shown));
        assert_eq!(one(&connection, run).unwrap().unwrap().note.as_deref(), Some("waits for lead"));
        connection.execute("UPDATE approval SET status = 'approved'", []).unwrap();
        assert!(approvals_pending(&connection).unwrap().is_empty());
    }

    #[test]
    fn an_error_is_told_in_one_sentence() {
        assert_eq!(reason(r#"{"title":"timeout","detail":"nobody answered"}"#), "timeout: nobody answered");
        assert_eq!(reason("odd"), "odd");
    }
}
