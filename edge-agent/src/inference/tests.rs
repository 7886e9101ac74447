//! The way to a target and back, against real HTTP servers on loopback that speak the providers' formats.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body, extract::State, http::HeaderMap, response::Response, routing::post};
use edge_core::engine::effect::Completion;
use futures::StreamExt as _;
use serde_json::{Value, json};
use shared::{
    ledger::entry::CallEnd,
    policy::{Action, PolicySet, Request as PolicyRequest},
};

use super::{ask::tests::call, *};

mod agents;
mod memory;
mod queue;
mod speeds;

/// What the server answers, one after another; the last for ever.
type Script = Vec<Said>;
/// Status, headers and the pieces of the body; `Err` cuts the connection.
type Said = (u16, Vec<(&'static str, &'static str)>, Vec<Result<String, ()>>);

#[derive(Clone)]
struct Server {
    script: Arc<Script>,
    asked: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

/// Serves a script under the paths of both protocols.
async fn serve(script: Script) -> (String, Server) {
    async fn answer(State(server): State<Server>, headers: HeaderMap, body: String) -> Response {
        let body = serde_json::from_str(&body).expect("a JSON request");
        server.seen.lock().expect("free").push((headers, body));
        let at = server.asked.fetch_add(1, Ordering::SeqCst).min(server.script.len() - 1);
        let (status, headers, pieces) = server.script[at].clone();
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        let pieces = futures::stream::iter(pieces).then(|piece| async {
            // Gives way, so that what comes before a cut is on the wire.
            tokio::task::yield_now().await;
            piece.map_err(|()| std::io::Error::other("cut"))
        });
        response.body(Body::from_stream(pieces)).expect("a response")
    }
    let server = Server { script: Arc::new(script), asked: Arc::default(), seen: Arc::default() };
    let router = Router::new()
        .route("/v1/chat/completions", post(answer))
        .route("/v1/messages", post(answer))
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, server)
}

const SSE: (&str, &str) = ("content-type", "text/event-stream");

/// A stream of chat completions that says this text in two pieces.
fn says(text: &str) -> Said {
    let (first, second) = text.split_at(text.len() / 2);
    let piece = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 200}});
    let events = [piece(first), piece(second), format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n")];
    (200, vec![SSE], events.into_iter().map(Ok).collect())
}

fn fails(status: u16, headers: Vec<(&'static str, &'static str)>) -> Said {
    (status, headers, vec![Ok(json!({"error": {"message": "not now"}}).to_string())])
}

fn target(name: &str, kind: &str, url: &str) -> Target {
    serde_json::from_value(json!({
        "name": name, "kind": kind, "url": url, "model": "large-1", "price_in": 2.5, "price_out": 10.0, "key_env": "PATH"
    }))
    .expect("a valid target")
}

/// As the runner does it: asks policy about every target, then infers with what it said.
async fn infer(inference: &Inference, call: &Call, forbid: &[&str]) -> Result<Completion, Failure> {
    let policy = PolicySet::default_rules();
    let (mut permitted, mut refused) = (Vec::new(), Vec::new());
    for target in inference.targets(call)? {
        if forbid.contains(&target.name.as_str()) {
            refused.push(policy::Refusal {
                target: Box::new(target),
                rules: vec!["stays-home".to_owned()],
                reason: "stays-home".to_owned(),
            });
            continue;
        }
        let request = PolicyRequest {
            action: Action::Infer,
            workflow: "test/ask".to_owned(),
            agent: None,
            target,
            label: call.label.clone(),
            node_jurisdiction: "CH".to_owned(),
        };
        permitted.push(policy.decide(&request).expect("the default rules permit it for open data"));
    }
    inference.infer(call, permitted, refused, Keep::Text).await
}

/// A target of a tiny model with random weights.
fn tiny_file(name: &str) -> String {
    format!("{}/../models/reference/tiny/{name}.gguf", env!("CARGO_MANIFEST_DIR"))
}

fn tiny(name: &str, file: &str) -> Target {
    let file = tiny_file(file);
    serde_json::from_value(json!({"name": name, "kind": "gguf", "file": file})).expect("a valid target")
}

fn dead() -> String {
    // Bound and let go: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}/v1", listener.local_addr().expect("an address"))
}

fn routes(facts: &[Fact]) -> Vec<String> {
    let route = |fact: &Fact| match fact {
        Fact::RouteChosen { choice, .. } => Some(choice.clone()),
        _ => None,
    };
    facts.iter().filter_map(route).collect()
}

#[tokio::test]
async fn a_streamed_answer_comes_back_whole_with_its_tokens_and_cost() {
    let (url, server) = serve(vec![says("The fan is stuck [1].")]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let call = call(
        json!({"prompt": "Why?", "passages": [{"text": "A stuck fan heats.", "document": "m.md"}], "maxTokens": 50}),
    );
    let done = infer(&inference, &call, &[]).await.expect("answered");
    assert_eq!(
        done.output,
        json!({
            "text": "The fan is stuck [1].", "target": "cloud/large", "model": "large-1", "degraded": false,
            "usage": {"tokensIn": 1000, "tokensOut": 200, "costUsd": 0.0045}
        })
    );
    let Some(Fact::ModelCalled { cost_micro_usd, prompt, answer, .. }) = done.facts.last() else {
        panic!("{:?}", done.facts)
    };
    assert_eq!((*cost_micro_usd, answer.text.as_deref()), (4_500, Some("The fan is stuck [1].")));
    assert!(prompt.text.as_ref().is_some_and(|text| text.contains("A stuck fan heats.")));
    let (headers, body) = server.seen.lock().expect("free")[0].clone();
    assert!(headers["authorization"].to_str().is_ok_and(|value| value.starts_with("Bearer /")));
    assert_eq!((&body["stream"], &body["max_tokens"]), (&json!(true), &json!(50)));
    assert!(
        body["messages"][0]["content"].as_str().is_some_and(|text| text.contains("[1] m.md") && text.ends_with("Why?"))
    );
}

#[tokio::test]
async fn how_tokens_are_drawn_and_where_an_answer_ends_is_told_to_each_provider_in_its_words() {
    for (protocol, expected) in [
        ("openai", json!({"temperature": 1.5, "top_p": 0.9, "seed": 7, "stop": ["END"]})),
        ("anthropic", json!({"temperature": 1.0, "top_p": 0.9, "stop_sequences": ["END"]})),
    ] {
        let (url, server) = serve(vec![says("The fan.")]).await;
        let inference = Inference::new(vec![target("cloud/large", protocol, &url)], &Digests::default());
        let drawn = json!({"prompt": "Why?", "temperature": 1.5, "topP": 0.9, "seed": 7, "stop": "END", "model": "cloud/large"});
        // What comes back is of no matter here.
        drop(infer(&inference, &call(drawn), &[]).await);
        let (_, body) = server.seen.lock().expect("free")[0].clone();
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&body[field], value, "{protocol}: {field} of {body}");
        }
    }
}

#[tokio::test]
async fn anthropic_is_spoken_to_in_its_own_way_and_its_tool_gives_the_value() {
    let event = |value: Value| Ok(format!("event: x\ndata: {value}\n\n"));
    let events = vec![
        event(json!({"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}})),
        event(
            json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{\"value\": [\"fa"}}),
        ),
        event(json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "n\"]}"}})),
        event(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}})),
        event(json!({"type": "message_stop"})),
    ];
    let (url, server) = serve(vec![(200, vec![SSE], events)]).await;
    let inference = Inference::new(vec![target("cloud/claude", "anthropic", &url)], &Digests::default());
    let schema = json!({"type": "array", "items": {"type": "string"}});
    let call = call(json!({
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Which part?"}], "schema": schema
    }));
    let done = infer(&inference, &call, &[]).await.expect("answered");
    assert_eq!(done.output, json!(["fan"]));
    let Some(Fact::ModelCalled { tokens_in: 7, tokens_out: 9, .. }) = done.facts.last() else {
        panic!("{:?}", done.facts)
    };
    let (headers, body) = server.seen.lock().expect("free")[0].clone();
    assert!(headers.contains_key("x-api-key") && headers["anthropic-version"] == "2023-06-01");
    assert_eq!((&body["system"], body["messages"].as_array().map(Vec::len)), (&json!("Be short."), Some(1)));
    assert_eq!(body["tools"][0]["input_schema"]["properties"]["value"], schema);
}

#[tokio::test]
async fn a_rate_limit_and_a_cut_stream_are_tried_again() {
    let half = says("never whole").2[0].clone();
    let cut = (200, vec![SSE], vec![half, Err(())]);
    let (url, server) = serve(vec![fails(429, vec![("retry-after", "0")]), cut, says("now")]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let done = infer(&inference, &call(json!({"prompt": "a"})), &[]).await.expect("the third try answers");
    assert_eq!((done.output["text"].as_str(), server.asked.load(Ordering::SeqCst)), (Some("now"), 3));
}

#[tokio::test]
async fn a_target_that_asks_for_rest_gets_it_and_the_next_one_answers() {
    let (busy, server) = serve(vec![fails(429, vec![("retry-after", "600")])]).await;
    let (free, _) = serve(vec![says("here")]).await;
    let inference = Inference::new(
        vec![target("cloud/a", "openai", &busy), target("cloud/b", "openai", &free)],
        &Digests::default(),
    );
    let ask = call(json!({"prompt": "a", "model": ["cloud/a", "cloud/b"]}));
    for _ in 0..2 {
        let done = infer(&inference, &ask, &[]).await.expect("answered");
        assert_eq!(done.output["target"], "cloud/b");
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 1, "not asked again while it rests");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_mended_once_and_then_refused() {
    let schema =
        json!({"type": "object", "properties": {"score": {"type": "number", "maximum": 1}}, "required": ["score"]});
    let input = json!({"prompt": "How sure?", "schema": schema});
    let (url, server) = serve(vec![says("{\"score\": 7}"), says("{\"score\": 0.7}")]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let done = infer(&inference, &call(input.clone()), &[]).await.expect("mended");
    assert_eq!(done.output, json!({"score": 0.7}));
    assert_eq!(done.facts.iter().filter(|fact| matches!(fact, Fact::ModelCalled { .. })).count(), 2);
    let body = server.seen.lock().expect("free")[1].1.clone();
    let told =
        body["messages"].as_array().and_then(|m| m.last()).and_then(|m| m["content"].as_str()).unwrap_or_default();
    assert!(told.contains("/score"), "the model is told what is wrong: {told}");
    let (url, _) = serve(vec![says("I do not know")]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let failure = infer(&inference, &call(input), &[]).await.expect_err("never fits");
    assert_eq!(failure.error.kind, kind::VALIDATION.0);
    assert_eq!(failure.facts.len(), 4, "both calls were paid for and are in the ledger: {:?}", failure.facts);
    assert!(requests(&failure.facts).iter().all(|(_, ended, _)| *ended == CallEnd::Misfit));
}

#[tokio::test]
async fn an_unreachable_provider_is_an_error_a_lesser_answer_or_a_wait() {
    let inference = Inference::new(vec![target("cloud/large", "openai", &dead())], &Digests::default());
    let ask = |offline: &str| {
        call(json!({
            "prompt": "Why is the pump hot?", "passages": [{"text": "A hot pump has a worn bearing.", "document": "m.md"}],
            "model": "cloud/large", "offline": offline, "parkFor": "PT1H"
        }))
    };
    let failure = infer(&inference, &ask("refuse"), &[]).await.expect_err("nobody is there");
    assert_eq!((failure.error.kind.as_str(), failure.ask_again_at), (kind::COMMUNICATION.0, None));
    assert_eq!(routes(&failure.facts), ["cloud/large", "refuse"]);
    let done = infer(&inference, &ask("degrade"), &[]).await.expect("the extractive target is always there");
    assert_eq!((&done.output["target"], &done.output["degraded"]), (&json!(EXTRACT), &json!(true)));
    assert!(done.output["text"].as_str().is_some_and(|text| text.contains("bearing")), "{}", done.output);
    let call = ask("park");
    let parked = infer(&inference, &call, &[]).await.expect_err("parked");
    let again = parked.ask_again_at.expect("asked again");
    assert!(again > call.asked_at && again <= call.asked_at.plus(Duration::from_secs(3_600)));
    let mut late = ask("park");
    late.asked_at = late.asked_at.plus_micros(-3_601_000_000);
    let failure = infer(&inference, &late, &[]).await.expect_err("its time is over");
    assert_eq!((failure.error.kind.as_str(), failure.ask_again_at), (kind::TIMEOUT.0, None));
}

#[tokio::test]
async fn nothing_is_sent_where_policy_refuses() {
    let (url, server) = serve(vec![says("secret")]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let ask = call(json!({"prompt": "a", "model": "cloud/large"}));
    let failure = infer(&inference, &ask, &["cloud/large"]).await.expect_err("refused");
    assert_eq!((failure.error.kind.as_str(), server.asked.load(Ordering::SeqCst)), (kind::AUTHORIZATION.0, 0));
    let failure = inference.infer(&ask, Vec::new(), Vec::new(), Keep::Digest).await.expect_err("no permit at all");
    assert_eq!((failure.error.kind.as_str(), server.asked.load(Ordering::SeqCst)), (kind::AUTHORIZATION.0, 0));
}

#[tokio::test]
async fn a_call_that_may_cost_too_much_is_not_sent() {
    let (url, server) = serve(vec![says("cheap")]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let input = |usd: f64| call(json!({"prompt": "a", "maxTokens": 1_000, "maxCostUsd": usd}));
    assert!(infer(&inference, &input(0.009), &[]).await.is_err_and(|failure| failure.error.kind == kind::VALIDATION.0));
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    assert!(infer(&inference, &input(0.011), &[]).await.is_ok());
}

#[tokio::test]
async fn a_silent_provider_costs_no_more_than_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let mut ask = call(json!({"prompt": "a"}));
    ask.deadline = Some(crate::clock::now().plus(Duration::from_millis(200)));
    let began = std::time::Instant::now();
    let failure = infer(&inference, &ask, &[]).await.expect_err("nobody answers");
    assert_eq!(failure.error.kind, kind::TIMEOUT.0);
    assert!(began.elapsed() < Duration::from_secs(3));
    drop(listener);
}

#[tokio::test]
async fn a_refused_key_is_an_authentication_error_that_does_not_show_the_key() {
    let (url, _) = serve(vec![fails(401, vec![])]).await;
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let failure = infer(&inference, &call(json!({"prompt": "a"})), &[]).await.expect_err("refused");
    assert_eq!(failure.error.kind, kind::AUTHENTICATION.0);
    let path = std::env::var("PATH").expect("set");
    assert!(!format!("{failure:?}").contains(&path));
    let mut absent = target("cloud/large", "openai", &url);
    if let Source::Provider(provider) = &mut absent.source {
        provider.key = Some(config::Key::Env("SKERRY_TEST_ABSENT".to_owned()));
    }
    let failure = infer(&Inference::new(vec![absent], &Digests::default()), &call(json!({"prompt": "a"})), &[])
        .await
        .expect_err("no key");
    assert!(failure.error.detail.is_some_and(|detail| detail.contains("SKERRY_TEST_ABSENT is not set")));
}

#[tokio::test]
async fn an_answer_that_is_not_the_protocol_is_a_fault_of_the_target() {
    for broken in
        [(200, vec![SSE], vec![Ok("data: {oops\n\n".to_owned())]), (200, vec![], vec![Ok("<html>".to_owned())])]
    {
        let (url, _) = serve(vec![broken]).await;
        let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
        let failure = infer(&inference, &call(json!({"prompt": "a"})), &[]).await.expect_err("garbled");
        assert_eq!(failure.error.kind, kind::COMMUNICATION.0);
        assert!(matches!(inference.health()[0].1, Health::Down { .. }));
    }
}

#[tokio::test]
async fn a_parked_for_target_that_is_back_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let inference =
        Inference::new(vec![target("cloud/large", "openai", &format!("http://{address}/v1"))], &Digests::default());
    let mut back = inference.back();
    let ask = call(json!({"prompt": "a", "offline": "park"}));
    assert!(infer(&inference, &ask, &[]).await.is_err_and(|failure| failure.ask_again_at.is_some()));
    let answer = says("at last");
    let router = Router::new().fallback(move || {
        let (_, headers, pieces) = answer.clone();
        async move {
            let body = Body::from(pieces.into_iter().flatten().collect::<String>());
            Response::builder().header(headers[0].0, headers[0].1).body(body).expect("a response")
        }
    });
    let listener = tokio::net::TcpListener::bind(address).await.expect("the same port");
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::time::timeout(Duration::from_secs(30), back.changed()).await.expect("told in time").expect("alive");
    let done = infer(&inference, &ask, &[]).await.expect("asked at once, as its rest is over");
    assert_eq!(done.output["text"], "at last");
}

/// Each request that left: the target, how it ended, and what came of the answer.
fn requests(facts: &[Fact]) -> Vec<(&str, CallEnd, &str)> {
    facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::ModelCalled { target, ended, answer, .. } => {
                Some((target.as_str(), *ended, answer.text.as_deref().unwrap_or_default()))
            }
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn every_request_that_left_is_told_however_it_ended() {
    let half = says("never whole").2[0].clone();
    let cut = (200, vec![SSE], vec![half, Err(())]);
    let (broken, server) = serve(vec![fails(503, vec![]), cut, fails(500, vec![])]).await;
    let (strict, _) = serve(vec![fails(400, vec![])]).await;
    let (fine, _) = serve(vec![says("here")]).await;
    let targets = [("cloud/a", &broken), ("cloud/b", &dead()), ("cloud/c", &strict), ("cloud/d", &fine)];
    let inference =
        Inference::new(targets.iter().map(|(name, url)| target(name, "openai", url)).collect(), &Digests::default());
    let ask = call(json!({"prompt": "a question", "model": ["cloud/a", "cloud/b", "cloud/c", "cloud/d"]}));
    let done = infer(&inference, &ask, &[]).await.expect("the last one answers");
    assert_eq!(server.asked.load(Ordering::SeqCst), 3);
    assert_eq!(
        requests(&done.facts),
        [
            ("cloud/a", CallEnd::Failed, ""),
            ("cloud/a", CallEnd::Cut, "never"),
            ("cloud/a", CallEnd::Failed, ""),
            // Nothing left for the second: nobody was there.
            ("cloud/c", CallEnd::Refused, ""),
            ("cloud/d", CallEnd::Answered, "here"),
        ]
    );
    for fact in &done.facts {
        if let Fact::ModelCalled { prompt, ended, tokens_in, cost_micro_usd, .. } = fact {
            assert_eq!(prompt.text.as_deref(), Some("User: a question"));
            let is_known = matches!(ended, CallEnd::Answered | CallEnd::Cut);
            assert_eq!((*tokens_in > 0, *cost_micro_usd > 0), (is_known, is_known), "{fact:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_nobody_answered_in_time_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let inference = Inference::new(vec![target("cloud/large", "openai", &url)], &Digests::default());
    let mut ask = call(json!({"prompt": "a"}));
    ask.deadline = Some(crate::clock::now().plus(Duration::from_millis(200)));
    let failure = infer(&inference, &ask, &[]).await.expect_err("nobody answers");
    assert_eq!(requests(&failure.facts), [("cloud/large", CallEnd::TimedOut, "")]);
    drop(listener);
}

#[tokio::test]
async fn a_local_model_that_cannot_answer_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("m.gguf");
    std::fs::write(&file, b"no model").expect("written");
    let broken = serde_json::from_value(json!({"name": "local/m", "kind": "gguf", "file": file})).expect("valid");
    let ask = call(json!({"prompt": "a", "model": "local/m"}));
    let failure =
        infer(&Inference::new(vec![broken], &Digests::default()), &ask, &[]).await.expect_err("it is no model");
    assert_eq!(requests(&failure.facts), [("local/m", CallEnd::Failed, "")]);
}

#[tokio::test]
async fn a_schema_that_no_value_fits_is_a_mistake_of_the_task() {
    let inference = Inference::new(vec![tiny("local/a", "tiny-qwen3")], &Digests::default());
    let schema = json!({"type": "integer", "minimum": 5, "maximum": 1});
    let ask = call(json!({"prompt": "a", "model": "local/a", "schema": schema}));
    let failure = infer(&inference, &ask, &[]).await.expect_err("no value");
    assert_eq!((failure.error.kind.as_str(), failure.error.status), kind::VALIDATION);
    let detail = failure.error.detail.expect("a reason");
    assert!(detail.contains("the model cannot answer: schema"), "{detail}");
    assert_eq!(requests(&failure.facts), [("local/a", CallEnd::Refused, "")]);
}

#[tokio::test]
async fn a_prompt_that_no_context_holds_is_told_and_another_target_may_take_it() {
    let inference = Inference::new(vec![tiny("local/a", "tiny-qwen3")], &Digests::default());
    let prompt = "pump ".repeat(20_000);
    let alone = call(json!({"prompt": prompt, "model": "local/a"}));
    let failure = infer(&inference, &alone, &[]).await.expect_err("too long");
    assert_eq!((failure.error.kind.as_str(), failure.error.status), kind::LIMIT, "{:?}", failure.error);
    assert_eq!(requests(&failure.facts), [("local/a", CallEnd::Refused, "")]);
    let route = call(json!({"prompt": prompt, "model": ["local/a", EXTRACT]}));
    assert_eq!(infer(&inference, &route, &[]).await.expect("the next one").output["target"], EXTRACT);
}

#[tokio::test]
async fn the_reasons_of_a_route_quote_neither_what_was_sent_nor_what_came_back() {
    let quoting = |status: u16| {
        let body = json!({"error": {"message": "cannot read: patient Muster"}}).to_string();
        (status, vec![], vec![Ok(body)])
    };
    let schema = json!({"type": "object", "properties": {"who": {"const": "nobody"}}, "required": ["who"]});
    let (rejects, _) = serve(vec![quoting(400)]).await;
    let (fails, _) = serve(vec![quoting(500)]).await;
    let (misfits, _) = serve(vec![says("{\"who\": \"patient Muster\"}")]).await;
    let targets = [("cloud/a", &rejects), ("cloud/b", &fails), ("cloud/c", &misfits)];
    let inference =
        Inference::new(targets.iter().map(|(name, url)| target(name, "openai", url)).collect(), &Digests::default());
    let ask = call(json!({"prompt": "patient Muster", "model": ["cloud/a", "cloud/b", "cloud/c"], "schema": schema}));
    // The second time the first failure's reason is in the health of the target.
    for _ in 0..2 {
        let failure = infer(&inference, &ask, &[]).await.expect_err("nobody answers well");
        let reasons: Vec<_> = failure
            .facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::RouteChosen { reasons, .. } => Some(reasons.join("; ")),
                _ => None,
            })
            .collect();
        assert!(reasons.len() > 2 && !reasons.join(" ").contains("Muster"), "{reasons:?}");
        assert!(reasons.join(" ").contains("cloud/a: the provider answered 400"), "{reasons:?}");
    }
}
