//! Rooms joined: embeddings over HTTP go through the memory's queue, whichever way they end, and the API ends after its answers.

use std::{
    convert::Infallible,
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, routing::get};
use futures::{StreamExt as _, future::select_all, stream};
use models::embed::Embedder;
use reqwest::Response;
use serde_json::{Value, json};
use shared::policy;
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{end_of_answers, serving};
use crate::{
    api::openai::{Chat, Embedding, Gate, Handles, router},
    memory::Memory,
    store::Store,
    testing::{Noting, STAND_STILL, until},
};

const MINUTE: Duration = Duration::from_secs(60);

struct Node {
    folder: tempfile::TempDir,
    url: String,
    memory: Memory,
    still: Arc<Noting>,
}

async fn node() -> Node {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("node.db")).expect("a store");
    let still = Noting::new();
    let memory = Memory::open(store.clone(), Arc::clone(&still) as Arc<dyn Embedder>);
    let rules = policy::PolicySet::default_rules();
    let decide = move |action, target, workflow: &str, label: &shared::label::Label| {
        let (workflow, label, node_jurisdiction) = (workflow.to_owned(), label.clone(), "CH".to_owned());
        rules.decide(&policy::Request { action, workflow, agent: None, target, label, node_jurisdiction })
    };
    let gate = Gate { store, decide: Arc::new(decide), label: None, jurisdiction: "CH".to_owned() };
    let chat: Chat = Arc::new(|permit, _, _, _| panic!("nobody chats, not even with {permit:?}"));
    let embedder =
        Embedding { name: still.name().to_owned(), dimensions: still.dimensions(), embed: memory.as_embed() };
    let embed_target = crate::memory::EMBEDDER.to_owned();
    let handles = Handles { models: Vec::new(), chat, embedder, embed_target, gate, key: None };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1/embeddings", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router(handles)).await });
    Node { folder, url, memory, still }
}

impl Node {
    fn ask(&self, text: &str, tier: &str) -> JoinHandle<Response> {
        let body = json!({"model": self.still.name(), "input": text, "service_tier": tier});
        let request = reqwest::Client::new().post(&self.url).json(&body);
        tokio::spawn(async move { request.send().await.expect("answered") })
    }

    /// Waits until so many wait, and so many texts are read.
    async fn until(&self, waiting: usize, texts: u64) {
        let figures = self.memory.as_figures();
        let what = format!("{waiting} wait and {texts} are read");
        until(&what, || (figures()[0].waiting, figures()[0].texts) == (waiting, texts)).await;
    }
}

async fn has_no_place(answer: Response) {
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()), (429, Some("2")));
    let error = answer.json::<Value>().await.expect("JSON")["error"].clone();
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("requests")), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| message.starts_with("local/embed: ")), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_being_written_ends_before_the_api_does() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let goes_on = Arc::new(Notify::new());
    let pace = Arc::clone(&goes_on);
    let answer = move || async move {
        let rest = stream::once(async move { pace.notified().await }).map(|()| "and the end");
        Body::from_stream(stream::iter(["half "]).chain(rest).map(Ok::<_, Infallible>))
    };
    let stop = CancellationToken::new();
    let served = serving(listener, axum::Router::new().route("/", get(answer)), stop.clone());
    let mut response = reqwest::get(url).await.expect("asked");
    assert_eq!(response.chunk().await.expect("a piece").expect("the first"), "half ");
    stop.cancel();
    let end = tokio::spawn(end_of_answers(served, Instant::now() + MINUTE, pending()));
    goes_on.notify_one();
    assert_eq!(response.text().await.expect("whole"), "and the end");
    assert!(end.await.expect("no panic"), "it was not broken off");
}

#[tokio::test]
async fn an_answer_without_end_is_broken_off_in_time_or_when_somebody_asks_again() {
    let endless = || tokio::spawn(pending());
    assert!(!end_of_answers(endless(), Instant::now(), pending()).await);
    assert!(!end_of_answers(endless(), Instant::now() + MINUTE, ready(())).await);
    assert!(end_of_answers(tokio::spawn(ready(())), Instant::now() + MINUTE, pending()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_before_the_embedder_is_served_or_told_to_come_again() {
    let node = node().await;
    node.ask("read", "default").await.expect("it ends");
    let first = node.ask(STAND_STILL, "default");
    until("it stands still", || node.still.stands()).await;
    let mut crowd: Vec<_> = (0..64).map(|_| node.ask("waits", "flex")).collect();
    node.until(64, 1).await;
    has_no_place(node.ask("one more", "flex").await.expect("it ends")).await;
    let urgent = node.ask("urgent", "priority");
    let (displaced, ..) = select_all(&mut crowd).await;
    has_no_place(displaced.expect("it ends")).await;
    // A client that goes away leaves its place to the next.
    let (gone, stays) = (crowd.split_off(32), crowd);
    let left = gone.iter().filter(|asked| !asked.is_finished()).count();
    gone.iter().for_each(JoinHandle::abort);
    node.until(64 - left, 1).await;
    node.still.go();
    for asked in [first, urgent] {
        assert_eq!(asked.await.expect("it ends").status(), 200);
    }
    node.until(0, 66 - left as u64).await;
    drop((stays, node.folder));
}
