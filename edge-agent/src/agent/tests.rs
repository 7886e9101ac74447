//! Rooms joined: embeddings over HTTP go through the memory's queue, whichever way they end.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::select_all;
use models::embed::{Embedder, default_embedder};
use reqwest::Response;
use serde_json::{Value, json};
use shared::{digest::Digest, policy};
use tokio::task::JoinHandle;

use crate::{
    api::openai::{Chat, Embedding, Gate, Handles, router},
    memory::Memory,
    store::Store,
};

/// Long enough for a loaded machine; a wait ends as soon as what it waits for is there.
const SOON: Duration = Duration::from_secs(60);
const STAND_STILL: &str = "stand still";

/// The built-in embedder, which stands still at a text until the test lets it go.
struct Still {
    inner: Arc<dyn Embedder>,
    stands: AtomicBool,
    may_go: Mutex<bool>,
    goes: Condvar,
}

impl Embedder for Still {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn digest(&self) -> Digest {
        self.inner.digest()
    }

    fn dimensions(&self) -> usize {
        self.inner.dimensions()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, models::Error> {
        if texts.contains(&STAND_STILL) {
            self.stands.store(true, Ordering::Relaxed);
            let may_go = self.may_go.lock().expect("no thread panicked");
            drop(self.goes.wait_timeout_while(may_go, SOON, |may_go| !*may_go).expect("no thread panicked"));
        }
        self.inner.embed(texts)
    }
}

struct Node {
    folder: tempfile::TempDir,
    url: String,
    memory: Memory,
    still: Arc<Still>,
}

async fn node() -> Node {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("node.db")).expect("a store");
    let (stands, may_go, goes) = (AtomicBool::default(), Mutex::default(), Condvar::new());
    let still = Arc::new(Still { inner: default_embedder(), stands, may_go, goes });
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
        until(|| (figures()[0].waiting, figures()[0].texts) == (waiting, texts)).await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it comes to hold");
}

async fn has_no_place(answer: Response) {
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()), (429, Some("2")));
    let error = answer.json::<Value>().await.expect("JSON")["error"].clone();
    assert_eq!((&error["code"], &error["type"]), (&json!("overloaded"), &json!("server_error")), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| message.starts_with("local/embed: ")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_before_the_embedder_is_served_or_told_to_come_again() {
    let node = node().await;
    node.ask("read", "default").await.expect("it ends");
    let first = node.ask(STAND_STILL, "default");
    until(|| node.still.stands.load(Ordering::Relaxed)).await;
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
    *node.still.may_go.lock().expect("no thread panicked") = true;
    node.still.goes.notify_all();
    for asked in [first, urgent] {
        assert_eq!(asked.await.expect("it ends").status(), 200);
    }
    node.until(0, 66 - left as u64).await;
    drop((stays, node.folder));
}
