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
use models::embed::{Embedder, size};
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
/// Longer than any text of which an encoder reads all.
const ENDLESS_BYTES: usize = 1 << 18;
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

    /// Embedding as a value, for whoever must not know this room: each text whole, and 413 for one that is longer than the embedder reads.
    /// It ends when its future is dropped.
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
                let embed = move |inner: &Inner, asker: &Asker<'_>| inner.embed_whole(asker, &texts);
                let made = compute(inner, priority, ends, embed).await;
                let made = made.map_err(|_| effect::Error::new(kind::RUNTIME, PANICKED))?;
                made.map_err(|error| {
                    let kind = match &error {
                        // It names the field.
                        desk::Error::Model(models::Error::TooLong { message }) => {
                            return effect::Error::new(kind::LIMIT, message.clone());
                        }
                        // Who sets no deadline is not told that it is over, but to come again.
                        desk::Error::Refused(Refused::Late { .. }) => UNAVAILABLE,
                        error => error.kind(),
                    };
                    effect::Error::new(kind, format!("{EMBEDDER}: {error}"))
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

    /// As `embed`, where each text is read whole; with how many tokens they have.
    fn embed_whole(&self, asker: &Asker<'_>, texts: &[String]) -> Result<Made, desk::Error> {
        let (embedder, texts) = (self.embedder.as_ref(), texts.iter().map(String::as_str).collect::<Vec<_>>());
        let work = Work { model: Model::Embedder, tokens: tokens(embedder, &texts), is_loaded: true };
        let seat = asker.begin(&work)?;
        let (most, mut read) = (tokens_max(embedder), 0);
        for (at, text) in texts.iter().enumerate() {
            if (asker.is_given_up)() {
                return Err(desk::Error::GivenUp);
            }
            read += whole(embedder, text, most)
                .map_err(|message| models::Error::TooLong { message: format!("input[{at}]: {message}") })?;
        }
        Ok((seat.with(embedder, |embedder| embedder.embed(&texts))?, read))
    }
}

/// Tokens that an embedder reads of a text at most, if there is such a number: of a text without end it has no more to read.
fn tokens_max(embedder: &dyn Embedder) -> Option<usize> {
    let endless = "a".repeat(ENDLESS_BYTES);
    Some(embedder.size(&endless)).filter(|most| *most < size(&endless))
}

/// Tokens of a text.
///
/// # Errors
/// When it has more than the embedder reads, with both.
fn whole(embedder: &dyn Embedder, text: &str, most: Option<usize>) -> Result<usize, String> {
    let read = embedder.tokens(text);
    // Of what is longer, it tells the most.
    let Some(most) = most.filter(|most| read >= *most) else { return Ok(read) };
    match tokens_in_parts(embedder, text, most) {
        found if found > most => {
            Err(format!("{found} tokens; expected at most {most}, as {} reads no more of a text", embedder.name()))
        }
        _ => Ok(read),
    }
}

/// Tokens of a text in parts that are short enough to be read whole, cut before white space where there is some.
fn tokens_in_parts(embedder: &dyn Embedder, text: &str, most: usize) -> usize {
    // What stands before and behind any text.
    let frame = embedder.tokens("");
    // A token has a byte at least, a character four at most.
    let bytes_max = most.saturating_sub(frame).max(4);
    let (mut count, mut rest) = (frame, text);
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(bytes_max);
        let space = rest[..end].rfind(char::is_whitespace).filter(|at| *at > 0 && end < rest.len());
        let (part, more) = rest.split_at(space.unwrap_or(end));
        count += embedder.tokens(part).saturating_sub(frame);
        rest = more;
    }
    count
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use models::{embed::default_embedder, encoder::load_embedder};
    use shared::{
        label::Label,
        policy::{PolicySet, Request, Target, TargetKind},
    };

    use super::*;
    use crate::store::Store;

    /// An embedder that reads 48 tokens of a text, two of them around it.
    fn short() -> Arc<dyn Embedder> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/reference/encoders/mean");
        load_embedder(&folder).expect("it is there")
    }

    #[test]
    fn a_text_is_longer_than_an_embedder_reads_by_its_tokens_and_not_by_its_bytes() {
        let embedder = short();
        let most = tokens_max(embedder.as_ref());
        let check = |text: &str| whole(embedder.as_ref(), text, most);
        let expected = most.expect("it has a limit");
        let words = |count: usize| vec!["oil"; count].join(" ");
        assert_eq!(check(&words(expected - 2)), Ok(expected));
        for more in [1, 2, 40, 4_000] {
            let told = check(&words(expected - 2 + more)).expect_err("too long");
            assert!(told.starts_with(&format!("{} tokens; expected at most {expected}, ", expected + more)), "{told}");
        }
        assert_eq!(check(&"\u{e4}".repeat(3_000)).map_err(|told| told.contains("expected at most")), Ok(3));
        assert_eq!(check(&" ".repeat(3_000)), Ok(2));
        let endless = default_embedder();
        assert_eq!((tokens_max(endless.as_ref()), whole(endless.as_ref(), &words(9_000), None)), (None, Ok(9_000)));
    }

    #[tokio::test]
    async fn who_embeds_by_http_is_told_which_text_is_too_long() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("node.db")).expect("a store");
        let memory = Memory::open(store, short());
        let embed = async |texts: &[&str]| {
            let target = Target::new(TargetKind::Local, EMBEDDER);
            let (workflow, label, node_jurisdiction) = ("node/openai".to_owned(), Label::default(), "CH".to_owned());
            let request = Request { action: Action::Embed, workflow, agent: None, target, label, node_jurisdiction };
            let permit = PolicySet::default_rules().decide(&request).expect("open data");
            memory.as_embed()(permit, texts.iter().map(ToString::to_string).collect(), Priority::Normal).await
        };
        let long = "oil ".repeat(100);
        let error = embed(&["oil", &long]).await.expect_err("too long");
        let detail = error.detail.unwrap_or_default();
        assert!(error.status == 413 && detail.starts_with("input[1]: 102 tokens; expected at most "), "{detail}");
        let (vectors, tokens) = embed(&["oil", "oil oil"]).await.expect("embedded");
        assert_eq!((vectors.len(), tokens), (2, 7));
    }
}
