//! `embed`: texts as vectors, for workflows and for the node's own endpoint; and how whatever needs a small model has it computed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edge_core::{
    admit::{Priority, Refused, Speed},
    engine::effect::{self, Call, Completion, Failure, Keep, kind},
};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use shared::{
    ledger::entry::{self, Fact},
    policy::{Action, Permit},
    time::Timestamp,
};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::{
    EMBEDDER, Inner, Memory, broken,
    desk::{self, Asker, Model, Standing, Work, tokens},
    hold, millis, text, wrong,
};
use crate::clock;

/// Texts of one `embed`; a vector has some KB of JSON.
const EMBED_TEXTS_MAX: usize = 256;
/// How long the endpoint's callers wait at most, as for an answer of a chat model.
const ENDPOINT_WITHIN: Duration = Duration::from_secs(600);
/// Too many wait for the models already.
const CROWDED: (&str, u16) = (kind::COMMUNICATION.0, 429);
/// It cannot be done in time now; later it may.
const UNAVAILABLE: (&str, u16) = (kind::COMMUNICATION.0, 503);

/// Vectors, and how many tokens were read for them.
type Made = (Vec<Vec<f32>>, usize);

/// Embeds for whoever has policy's permit for it.
pub type Embed =
    Arc<dyn Fn(Permit, Vec<String>, Priority) -> BoxFuture<'static, Result<Made, effect::Error>> + Send + Sync>;

/// How a small model stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub name: String,
    pub model: Model,
    pub waiting: usize,
    pub is_loaded: bool,
    pub speed: Speed,
    /// Texts that it has read.
    pub texts: u64,
    /// Requests that were told at once that it would be too late, or had no place in the queue.
    pub turned_away: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    text: Option<String>,
    texts: Option<Vec<String>>,
    #[serde(default)]
    priority: Priority,
}

impl Memory {
    /// Turns texts into vectors.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `timeout` when it cannot be done in time, `communication` when too many wait, `runtime` when the
    /// embedder fails.
    pub async fn embed(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        hold(call, &permit, EMBEDDER)?;
        let asked: Wanted = call.arguments()?;
        let texts: Vec<String> = match (asked.text, asked.texts) {
            (Some(one), None) => vec![text(call, "text", one)?],
            (None, Some(texts)) if (1..=EMBED_TEXTS_MAX).contains(&texts.len()) => {
                let each = texts.into_iter().enumerate().map(|(at, one)| text(call, &format!("texts[{at}]"), one));
                each.collect::<Result<_, _>>()?
            }
            (None, Some(texts)) => {
                return Err(wrong(call, "texts", &format!("{} texts; expected 1 to {EMBED_TEXTS_MAX}", texts.len())));
            }
            _ => return Err(wrong(call, "text", "give either text or texts")),
        };
        let (began, prompt) = (Instant::now(), texts.join("\n"));
        let embed = move |inner: &Inner, asker: &Asker<'_>| inner.embed(asker, &texts);
        let vectors = self.compute(call, asked.priority, embed).await?.map_err(|error| desk_failure(call, &error))?;
        let output = json!({"vectors": vectors, "model": self.inner.embedder.name()});
        // Vectors are nothing that a person reads: of them the digest alone is kept.
        let answer = Keep::Digest.content(&output["vectors"].to_string());
        let fact = self.called(self.inner.embedder.name(), keep, &prompt, answer, began.elapsed());
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }

    /// Embedding as a value, for whoever must not know this room. It ends when its future is dropped.
    #[must_use]
    pub fn as_embed(&self) -> Embed {
        let inner = Arc::clone(&self.inner);
        Arc::new(move |permit, texts, priority| {
            let inner = Arc::clone(&inner);
            Box::pin(async move {
                if permit.action() != Action::Embed || permit.target().name != EMBEDDER {
                    let detail = format!("the permit for {} is not for embedding", permit.target().name);
                    return Err(effect::Error::new(kind::AUTHORIZATION, detail));
                }
                let ends = Some(clock::now().plus(ENDPOINT_WITHIN));
                let embed = move |inner: &Inner, asker: &Asker<'_>| {
                    let vectors = inner.embed(asker, &texts)?;
                    Ok::<_, desk::Error>((vectors, texts.iter().map(|text| inner.embedder.tokens(text)).sum()))
                };
                let made = compute(inner, priority, ends, embed).await;
                let made = made.map_err(|_| effect::Error::new(kind::RUNTIME, PANICKED))?;
                made.map_err(|error| {
                    // Who sets no deadline is not told that it is over, but to come again.
                    let late = matches!(error, desk::Error::Refused(Refused::Late { .. }));
                    effect::Error::new(if late { UNAVAILABLE } else { error.kind() }, format!("{EMBEDDER}: {error}"))
                })
            })
        })
    }

    /// How the small models stand, as a value that keeps no memory at work.
    pub fn as_figures(&self) -> impl Fn() -> Vec<Figures> + Send + Sync + 'static {
        let (inner, judges) = (Arc::clone(&self.inner), Arc::clone(&self.judges));
        move || {
            let mut there = vec![(Model::Embedder, inner.embedder.name().to_owned(), true)];
            there.extend(inner.former.name().map(|name| (Model::Former, name, true)));
            let (reranker, classifier) = (judges.reranker.as_ref(), judges.classifier.as_ref());
            there.extend(reranker.map(|model| (Model::Reranker, model.name().to_owned(), model.is_awake())));
            there.extend(classifier.map(|model| (Model::Classifier, model.name().to_owned(), model.is_awake())));
            let figures = |(model, name, is_loaded)| {
                let (waiting, desk::Watch { speed, texts, turned_away }) = inner.desk.look(model);
                Figures { name, model, waiting, is_loaded, speed, texts, turned_away }
            };
            there.into_iter().map(figures).collect()
        }
    }

    /// Has something computed for a call, on a thread that may wait for the models; when the call is given up, it ends after the piece that
    /// it is at.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        call: &Call,
        priority: Priority,
        work: impl FnOnce(&Inner, &Asker<'_>) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let done = compute(Arc::clone(&self.inner), priority, call.gives_up_at(), work).await;
        done.map_err(|_| broken(call, PANICKED))
    }

    pub(super) fn called(&self, model: &str, keep: Keep, prompt: &str, answer: entry::Content, took: Duration) -> Fact {
        Fact::ModelCalled {
            target: EMBEDDER.to_owned(),
            model: model.to_owned(),
            prompt: keep.content(prompt),
            answer,
            ended: entry::CallEnd::Answered,
            tokens_in: 0,
            tokens_out: 0,
            cost_micro_usd: 0,
            duration_ms: millis(took),
        }
    }
}

const PANICKED: &str = "the computation panicked, see the log";

async fn compute<T: Send + 'static>(
    inner: Arc<Inner>,
    priority: Priority,
    ends: Option<Timestamp>,
    work: impl FnOnce(&Inner, &Asker<'_>) -> T + Send + 'static,
) -> Result<T, JoinError> {
    let gone = CancellationToken::new();
    let _when_dropped = gone.clone().drop_guard();
    let work = move || {
        let _use = inner.rest.r#use();
        let is_given_up = || gone.is_cancelled();
        let standing = Standing::Caller;
        work(&inner, &Asker { desk: &inner.desk, priority, ends, is_given_up: &is_given_up, standing })
    };
    tokio::task::spawn_blocking(work).await
}

impl Inner {
    fn embed(&self, asker: &Asker<'_>, texts: &[String]) -> Result<Vec<Vec<f32>>, desk::Error> {
        let (embedder, texts) = (self.embedder.as_ref(), texts.iter().map(String::as_str).collect::<Vec<_>>());
        let work = Work { model: Model::Embedder, tokens: tokens(embedder, &texts), is_loaded: true };
        asker.begin(&work)?.with(embedder, |embedder| embedder.embed(&texts))
    }
}

impl desk::Error {
    const fn kind(&self) -> (&'static str, u16) {
        match self {
            Self::Refused(Refused::Late { .. }) | Self::Timeout => kind::TIMEOUT,
            Self::Refused(Refused::Full { .. } | Refused::Displaced) => CROWDED,
            Self::GivenUp | Self::Model(_) => kind::RUNTIME,
        }
    }
}

/// What a call is told of it.
pub(super) fn desk_failure(call: &Call, error: &desk::Error) -> Failure {
    Failure::new(error.kind(), format!("{} of {}: {error}", call.function, call.task))
}
