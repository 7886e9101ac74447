//! The endpoint over a real listener, with the built-in models behind it, and with OpenAI's own client when it is there.

mod leaving;
mod mistakes;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use shared::{
    label::{DataClass, Label},
    policy::PolicySet,
};

use models::generate::Finish;

use super::*;
use crate::store::Store;

/// A node whose rules let everything through that is for local models.
async fn serve(key: Option<&str>) -> String {
    let store = folder_store();
    serve_with(key, PolicySet::default_rules(), None, store).await
}

fn folder_store() -> Store {
    let folder = tempfile::tempdir().expect("a folder").keep();
    Store::open(&folder.join("node.db")).expect("a store")
}

/// Serves the built-in extractive model and embedder; of the other "models" one fails after it has said something, one has a queue that
/// does not move, and one reads its prompt for ever.
async fn serve_with(key: Option<&str>, rules: PolicySet, label: Option<Label>, store: Store) -> String {
    let extract = models::generate::extract();
    let chat: Chat = Arc::new(move |permit, request, mut on_text, _| {
        let (extract, name) = (Arc::clone(&extract), permit.target().name.clone());
        Box::pin(async move {
            if name == "local/queue" {
                return pending().await;
            }
            if name == "local/reading" {
                let _ = on_text("");
                return pending().await;
            }
            let ask = move || -> Result<Answer, effect::Error> {
                if name == "local/long" {
                    let piece = "a long answer ".repeat(100);
                    let said = (0..20_000).all(|_| on_text(&piece).is_continue());
                    let finish = if said { Finish::Length } else { Finish::Cancelled };
                    let text = String::new();
                    let (tokens_in, tokens_reused, tokens_out) = (1, 0, 20_000);
                    let (calls, logprobs) = (Vec::new(), Vec::new());
                    return Ok(Answer { text, calls, tokens_in, tokens_reused, tokens_out, finish, logprobs });
                }
                if name == "local/broken" {
                    let _ = on_text("half an ");
                    return Err(effect::Error::new(effect::kind::RUNTIME, "the model broke"));
                }
                if name == "local/short" {
                    return Err(effect::Error::new(effect::kind::LIMIT, "prompt has 9 tokens: expected fewer than 8"));
                }
                let answer = extract.generate(&request, &mut *on_text);
                answer.map_err(|error| effect::Error::new(effect::kind::VALIDATION, error.to_string()))
            };
            tokio::task::spawn_blocking(ask).await.expect("no panic")
        })
    });
    let handles = Handles {
        models: ["local/extract", "local/broken", "local/long", "local/short", "local/queue", "local/reading"]
            .map(str::to_owned)
            .into(),
        chat,
        embedder: embedding(),
        embed_target: "local/embed".to_owned(),
        gate: Gate {
            store,
            decide: Arc::new(move |action, target, workflow, label| {
                let (workflow, label, node_jurisdiction) = (workflow.to_owned(), label.clone(), "CH".to_owned());
                rules.decide(&shared::policy::Request {
                    action,
                    workflow,
                    agent: None,
                    target,
                    label,
                    node_jurisdiction,
                })
            }),
            label,
            jurisdiction: "CH".to_owned(),
        },
        key: key.map(str::to_owned),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router(handles)).await });
    url
}

/// The built-in embedder; before "a crowd" it has no place, and it does not read "a book".
fn embedding() -> Embedding {
    let embedder = models::embed::default_embedder();
    let (name, dimensions) = (embedder.name().to_owned(), embedder.dimensions());
    let embed: Embed = Arc::new(move |_, texts, _| {
        let embedder = Arc::clone(&embedder);
        Box::pin(async move {
            if texts.iter().any(|text| text == "a book") {
                let told = "input[1]: 700 tokens; expected at most 256, as it reads no more of a text";
                return Err(effect::Error::new(effect::kind::LIMIT, told));
            }
            if texts.iter().any(|text| text == "a crowd") {
                return Err(effect::Error::new((effect::kind::COMMUNICATION.0, 429), "64 requests wait already"));
            }
            let vectors = embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>()).expect("embedded");
            Ok((vectors, texts.iter().map(|text| embedder.tokens(text)).sum()))
        })
    });
    Embedding { name, dimensions, embed }
}

async fn ask(url: &str, path: &str, body: Value) -> (u16, String) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let response = reqwest::Client::new().post(format!("{url}/{path}")).json(&body).send().await.expect("sent");
    (response.status().as_u16(), response.text().await.expect("read"))
}

/// The name of the node's embedder.
fn embedder() -> String {
    models::embed::default_embedder().name().to_owned()
}

fn question() -> Value {
    let passages = [models::generate::Passage {
        text: "A blocked fan makes the motor hot.".to_owned(),
        document: "press.md".to_owned(),
        place: "Cooling".to_owned(),
    }];
    let messages = Request::ask("Why is the motor hot?").messages;
    json!(models::generate::with_passages(&messages, &passages))
}

#[tokio::test]
async fn an_answer_comes_whole_with_its_usage() {
    let url = serve(None).await;
    let (status, body) = ask(&url, "chat/completions", json!({"model": "local/extract", "messages": question()})).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["object"]), (200, &json!("chat.completion")), "{body}");
    let text = body["choices"][0]["message"]["content"].as_str().expect("a text");
    assert!(text.contains("fan") && text.contains("[1]"), "{text}");
    assert_eq!(
        body["usage"]["total_tokens"].as_u64(),
        Some(body["usage"]["prompt_tokens"].as_u64().unwrap() + body["usage"]["completion_tokens"].as_u64().unwrap())
    );
}

#[tokio::test]
async fn a_streamed_answer_is_the_same_in_pieces() {
    let url = serve(None).await;
    let whole = ask(&url, "chat/completions", json!({"model": "local/extract", "messages": question()})).await.1;
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    let body = json!({
        "model": "local/extract", "messages": question(), "stream": true, "stream_options": {"include_usage": true}
    });
    let (status, stream) = ask(&url, "chat/completions", body).await;
    assert_eq!(status, 200);
    let events: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let events: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).expect("JSON")).collect();
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(events.last().expect("usage")["usage"], whole["usage"]);
    assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "stop"));
}

#[tokio::test]
async fn a_stream_begins_when_the_model_does_and_not_with_its_first_text() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let url = serve(None).await;
    let body = json!({"model": "local/reading", "messages": question(), "stream": true});
    let asked = reqwest::Client::new().post(format!("{url}/chat/completions")).json(&body).send();
    let mut answer = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("headers").expect("sent");
    assert_eq!(answer.status(), 200);
    let event = answer.chunk().await.expect("read").expect("an event");
    assert!(String::from_utf8_lossy(&event).contains(r#""delta":{"role":"assistant","content":""}"#), "{event:?}");
}

#[tokio::test]
async fn a_text_is_continued_whole_and_in_pieces() {
    let url = serve(None).await;
    let prompt = models::generate::with_passages(
        &Request::ask("Why is the motor hot?").messages,
        &[models::generate::Passage { text: "A blocked fan makes the motor hot.".to_owned(), ..Default::default() }],
    );
    let body = json!({"model": "local/extract", "prompt": prompt[0].content, "max_tokens": 64});
    let (status, whole) = ask(&url, "completions", body.clone()).await;
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!((status, &whole["object"]), (200, &json!("text_completion")), "{whole}");
    let text = whole["choices"][0]["text"].as_str().expect("a text");
    assert!(text.contains("fan"), "{text}");
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let mut streaming = body;
    (streaming["stream"], streaming["stream_options"]) = (json!(true), json!({"include_usage": true}));
    let stream = ask(&url, "completions", streaming).await.1;
    let events: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let events: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).expect("JSON")).collect();
    let pieces: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(pieces, text);
    assert_eq!(events.last().expect("usage")["usage"], whole["usage"]);
    assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "stop"), "{events:?}");
    for (wrong, told) in [
        (json!({"prompt": ["a", "b"]}), "prompt: expected one text"),
        (json!({"prompt": [1, 2]}), "a text (lists of tokens are not read)"),
        (json!({"prompt": "a", "echo": true}), "echo: "),
        (json!({"prompt": "a", "logprobs": 2}), "logprobs: chat completions tell them"),
        (json!({"prompt": ""}), "prompt: empty"),
    ] {
        let mut body = wrong;
        body["model"] = json!("local/extract");
        let (status, said) = ask(&url, "completions", body).await;
        assert!(status == 400 && said.contains(told), "{status} {said}");
    }
}

#[tokio::test]
async fn an_answer_fits_the_schema_that_was_asked_for() {
    let url = serve(None).await;
    let schema = json!({
        "type": "object", "required": ["cause", "action"],
        "properties": {"cause": {"type": "string"}, "action": {"enum": ["stop the motor", "clean the fan"]}}
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let body = json!({"model": "local/extract", "messages": question(), "response_format": format});
    let (_, body) = ask(&url, "chat/completions", body).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let answer: Value =
        serde_json::from_str(body["choices"][0]["message"]["content"].as_str().expect("a text")).expect("JSON");
    assert!(jsonschema::is_valid(&schema, &answer), "{answer}");
}

#[tokio::test]
async fn a_refusal_names_the_field_and_says_when_the_prompt_is_too_long() {
    let url = serve(None).await;
    let user = json!([{"role": "user", "content": "a"}]);
    for (path, body, param, code) in [
        ("embeddings", json!({"model": embedder(), "input": ["a", ""]}), json!("input[1]"), Value::Null),
        (
            "embeddings",
            json!({"model": embedder(), "input": ["a", "a book"]}),
            json!("input[1]"),
            json!("context_length_exceeded"),
        ),
        (
            "chat/completions",
            json!({"model": "local/extract", "messages": [{"role": 1}]}),
            json!("messages[0].role"),
            Value::Null,
        ),
        (
            "chat/completions",
            json!({"model": "local/short", "messages": user}),
            Value::Null,
            json!("context_length_exceeded"),
        ),
    ] {
        let (status, answer) = ask(&url, path, body).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["error"]["param"], &answer["error"]["code"]), (400, &param, &code), "{answer}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_everywhere() {
    let url = serve(Some("secret")).await;
    drop(rustls::crypto::ring::default_provider().install_default());
    let get = |key: &str| reqwest::Client::new().get(format!("{url}/models")).bearer_auth(key).send();
    assert_eq!(get("secret").await.expect("sent").status(), 200);
    assert_eq!(get("guess").await.expect("sent").status(), 401);
    assert_eq!(ask(&url, "embeddings", json!({"model": embedder(), "input": "a"})).await.0, 401);
}

/// The ledger's entries, oldest first.
async fn ledger(store: &Store) -> Vec<Value> {
    let read = |c: &rusqlite::Connection| {
        let mut all = c.prepare("SELECT body FROM ledger ORDER BY seq")?;
        all.query_map([], |row| row.get::<_, Vec<u8>>(0))?.collect::<Result<Vec<_>, _>>()
    };
    let bodies = store.read("look", read).await.expect("readable");
    bodies.iter().map(|body| serde_json::from_slice(body).expect("JSON")).collect()
}

fn told(entries: &[Value]) -> Vec<(&str, &str, String)> {
    let ended = |entry: &Value| match entry["fact"].as_str() {
        Some("policy-decided") => entry["allowed"].to_string(),
        _ => entry["ended"].as_str().unwrap_or("answered").to_owned(),
    };
    entries
        .iter()
        .map(|entry| {
            let of = entry["resource"].as_str().or(entry["target"].as_str()).unwrap_or_default();
            (entry["fact"].as_str().unwrap_or_default(), of, ended(entry))
        })
        .collect()
}

#[tokio::test]
async fn every_call_is_decided_by_policy_and_told_to_the_ledger_however_it_ends() {
    let store = folder_store();
    let url = serve_with(None, PolicySet::default_rules(), None, store.clone()).await;
    let user = json!([{"role": "user", "content": "Is pump-7 hot?"}]);
    let chat = |model: &str| json!({"model": model, "messages": user.clone()});
    assert_eq!(ask(&url, "chat/completions", chat("local/extract")).await.0, 200);
    assert_eq!(ask(&url, "chat/completions", chat("local/broken")).await.0, 500);
    let streamed = json!({"model": "local/extract", "messages": user, "stream": true});
    assert_eq!(ask(&url, "chat/completions", streamed).await.0, 200);
    assert_eq!(ask(&url, "embeddings", json!({"model": embedder(), "input": "pump-7"})).await.0, 200);
    let entries = ledger(&store).await;
    let (allowed, answered) = ("true".to_owned(), "answered".to_owned());
    assert_eq!(
        told(&entries),
        [
            ("policy-decided", "local/extract", allowed.clone()),
            ("model-called", "local/extract", answered.clone()),
            ("policy-decided", "local/broken", allowed.clone()),
            ("model-called", "local/broken", "failed".to_owned()),
            ("policy-decided", "local/extract", allowed.clone()),
            ("model-called", "local/extract", answered.clone()),
            ("policy-decided", "local/embed", allowed),
            ("model-called", "local/embed", answered),
        ]
    );
    assert_eq!(entries[3]["answer"]["bytes"], "half an ".len(), "what came before it broke is in its digest");
    // Nobody said what this data is, so the strictest holds, and the ledger keeps digests alone.
    assert_eq!(entries[0]["label"], json!({"class": "restricted", "origins": ["CH"], "personal": true}));
    assert_eq!(entries[0]["action"], "infer");
    assert!(entries.iter().all(|entry| !entry.to_string().contains("pump-7")), "{entries:?}");
}

#[tokio::test]
async fn of_vectors_the_ledger_has_the_digest_of_their_bytes_and_both_forms_of_them_are_the_same() {
    let store = folder_store();
    let url = serve_with(None, PolicySet::default_rules(), None, store.clone()).await;
    let made = async |format: &str| -> Value {
        let body = json!({"model": embedder(), "input": ["pump", "press"], "encoding_format": format});
        serde_json::from_str(&ask(&url, "embeddings", body).await.1).expect("JSON")
    };
    let (coded, floats) = (made("base64").await, made("float").await);
    let vector = |at: usize| STANDARD.decode(coded["data"][at]["embedding"].as_str().expect("a text")).expect("base64");
    let bytes = [vector(0), vector(1)].concat();
    let numbers = bytes.chunks(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().expect("four"))));
    let told = [&floats["data"][0]["embedding"], &floats["data"][1]["embedding"]];
    assert_eq!(
        numbers.map(Value::from).collect::<Vec<_>>(),
        told.map(|all| all.as_array().expect("numbers").clone()).concat()
    );
    assert_eq!(floats["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
    assert_eq!(
        (&floats["object"], &floats["data"][1]["object"], &floats["data"][1]["index"]),
        (&json!("list"), &json!("embedding"), &json!(1))
    );
    let last = ledger(&store).await.pop().expect("an entry");
    assert_eq!(last["answer"], json!({"digest": Digest::of(&bytes), "bytes": bytes.len()}));
}

#[tokio::test]
async fn who_has_no_place_in_the_queue_is_told_when_to_come_again() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let store = folder_store();
    let url = serve_with(None, PolicySet::default_rules(), None, store.clone()).await;
    let body = json!({"model": embedder(), "input": "a crowd", "service_tier": "flex"});
    let answer = reqwest::Client::new().post(format!("{url}/embeddings")).json(&body).send().await.expect("sent");
    assert_eq!(
        (answer.status(), answer.headers()["retry-after"].to_str().ok()),
        (StatusCode::TOO_MANY_REQUESTS, Some("2"))
    );
    let error = answer.json::<Value>().await.expect("JSON")["error"].clone();
    let expected = json!({"message": "64 requests wait already", "type": "requests", "param": null, "code": "rate_limit_exceeded"});
    assert_eq!(error, expected);
    let last = ledger(&store).await.pop().expect("an entry");
    assert_eq!((&last["fact"], &last["ended"]), (&json!("model-called"), &json!("failed")), "{last}");
}

#[tokio::test]
async fn a_reader_who_does_not_read_holds_up_no_model() {
    use tokio::io::AsyncWriteExt as _;

    let store = folder_store();
    let url = serve_with(None, PolicySet::default_rules(), None, store.clone()).await;
    let body =
        json!({"model": "local/long", "messages": [{"role": "user", "content": "a"}], "stream": true}).to_string();
    let address = url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let mut silent = tokio::net::TcpStream::connect(&address).await.expect("it listens");
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n", body.len());
    silent.write_all((head + &body).as_bytes()).await.expect("sent");
    let ended = async {
        let expected = ("model-called", "local/long", "answered".to_owned());
        while !told(&ledger(&store).await).contains(&expected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("28 MB that nobody takes");
    drop(silent);
}

#[tokio::test]
async fn what_policy_refuses_is_a_403_of_openais_form_and_an_entry() {
    let rules = "@id(\"open\") permit (principal, action, resource);\n\
                 @id(\"no-strangers\") forbid (principal == Workflow::\"node/openai\", action, resource) \
                 when { context.class > 1 };";
    let rules = || PolicySet::parse(&[("p.cedar".to_owned(), rules.to_owned())]).expect("valid rules");
    let store = folder_store();
    let url = serve_with(None, rules(), None, store.clone()).await;
    let chat = json!({"model": "local/extract", "messages": [{"role": "user", "content": "a"}]});
    for (path, body) in [("chat/completions", &chat), ("embeddings", &json!({"model": embedder(), "input": "a"}))] {
        let (status, answer) = ask(&url, path, body.clone()).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("policy_refused")), "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("no-strangers")), "{answer}");
    }
    let entries = ledger(&store).await;
    assert_eq!(entries.len(), 2, "a refusal is one entry, and nothing was asked: {entries:?}");
    assert!(entries.iter().all(|entry| entry["allowed"] == json!(false)));

    let labelled = |url: String, label: &'static str| {
        let request = reqwest::Client::new().post(format!("{url}/chat/completions")).header("skerry-label", label);
        let request = request.json(&chat);
        async move { request.send().await.expect("sent").status().as_u16() }
    };
    assert_eq!(labelled(url.clone(), r#"{"class": "internal"}"#).await, 200, "the caller says what its data is");
    assert_eq!(labelled(url, "internal").await, 400, "what is no label is not taken for one");
    let floor = Label { class: DataClass::Confidential, ..Label::default() };
    let url = serve_with(None, rules(), Some(floor), store).await;
    assert_eq!(labelled(url, r#"{"class": "internal"}"#).await, 403, "below the configured label nobody comes");
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_use_the_models() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let url = serve(None).await;
    let from = |origin: &str| reqwest::Client::new().get(format!("{url}/models")).header("origin", origin).send();
    assert_eq!(from("https://evil.example").await.expect("sent").status(), 403);
    assert_eq!(from("null").await.expect("sent").status(), 403);
    let own = url.trim_end_matches("/v1").to_owned();
    assert_eq!(from(&own).await.expect("sent").status(), 200);
}
