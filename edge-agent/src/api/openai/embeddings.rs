//! Embeddings: texts in, vectors out, as OpenAI's clients ask for them.

use std::{sync::Arc, time::Instant};

use axum::{extract::State, http::HeaderMap};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::{
    admit::Priority,
    engine::effect::{self, kind},
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, Serializer};
use shared::{
    digest::Digest,
    ledger::entry::{CallEnd, Content},
    policy::{Action, Permit},
};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::{
    Body, Handles, Refusal,
    fields::{self, Rest},
    gate, parse,
    request::priority,
};

const EMBED_TEXTS_MAX: usize = 2_048;

/// Vectors, and how many tokens were read for them.
type Made = (Vec<Vec<f32>>, usize);

/// Turns texts into vectors, as many; it ends when its future is dropped.
pub type Embed =
    Arc<dyn Fn(Permit, Vec<String>, Priority) -> BoxFuture<'static, Result<Made, effect::Error>> + Send + Sync>;

/// What the node embeds by.
#[derive(Clone)]
pub struct Embedding {
    pub name: String,
    /// The length of each vector.
    pub dimensions: usize,
    pub embed: Embed,
}

#[derive(Deserialize)]
struct EmbeddingRequest {
    model: String,
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
    service_tier: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts (lists of tokens are not read)")]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// The answer. Numbers stay what they are until they are written: as JSON values they would take many times the room.
#[derive(Serialize)]
pub(super) struct Embeddings {
    object: &'static str,
    data: Vec<Item>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers {
    #[serde(serialize_with = "exactly")]
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// As numbers of double precision, as most programs read them: they are those of base64 to the last bit.
fn exactly<S: Serializer>(vector: &[f32], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(vector.iter().map(|value| f64::from(*value)))
}

/// The numbers of a vector one behind the other, little-endian.
fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) async fn embeddings(
    State(handles): State<Handles>,
    headers: HeaderMap,
    body: Body,
) -> Result<axum::Json<Embeddings>, Refusal> {
    let asked: EmbeddingRequest = parse(body)?;
    fields::check(&asked.rest)?;
    let priority = priority(asked.service_tier.as_deref())?;
    // Vectors of another model than the one asked for would be compared with what they cannot be compared with.
    if asked.model != handles.embedder.name {
        return Err(Refusal::no_model("embedder", &asked.model, &handles.embedder.name));
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
    let dimensions = handles.embedder.dimensions;
    if asked.dimensions.is_some_and(|asked| asked != dimensions) {
        return Err(Refusal::invalid(format!("dimensions: this node's embedder makes vectors of {dimensions}")));
    }
    let in_base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(Refusal::invalid(format!("encoding_format: {other:?}; expected float or base64"))),
    };
    let model = handles.embedder.name.clone();
    let (vectors, tokens) = embed(handles, texts, priority, &headers).await?;
    let encode = |vector: Vec<f32>| match in_base64 {
        true => Numbers::Base64(STANDARD.encode(bytes(&vector))),
        false => Numbers::Floats(vector),
    };
    let data = vectors.into_iter().enumerate();
    let data = data.map(|(index, vector)| Item { object: "embedding", index, embedding: encode(vector) }).collect();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    Ok(axum::Json(Embeddings { object: "list", data, model, usage }))
}

/// Embeds, if policy permits it. On a task of its own: the ledger is told also when the caller has gone meanwhile; then the embedding ends.
async fn embed(handles: Handles, texts: Vec<String>, priority: Priority, headers: &HeaderMap) -> Result<Made, Refusal> {
    let admitted = handles.gate.admit(Action::Embed, &handles.embed_target, headers).await?;
    let gone = CancellationToken::new();
    let _when_dropped = gone.clone().drop_guard();
    let task = async move {
        let (began, prompt) = (Instant::now(), texts.join("\n"));
        let embedding = (handles.embedder.embed)(admitted.permit.clone(), texts, priority);
        let outcome = tokio::select! {
            outcome = embedding => outcome,
            () = gone.cancelled() => Err(gate::nobody_waits()),
        };
        let (said, tokens, ended) = match &outcome {
            Ok((vectors, tokens)) => (bytes(&vectors.concat()), *tokens, CallEnd::Answered),
            Err(error) => (Vec::new(), 0, gate::ended(error)),
        };
        // Vectors are nothing that a person reads: of their bytes the digest alone is kept.
        let said = Content { digest: Digest::of(&said), bytes: said.len() as u64, text: None };
        let fact = admitted.called(&prompt, said, ended, (tokens, 0), began.elapsed());
        handles.gate.tell(fact).await?;
        Ok(outcome?)
    };
    let broken = |error: JoinError| effect::Error::new(kind::RUNTIME, format!("the call broke down: {error}"));
    tokio::spawn(task).await.map_err(broken)?
}
