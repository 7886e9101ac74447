//! `forget`: takes away texts that workflows and people keep: one by its id, all of a source, or all about a subject. What a bundle brings
//! is the bundle's to take away.

use std::{sync::Arc, time::Instant};

use edge_core::engine::effect::{Call, Completion, Failure, Keep};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    ledger::entry::Fact,
    policy::{Permit, Target, TargetKind},
};

use super::{
    Inner, Memory, broken, hold,
    index::{Error, remove},
    millis,
    remember::{INDEX, kept_path, named},
    wrong,
};

/// Which texts are meant: those that all of this says.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Forget {
    index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
}

impl Memory {
    /// What policy must be asked about before `forget`: whoever may keep a text may take it away.
    ///
    /// # Errors
    /// A validation error when the call's arguments are wrong.
    pub fn forgotten_in(&self, call: &Call) -> Result<Target, Failure> {
        let Forget { index, .. } = call.arguments()?;
        Ok(Target::new(TargetKind::Index, index.unwrap_or_else(|| INDEX.to_owned())))
    }

    /// Removes the texts with their vectors; a search that begins afterwards does not find them.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `runtime` when the store fails.
    pub async fn forget(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        let target = self.forgotten_in(call)?;
        hold(call, &permit, &target.name)?;
        let asked: Forget = call.arguments()?;
        if asked.id.is_none() && asked.source.is_none() && asked.subject.is_none() {
            return Err(wrong(call, "id", "missing; expected an id, a source or a subject"));
        }
        for (field, value) in [("id", &asked.id), ("source", &asked.source), ("subject", &asked.subject)] {
            named(call, field, value.as_deref())?;
        }
        let began = Instant::now();
        let (inner, index, which) = (Arc::clone(&self.inner), target.name.clone(), asked.clone());
        let forgotten = tokio::task::spawn_blocking(move || inner.forget_kept(&index, &which)).await;
        let forgotten = forgotten.map_err(|_| broken(call, "the removal panicked, see the log"))?;
        let forgotten = forgotten.map_err(|error| broken(call, error))?;
        let output = json!({ "forgotten": forgotten });
        let fact = Fact::ToolCalled {
            function: call.function.clone(),
            input: keep.content(
                &json!({ "index": target.name, "id": asked.id, "source": asked.source, "subject": asked.subject })
                    .to_string(),
            ),
            output: keep.content(&output.to_string()),
            duration_ms: millis(began.elapsed()),
        };
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }
}

impl Inner {
    /// How many texts are gone.
    fn forget_kept(&self, index: &str, which: &Forget) -> Result<usize, Error> {
        let (name, which) = (index.to_owned(), which.clone());
        let (count, chunks) = self.store.write_blocking("forget texts", move |tx| {
            let connection = tx.connection();
            let mut query = connection.prepare_cached(
                "SELECT id FROM memory_document WHERE remembered AND idx = ?1 AND (?2 IS NULL OR path = ?2)
                 AND (?3 IS NULL OR source = ?3) AND (?4 IS NULL OR subject = ?4)",
            )?;
            let path = which.id.as_deref().map(kept_path);
            let ids = query.query_map(params![name, path, which.source, which.subject], |row| row.get(0))?;
            let ids: Vec<i64> = ids.collect::<rusqlite::Result<_>>()?;
            let mut chunks = Vec::new();
            for id in &ids {
                chunks.extend(remove(connection, *id)?);
            }
            Ok((ids.len(), chunks))
        })?;
        self.place(index, &chunks, &[], &[]);
        Ok(count)
    }
}
