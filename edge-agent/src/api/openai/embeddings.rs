//! Embeddings: texts in, vectors out, as OpenAI's clients ask for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::engine::effect::Keep;
use models::embed::Embedder;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{ledger::entry::CallEnd, policy::Action};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::{
    Body, Handles, Refusal,
    fields::{self, Rest},
    parse,
};

const EMBED_TEXTS_MAX: usize = 2_048;
/// Texts that are embedded in one go, so that one large request does not hold a thread for minutes without a look.
const EMBED_BATCH_LEN: usize = 32;
/// Requests that wait for the embedder, as many as for a chat model.
const WAITING_MAX: usize = 64;

#[derive(Deserialize)]
struct EmbeddingRequest {
    model: String,
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts (lists of tokens are not read)")]
enum Input {
    One(String),
    Many(Vec<String>),
}

pub(super) async fn embeddings(
    State(handles): State<Handles>,
    headers: HeaderMap,
    body: Body,
) -> Result<axum::Json<Value>, Refusal> {
    let asked: EmbeddingRequest = parse(body)?;
    fields::check(&asked.rest)?;
    // Vectors of another model than the one asked for would be compared with what they cannot be compared with.
    if asked.model != handles.embedder.name() {
        return Err(Refusal::no_model("embedder", &asked.model, handles.embedder.name()));
    }
    let texts = match asked.input {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
    };
    if !(1..=EMBED_TEXTS_MAX).contains(&texts.len()) {
        return Err(Refusal::invalid(format!("input: {} texts; expected 1 to {EMBED_TEXTS_MAX}", texts.len())));
    }
    if let Some(empty) = texts.iter().position(|text| text.trim().is_empty()) {
        return Err(Refusal::invalid(format!("input[{empty}]: no text; expected at least one character")));
    }
    let dimensions = handles.embedder.dimensions();
    if asked.dimensions.is_some_and(|asked| asked != dimensions) {
        return Err(Refusal::invalid(format!("dimensions: this node's embedder makes vectors of {dimensions}")));
    }
    let in_base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(Refusal::invalid(format!("encoding_format: {other:?}; expected float or base64"))),
    };
    let words: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let model = handles.embedder.name().to_owned();
    let vectors = embed(handles, texts, &headers).await?;
    let encode = |vector: &[f32]| match in_base64 {
        true => STANDARD.encode(vector.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).into(),
        false => json!(vector),
    };
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": encode(vector)}))
        .collect();
    Ok(axum::Json(json!({
        "object": "list", "data": data, "model": model,
        // In words: the embedder does not say how many tokens it read.
        "usage": {"prompt_tokens": words, "total_tokens": words},
    })))
}

/// Who waits for the embedder, which embeds for one at a time.
pub struct Line {
    place: Semaphore,
    waiting: AtomicUsize,
}

impl Default for Line {
    fn default() -> Self {
        Self { place: Semaphore::new(1), waiting: AtomicUsize::new(0) }
    }
}

impl Line {
    /// Waits for the embedder.
    ///
    /// # Errors
    /// When too many wait already.
    async fn enter(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        /// However the wait ends.
        struct Waits<'l>(&'l AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        if before >= WAITING_MAX {
            let message = format!("{WAITING_MAX} requests wait for the embedder already: ask again later");
            let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, Some("overloaded"));
            return Err(Refusal { status, kind: "server_error", code, message });
        }
        Ok(self.place.acquire().await.expect("it is never closed"))
    }
}

/// Embeds, if policy permits it, when it is this request's turn. On a task of its own: the ledger is told also when the caller has gone
/// meanwhile; then it ends after the batch that it is at.
async fn embed(handles: Handles, texts: Vec<String>, headers: &HeaderMap) -> Result<Vec<Vec<f32>>, Refusal> {
    let admitted = handles.gate.admit(Action::Embed, &handles.embed_target, headers).await?;
    let gone = CancellationToken::new();
    let _when_dropped = gone.clone().drop_guard();
    let task = async move {
        let _turn = handles.embeds.enter().await?;
        let (began, prompt) = (Instant::now(), texts.join("\n"));
        let embedder = Arc::clone(&handles.embedder);
        let is_gone = gone.clone();
        let outcome = tokio::task::spawn_blocking(move || in_batches(embedder.as_ref(), &texts, &is_gone)).await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => Err(error.to_string()),
        };
        let (said, ended) = match &outcome {
            Ok(vectors) => (json!(vectors).to_string(), CallEnd::Answered),
            Err(_) if gone.is_cancelled() => (String::new(), CallEnd::Cancelled),
            Err(_) => (String::new(), CallEnd::Failed),
        };
        // Vectors are nothing that a person reads: of them the digest alone is kept.
        let fact = admitted.called(&prompt, Keep::Digest.content(&said), ended, (0, 0), began.elapsed());
        handles.gate.tell(fact).await?;
        outcome.map_err(failed)
    };
    tokio::spawn(task).await.map_err(|error| failed(error.to_string()))?
}

fn in_batches(embedder: &dyn Embedder, texts: &[String], gone: &CancellationToken) -> Result<Vec<Vec<f32>>, String> {
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(EMBED_BATCH_LEN) {
        if gone.is_cancelled() {
            return Err("nobody waits for the vectors any more".to_owned());
        }
        let batch: Vec<_> = batch.iter().map(String::as_str).collect();
        vectors.extend(embedder.embed(&batch).map_err(|error| error.to_string())?);
    }
    Ok(vectors)
}

const fn failed(message: String) -> Refusal {
    Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "server_error", code: None, message }
}
