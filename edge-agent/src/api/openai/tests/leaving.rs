//! Callers who go away before they have their answer.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::*;

/// Sends a request, and keeps the connection.
async fn send(url: &str, path: &str, body: &Value) -> TcpStream {
    let address = url.trim_start_matches("http://").trim_end_matches("/v1");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let body = body.to_string();
    let head = format!("POST /v1/{path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.expect("sent");
    stream
}

/// Waits until the ledger has as many entries of this kind.
async fn until_told(store: &Store, count: usize, of: (&str, &str, &str)) {
    let (fact, target, ended) = of;
    let expected = (fact, target, ended.to_owned());
    let wait = async {
        while told(&ledger(store).await).iter().filter(|entry| **entry == expected).count() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{count} of {expected:?}"));
}

#[tokio::test]
async fn who_leaves_before_the_model_begins_gives_the_place_in_the_queue_up_and_the_ledger_says_so() {
    let store = folder_store();
    let url = serve_with(None, PolicySet::default_rules(), None, store.clone()).await;
    let chat = json!({"model": "local/queue", "messages": [{"role": "user", "content": "a"}]});
    let text = json!({"model": "local/queue", "prompt": "a"});
    let mut waiting = Vec::new();
    for (path, body) in [("chat/completions", chat), ("completions", text)] {
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = stream.into();
            waiting.push(send(&url, path, &body).await);
        }
    }
    until_told(&store, 4, ("policy-decided", "local/queue", "true")).await;
    drop(waiting);
    // The model answers nobody: that the calls have ended is that they wait for it no more.
    until_told(&store, 4, ("model-called", "local/queue", "cancelled")).await;
}
