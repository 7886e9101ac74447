//! Conversations: `remember` with a `session` keeps what was said, `retrieve` with it gives the newest turns in their order. Bounded: of a
//! conversation the newest turns stay, of conversations those in which something was said last.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edge_core::engine::effect::{Call, Completion, Failure, Keep};
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::json;
use shared::{
    digest::Digest,
    label::Label,
    ledger::entry::{self, Fact},
    policy::{Permit, Target, TargetKind},
};

use super::{
    Memory,
    age::Age,
    broken, hold, millis,
    remember::{kept_for, named},
    text,
    wipe::Wiping,
    wrong,
};
use crate::store;

/// What policy knows all conversations as.
pub(super) const SESSIONS: &str = "sessions";
const NAME_BYTES_MAX: usize = 256;
/// Of one conversation; more than a small model's context holds.
const TURNS_MAX: i64 = 200;
const TURNS_BYTES_MAX: i64 = 256 << 10;
const SESSIONS_MAX: i64 = 1_000;
/// Turns that `retrieve` gives when the task does not say.
const LAST: u32 = 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    #[default]
    User,
    Assistant,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Say {
    session: String,
    text: String,
    #[serde(default)]
    role: Role,
    source: Option<String>,
    subject: Option<String>,
    keep_for: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<Session>,
}

/// What a call may say of its kind where a session is named.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Session {
    Session,
}

/// A turn as it is written.
struct Said {
    session: String,
    /// Of the asking.
    key: String,
    role: Role,
    text: String,
    label: Label,
    source: Option<String>,
    subject: Option<String>,
    keep_for: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recall {
    session: String,
    last: Option<u32>,
    clearance: Option<Label>,
    #[serde(default, rename = "kind")]
    _kind: Option<Session>,
}

/// One turn as the store has it.
struct Turn {
    role: String,
    text: String,
    label: Label,
}

/// Whether a call of `remember` or `retrieve` is about a conversation.
pub(super) fn is_of_session(call: &Call) -> bool {
    call.input.get("session").is_some()
}

/// What policy must be asked about.
pub(super) fn target(call: &Call) -> Result<Target, Failure> {
    #[derive(Deserialize)]
    struct Of {
        session: String,
    }
    let Of { session } = call.arguments()?;
    if session.is_empty() || session.len() > NAME_BYTES_MAX {
        return Err(wrong(call, "session", &format!("expected 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(Target::new(TargetKind::Index, SESSIONS))
}

impl Memory {
    /// Keeps a turn, once for each asking.
    pub(super) async fn say(&self, call: &Call, permit: &Permit, keep: Keep) -> Result<Completion, Failure> {
        hold(call, permit, SESSIONS)?;
        let Say { session, text: said, role, source, subject, keep_for, .. } = call.arguments()?;
        let text = text(call, "text", said)?;
        for (field, name) in [("source", source.as_deref()), ("subject", subject.as_deref())] {
            named(call, field, name)?;
        }
        let keep_for = kept_for(call, keep_for.as_deref())?.or(self.limits.of(SESSIONS).keep_for);
        let began = Instant::now();
        let (key, id) = (call.key.0.clone(), Digest::of(call.key.0.as_bytes()).to_string());
        let told = format!("{session}: {text}");
        let said = Said { session, key, role, text, label: call.label.clone(), source, subject, keep_for };
        let age = Arc::clone(&self.inner.age);
        let write = move |tx: &mut store::Transaction<'_>| Ok(add(tx.connection(), &said, &age)?);
        self.inner.store.write("keep what was said", write).await.map_err(|error| broken(call, error))?;
        let output = json!({ "id": id });
        let fact = Fact::ToolCalled {
            function: call.function.clone(),
            input: keep.content(&told),
            output: keep.content(&output.to_string()),
            duration_ms: millis(began.elapsed()),
        };
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }

    /// Gives the newest turns in their order; their label joins the run's.
    pub(super) async fn recall(&self, call: &Call, permit: &Permit, keep: Keep) -> Result<Completion, Failure> {
        hold(call, permit, SESSIONS)?;
        let Recall { session, last, clearance, .. } = call.arguments()?;
        let last = last.unwrap_or(LAST);
        if !(1..=TURNS_MAX).contains(&i64::from(last)) {
            return Err(wrong(call, "last", &format!("{last}; expected 1 to {TURNS_MAX}")));
        }
        let began = Instant::now();
        let name = session.clone();
        let age = Arc::clone(&self.inner.age);
        let read = move |connection: &Connection| {
            let now = age.now(connection)?;
            newest(connection, &name, (last, now), clearance.as_ref())
        };
        let turns = self.inner.store.read("read what was said", read).await.map_err(|error| broken(call, error))?;
        let document = format!("session:{session}");
        let label = turns.iter().fold(Label::default(), |label, turn| label.join(&turn.label));
        let hits = turns.iter().zip(1..).map(|(turn, at)| entry::Hit {
            document: document.clone(),
            place: format!("turn {at}"),
            digest: Digest::of(turn.text.as_bytes()),
            score: 1.0,
        });
        let fact = Fact::Retrieved {
            index: SESSIONS.to_owned(),
            query: keep.content(&session),
            hits: hits.collect(),
            duration_ms: millis(began.elapsed()),
        };
        let passage = |(turn, at): (Turn, usize)| {
            json!({"text": turn.text, "role": turn.role, "document": document, "place": format!("turn {at}"),
                "score": 1.0, "label": turn.label})
        };
        let passages: Vec<_> = turns.into_iter().zip(1..).map(passage).collect();
        Ok(Completion { output: json!({ "passages": passages }), label, facts: vec![fact] })
    }
}

fn add(connection: &Connection, said: &Said, age: &Age) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM memory_turn WHERE key = ?1)";
    if connection.prepare_cached(sql)?.query_row([&said.key], |row| row.get(0))? {
        return Ok(());
    }
    let Said { session, key, text, source, subject, .. } = said;
    let expires = age.after(connection, said.keep_for)?;
    connection
        .prepare_cached("INSERT OR IGNORE INTO memory_session (name, spoken) VALUES (?1, 0)")?
        .execute([session])?;
    connection
        .prepare_cached(
            "INSERT INTO memory_turn (session, key, role, text, label, source, subject, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            session,
            key,
            said.role.name(),
            text,
            json!(said.label).to_string(),
            source,
            subject,
            expires
        ])?;
    // Conversations are told apart by which turn came last, not by a clock that may jump.
    connection
        .prepare_cached("UPDATE memory_session SET spoken = ?2 WHERE name = ?1")?
        .execute(params![session, connection.last_insert_rowid()])?;
    let _wiping = Wiping::begin(connection)?;
    // The newest turn stays, however long it is.
    connection
        .prepare_cached(
            "DELETE FROM memory_turn WHERE session = ?1 AND seq IN (
                 SELECT seq FROM (
                     SELECT seq, row_number() OVER newest AS turns,
                            sum(length(CAST(text AS BLOB))) OVER newest AS bytes
                     FROM memory_turn WHERE session = ?1 WINDOW newest AS (ORDER BY seq DESC)
                 ) WHERE turns > ?2 OR (bytes > ?3 AND turns > 1))",
        )?
        .execute(params![session, TURNS_MAX, TURNS_BYTES_MAX])?;
    connection
        .prepare_cached(
            "DELETE FROM memory_session WHERE name IN (
                 SELECT name FROM memory_session ORDER BY spoken DESC LIMIT -1 OFFSET ?1)",
        )?
        .execute([SESSIONS_MAX])?;
    if expires.is_some() { age.write(connection) } else { Ok(()) }
}

fn newest(
    connection: &Connection,
    session: &str,
    (last, age): (u32, i64),
    clearance: Option<&Label>,
) -> rusqlite::Result<Vec<Turn>> {
    let mut query = connection.prepare_cached(
        "SELECT role, text, label FROM memory_turn WHERE session = ?1 AND (expires IS NULL OR expires > ?2)
         ORDER BY seq DESC",
    )?;
    let (mut rows, mut turns) = (query.query(params![session, age])?, Vec::new());
    // Those that are not shown do not count: behind them may be others that are.
    while turns.len() < last as usize
        && let Some(row) = rows.next()?
    {
        let label: Label = serde_json::from_str(row.get_ref(2)?.as_str()?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
        })?;
        if clearance.is_none_or(|clearance| clearance.covers(&label)) {
            turns.push(Turn { role: row.get(0)?, text: row.get(1)?, label });
        }
    }
    turns.reverse();
    Ok(turns)
}
