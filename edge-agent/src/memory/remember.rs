//! `remember`: texts and episodes that workflows keep. `retrieve` finds them as it finds the bundle's documents; a text carries the label
//! of the run that kept it, and gives it to the run that finds it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edge_core::engine::effect::{Call, Completion, Failure, Keep, kind};
use models::embed::size;
use rusqlite::params;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::{
    digest::Digest,
    ledger::entry::Fact,
    policy::{Permit, Target, TargetKind},
    time,
};

use tokio_util::sync::CancellationToken;

use super::{
    Inner, Memory, broken,
    desk::{self, Asker, Model, Work},
    embed::desk_failure,
    episode::{self, Episode, Kind},
    hold,
    index::{Error, Kept, Origin, Text, embedded},
    limits::{Bounds, WhenFull},
    millis, session, text_within,
    wipe::Wiping,
    wrong,
};
use crate::{clock, store};

/// The index that texts are kept in when the task names none.
pub(super) const INDEX: &str = "remembered";
const NAME_BYTES_MAX: usize = 256;
/// As much as a document of a bundle that is text.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// What a search names a kept text by: no document of a bundle is called so.
#[must_use]
pub fn kept_path(id: &str) -> String {
    format!("remembered:{id}")
}

/// Why texts are not kept in an index of this name.
#[must_use]
pub fn reserved(index: &str) -> Option<&'static str> {
    (index == session::SESSIONS).then_some("it holds conversations, and no text beside them: expected another index")
}

/// The index that a call names, as one that texts are kept in.
pub(super) fn index_named(call: &Call, index: &str) -> Result<(), Failure> {
    named(call, "index", Some(index))?;
    reserved(index).map_or(Ok(()), |why| Err(wrong(call, "index", &format!("{index:?}: {why}"))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Remember {
    text: String,
    index: Option<String>,
    id: Option<String>,
    source: Option<String>,
    subject: Option<String>,
    keep_for: Option<String>,
    kind: Option<Kind>,
    outcome: Option<String>,
    details: Option<Map<String, Value>>,
}

impl Remember {
    fn index(&self) -> &str {
        let own = if self.kind == Some(Kind::Episode) { episode::INDEX } else { INDEX };
        self.index.as_deref().unwrap_or(own)
    }

    /// What it is kept under, with what is said of it, within the bounds of its index.
    fn kept(self, call: &Call, bounds: Bounds) -> Result<(String, Kept), Failure> {
        let Self { text: given, id, source, subject, keep_for, kind, outcome, details, .. } = self;
        let keep_for = kept_for(call, keep_for.as_deref())?.or(bounds.keep_for);
        for (field, name) in [("id", &id), ("source", &source), ("subject", &subject)] {
            named(call, field, name.as_deref())?;
        }
        if kind == Some(Kind::Episode) {
            let text = Episode::situation(call, given)?;
            // Experience is a ring: what came first has been told most often.
            let bounds = Bounds { when_full: WhenFull::ForgetOldest, ..bounds };
            let workflow = call.workflow.split(':').next().map(str::to_owned);
            let episode = Some(Episode::of(call, outcome, details)?);
            return Ok((text, Kept { source: source.or(workflow), subject, keep_for, bounds, episode }));
        }
        for (field, is_given) in [("outcome", outcome.is_some()), ("details", details.is_some())] {
            if is_given {
                return Err(wrong(call, field, "given for what has none; expected it with `kind: episode`"));
            }
        }
        if kind == Some(Kind::Session) {
            return Err(wrong(call, "session", "missing; expected the conversation's name"));
        }
        let text = text_within(call, "text", given, KEPT_BYTES_MAX)?;
        Ok((text, Kept { source, subject, keep_for, bounds, episode: None }))
    }
}

/// How long something is to be kept, where the task says.
pub(super) fn kept_for(call: &Call, given: Option<&str>) -> Result<Option<Duration>, Failure> {
    let span = |text| {
        let span = time::span(text).filter(|span| !span.is_zero());
        span.ok_or_else(|| wrong(call, "keepFor", &format!("found {text:?}, expected {}", time::SPAN)))
    };
    given.map(span).transpose()
}

/// Whether a name is one, where it is given.
pub(super) fn named(call: &Call, field: &str, name: Option<&str>) -> Result<(), Failure> {
    match name {
        Some(name) if name.is_empty() || name.len() > NAME_BYTES_MAX => {
            Err(wrong(call, field, &format!("expected 1 to {NAME_BYTES_MAX} bytes")))
        }
        _ => Ok(()),
    }
}

impl Memory {
    /// What policy must be asked about before `remember`.
    ///
    /// # Errors
    /// A validation error when the call's arguments are wrong.
    pub fn kept_in(&self, call: &Call) -> Result<Target, Failure> {
        if session::is_of_session(call) {
            return session::target(call);
        }
        let asked: Remember = call.arguments()?;
        index_named(call, asked.index())?;
        Ok(Target::new(TargetKind::Index, asked.index()))
    }

    /// Keeps a text, in place of the one with the same id. Without an id it has one of its own, the same whenever this
    /// effect is asked again.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `timeout` when it cannot be embedded in time, `runtime` when the store or the embedder fails, with
    /// status 413 when the index is full.
    pub async fn remember(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        if session::is_of_session(call) {
            return self.say(call, &permit, keep).await;
        }
        let target = self.kept_in(call)?;
        hold(call, &permit, &target.name)?;
        let asked: Remember = call.arguments()?;
        let id = asked.id.clone().unwrap_or_else(|| Digest::of(call.key.0.as_bytes()).to_string());
        let (given, said) = asked.kept(call, self.limits.of(&target.name))?;
        let began = Instant::now();
        let label = serde_json::to_string(&call.label).expect("a label is plain data");
        let (inner, index, kept) = (Arc::clone(&self.inner), target.name.clone(), given.clone());
        let path = if said.episode.is_some() { episode::path(&id) } else { kept_path(&id) };
        // Whoever asked may go meanwhile, or the node may stop.
        let gone = CancellationToken::new();
        let _when_dropped = gone.clone().drop_guard();
        let ends = call.gives_up_at();
        let put = move || {
            let is_given_up = &|| gone.is_cancelled() || ends.is_some_and(|ends| ends < clock::now());
            let work = Work { model: Model::Embedder, tokens: size(&kept) as u64, is_loaded: true };
            Asker { ends, ..Asker::chore(&inner.desk, is_given_up) }.late(&work).map_err(Error::Late)?;
            let digest = Digest::of(kept.as_bytes());
            let origin = Origin::Remembered(said);
            inner.put(&Text { index: &index, path: &path, text: &kept, digest, origin, is_given_up }, label)
        };
        let put = tokio::task::spawn_blocking(put).await;
        match put.map_err(|_| broken(call, "the embedder panicked, see the log"))? {
            Ok(()) => {}
            Err(Error::Store(store::Error::Data { detail, .. })) => {
                let detail = format!("{} of {}: {detail}", call.function, call.task);
                return Err(Failure::new(kind::LIMIT, detail));
            }
            Err(Error::Form { why, .. }) => return Err(wrong(call, "text", &why)),
            Err(Error::Late(late)) => return Err(desk_failure(call, &late)),
            // Who has gone does not hear it.
            Err(Error::GivenUp { .. }) => return Err(desk_failure(call, &desk::Error::Timeout)),
            Err(error) => return Err(broken(call, error)),
        }
        let output = json!({ "id": id });
        let fact = Fact::ToolCalled {
            function: call.function.clone(),
            input: keep.content(&format!("{}: {given}", target.name)),
            output: keep.content(&output.to_string()),
            duration_ms: millis(began.elapsed()),
        };
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }
}

impl Inner {
    /// Embeds again what has the vectors of another embedder; until all of an index is, the one before serves it.
    pub(super) fn renew(&self, is_outdated: &(dyn Fn() -> bool + Sync)) -> Result<(), Error> {
        let embedder = self.embedder.digest();
        let old = self.store.read_blocking("find what is to be embedded again", |connection| {
            let sql = "SELECT id, idx, path FROM memory_document WHERE embedder <> ?1";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([embedder.as_bytes().as_slice()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        for (document, index, path) in old {
            if is_outdated() {
                break;
            }
            let chunks = self.store.read_blocking("read a stored text", |connection| {
                let sql = "SELECT id, place, text FROM memory_chunk WHERE document = ?1 ORDER BY id";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([document], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
                })?;
                rows.collect::<Result<Vec<_>, _>>()
            })?;
            let texts: Vec<String> = chunks.iter().map(|(_, place, text)| embedded(place, text)).collect();
            let vectors = match self.vectors(&*self.embedder, &format!("{index}/{path}"), &texts, is_outdated) {
                Err(Error::GivenUp { .. }) => break,
                made => made?,
            };
            let ids: Vec<i64> = chunks.iter().map(|(id, ..)| *id).collect();
            self.embedded_again(document, &index, ids, vectors)?;
            self.heal()?;
        }
        Ok(())
    }

    fn embedded_again(&self, document: i64, index: &str, ids: Vec<i64>, vectors: Vec<Vec<f32>>) -> Result<(), Error> {
        let embedder = self.embedder.digest();
        let rows: Vec<(i64, Vec<u8>)> =
            ids.iter().copied().zip(vectors.iter().map(|vector| super::index::to_blob(vector))).collect();
        self.store.write_blocking("embed a text again", move |tx| {
            // A row of another length moves.
            let _wiping = Wiping::begin(tx.connection())?;
            for (id, vector) in &rows {
                tx.connection().execute("UPDATE memory_chunk SET vector = ?2 WHERE id = ?1", params![id, vector])?;
            }
            let sql = "UPDATE memory_document SET embedder = ?2 WHERE id = ?1";
            tx.connection().execute(sql, params![document, embedder.as_bytes().as_slice()])?;
            Ok(())
        })?;
        self.replace(index, &ids, &vectors);
        Ok(())
    }
}
