//! Conversations: `remember` with a `session` keeps what was said, `retrieve` with it gives the newest turns in their order. Bounded: of a
//! conversation the newest turns stay, of conversations those in which something was said last.

use std::time::Instant;

use edge_core::engine::effect::{Call, Completion, Failure, Keep};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    digest::Digest,
    label::Label,
    ledger::entry::{self, Fact},
    policy::{Permit, Target, TargetKind},
};

use super::{Memory, broken, hold, millis, text, wrong};
use crate::store;

/// What policy knows all conversations as.
const SESSIONS: &str = "sessions";
const NAME_BYTES_MAX: usize = 256;
/// Of one conversation; more than a small model's context holds.
const TURNS_MAX: i64 = 200;
const TURNS_BYTES_MAX: i64 = 256 << 10;
const SESSIONS_MAX: i64 = 1_000;
/// Turns that `retrieve` gives when the task does not say.
const LAST: u32 = 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    #[default]
    User,
    Assistant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    session: String,
    text: String,
    #[serde(default)]
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recall {
    session: String,
    last: Option<u32>,
    clearance: Option<Label>,
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
        let Say { session, text: said, role } = call.arguments()?;
        let said = text(call, "text", said)?;
        let began = Instant::now();
        let (key, id) = (call.key.0.clone(), Digest::of(call.key.0.as_bytes()).to_string());
        let (role, label) = (json!(role), json!(call.label).to_string());
        let told = format!("{session}: {said}");
        let write = move |tx: &mut store::Transaction<'_>| {
            let role = role.as_str().unwrap_or_default();
            Ok(add(tx.connection(), &session, &key, (role, &said), &label)?)
        };
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
        let Recall { session, last, clearance } = call.arguments()?;
        let last = i64::from(last.unwrap_or(LAST));
        if !(1..=TURNS_MAX).contains(&last) {
            return Err(wrong(call, "last", &format!("{last}; expected 1 to {TURNS_MAX}")));
        }
        let began = Instant::now();
        let name = session.clone();
        let read = move |connection: &Connection| newest(connection, &name, last, clearance.as_ref());
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

fn add(
    connection: &Connection,
    session: &str,
    key: &str,
    (role, text): (&str, &str),
    label: &str,
) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM memory_turn WHERE key = ?1)";
    if connection.prepare_cached(sql)?.query_row([key], |row| row.get(0))? {
        return Ok(());
    }
    connection
        .prepare_cached("INSERT OR IGNORE INTO memory_session (name, spoken) VALUES (?1, 0)")?
        .execute([session])?;
    connection
        .prepare_cached("INSERT INTO memory_turn (session, key, role, text, label) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![session, key, role, text, label])?;
    // Conversations are told apart by which turn came last, not by a clock that may jump.
    connection
        .prepare_cached("UPDATE memory_session SET spoken = ?2 WHERE name = ?1")?
        .execute(params![session, connection.last_insert_rowid()])?;
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
    Ok(())
}

fn newest(connection: &Connection, session: &str, last: i64, clearance: Option<&Label>) -> rusqlite::Result<Vec<Turn>> {
    let mut query = connection
        .prepare_cached("SELECT role, text, label FROM memory_turn WHERE session = ?1 ORDER BY seq DESC LIMIT ?2")?;
    let read = |row: &rusqlite::Row<'_>| {
        let label: String = row.get(2)?;
        let label = serde_json::from_str(&label).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
        })?;
        Ok(Turn { role: row.get(0)?, text: row.get(1)?, label })
    };
    let mut turns: Vec<Turn> = query.query_map(params![session, last], read)?.collect::<rusqlite::Result<_>>()?;
    turns.retain(|turn| clearance.is_none_or(|clearance| clearance.covers(&turn.label)));
    turns.reverse();
    Ok(turns)
}
