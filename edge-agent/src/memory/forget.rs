//! `forget`: takes away what workflows and people keep: a text or an episode by its id, all of a source, or all about a subject; a conversation, or what was
//! said in conversations of a source or about a subject. What a bundle brings is the bundle's to take away.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use edge_core::engine::effect::{Call, Completion, Failure, Keep};
use rusqlite::{Connection, params, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    ledger::entry::Fact,
    policy::{Permit, Target, TargetKind},
};

use super::{
    Inner, Memory, broken,
    episode::{self, Kind},
    follow, hold,
    index::Error,
    millis,
    remember::{INDEX, kept_path, named},
    room,
    session::SESSIONS,
    wipe::{self, Wiping},
    wrong,
};

/// What is meant: all of which this is true.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Forget {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
}

impl Forget {
    fn is_of_sessions(&self) -> bool {
        self.kind == Some(Kind::Session) || (self.kind.is_none() && self.session.is_some())
    }

    fn place(&self) -> &str {
        let own = if self.kind == Some(Kind::Episode) { episode::INDEX } else { INDEX };
        if self.is_of_sessions() { SESSIONS } else { self.index.as_deref().unwrap_or(own) }
    }

    fn check(&self, call: &Call) -> Result<(), Failure> {
        let all = [("session", &self.session), ("id", &self.id), ("source", &self.source), ("subject", &self.subject)];
        for (field, value) in all {
            named(call, field, value.as_deref())?;
        }
        let (stray, wanted) = if self.is_of_sessions() {
            ([("index", &self.index), ("id", &self.id)], "a session, a source or a subject")
        } else {
            ([("session", &self.session), ("session", &None)], "an id, a source or a subject")
        };
        if let Some((field, _)) = stray.iter().find(|(_, value)| value.is_some()) {
            return Err(wrong(call, field, "given for what has none"));
        }
        if all.iter().all(|(_, value)| value.is_none()) {
            let field = if self.is_of_sessions() { "session" } else { "id" };
            return Err(wrong(call, field, &format!("missing; expected {wanted}")));
        }
        Ok(())
    }
}

impl Memory {
    /// What policy must be asked about before `forget`: whoever may keep something may take it away.
    ///
    /// # Errors
    /// A validation error when the call's arguments are wrong.
    pub fn forgotten_in(&self, call: &Call) -> Result<Target, Failure> {
        let asked: Forget = call.arguments()?;
        Ok(Target::new(TargetKind::Index, asked.place()))
    }

    /// Removes texts with their vectors, or turns of conversations; what begins afterwards does not find them.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `runtime` when the store fails.
    pub async fn forget(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        let mut asked: Forget = call.arguments()?;
        hold(call, &permit, asked.place())?;
        asked.check(call)?;
        let began = Instant::now();
        let (inner, which) = (Arc::clone(&self.inner), asked.clone());
        let forget = move || if which.is_of_sessions() { inner.forget_said(which) } else { inner.forget_kept(which) };
        let forgotten = tokio::task::spawn_blocking(forget).await;
        let forgotten = forgotten.map_err(|_| broken(call, "the removal panicked, see the log"))?;
        let forgotten = forgotten.map_err(|error| broken(call, error))?;
        let output = json!({ "forgotten": forgotten });
        asked.index = Some(asked.place().to_owned());
        let fact = Fact::ToolCalled {
            function: call.function.clone(),
            input: keep.content(&json!(asked).to_string()),
            output: keep.content(&output.to_string()),
            duration_ms: millis(began.elapsed()),
        };
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }
}

impl Inner {
    /// How many texts are gone.
    fn forget_kept(&self, which: Forget) -> Result<usize, Error> {
        let index = which.place().to_owned();
        let is_of_many = which.source.is_some() || which.subject.is_some();
        let (count, chunks) = self.store.write_blocking("forget texts", move |tx| {
            let connection = tx.connection();
            let mut query = connection.prepare_cached(
                "SELECT id, path, source FROM memory_document WHERE remembered AND idx = ?1 AND remembered = ?5 AND (?2 IS NULL OR path = ?2)
                 AND (?3 IS NULL OR source = ?3) AND (?4 IS NULL OR subject = ?4)",
            )?;
            let (path, form): (fn(&str) -> String, i64) = match which.kind {
                Some(Kind::Episode) => (episode::path, room::EPISODES),
                _ => (kept_path, room::TEXTS),
            };
            let values = params![which.place(), which.id.as_deref().map(path), which.source, which.subject, form];
            let found = query.query_map(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let found: Vec<(i64, String, Option<String>)> = found.collect::<rusqlite::Result<_>>()?;
            let wiping = Wiping::begin(connection)?;
            let mut chunks = Vec::new();
            for (id, ..) in &found {
                chunks.extend(wiping.remove(*id)?);
            }
            if is_of_many && !found.is_empty() {
                wipe::note(connection)?;
            }
            if which.kind != Some(Kind::Episode) {
                // Of one by its id, the files of another source are not meant.
                let own = found.first().filter(|_| which.id.is_some()).and_then(|(.., source)| source.clone());
                let source = which.source.as_ref().or(own.as_ref());
                let fits = (which.id.as_deref(), source.map(String::as_str), which.subject.as_deref());
                follow::forget(connection, which.place(), fits)?;
                // What has a subject of its own may lie in a folder without.
                for (_, path, source) in found.iter().filter(|_| which.id.is_none() && which.subject.is_some()) {
                    if let (Some(name), Some(source)) = (path.strip_prefix(&kept_path("")), source) {
                        follow::forget(connection, which.place(), (Some(name), Some(source), None))?;
                    }
                }
            }
            Ok((found.len(), chunks))
        })?;
        self.hide(&index, &chunks);
        if is_of_many && count > 0 {
            self.purge(&index);
        }
        Ok(count)
    }

    /// How many turns are gone.
    fn forget_said(&self, which: Forget) -> Result<usize, Error> {
        let forget = move |connection: &Connection| -> rusqlite::Result<usize> {
            let mut sql = "DELETE FROM memory_turn WHERE true".to_owned();
            let mut values = Vec::new();
            for (column, value) in [("session", which.session), ("source", which.source), ("subject", which.subject)] {
                if let Some(value) = value {
                    sql.push_str(&format!(" AND {column} = ?"));
                    values.push(value);
                }
            }
            let _wiping = Wiping::begin(connection)?;
            let count = connection.prepare_cached(&sql)?.execute(params_from_iter(values))?;
            room::drop_silent(connection)?;
            Ok(count)
        };
        let write = move |tx: &mut crate::store::Transaction<'_>| Ok(forget(tx.connection())?);
        let count = self.store.write_blocking("forget what was said", write)?;
        if count > 0 {
            self.remains.in_log.store(true, Ordering::Relaxed);
        }
        Ok(count)
    }
}
