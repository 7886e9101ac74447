//! An agent on the node's own rooms: a scripted OpenAI-compatible server says which tools it wants; policy, store and
//! ledger are real.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Json, Router, extract::State, routing::post};
use shared::policy::PolicySet;

use super::*;
use crate::{action, inference::Inference, memory::Memory};

const BODY: &str = "do: [{ solve: { call: agent, with: { name: scout, owner: ops, goal: 'Say what is wrong.', model: cloud/large, \
    tools: [embed, { function: publish, with: { topic: alarms/a } }, { workflow: test/w1, name: check }] } } }]";
const CHILD: &str = "do: [{ t: { set: { unit: '${ .unit }', fine: true } } }]";

#[derive(Clone, Default)]
struct Model {
    asked: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Value>>>,
}

/// Turn by turn: embed and publish, a run of another workflow, the answer.
async fn answer(State(model): State<Model>, Json(body): Json<Value>) -> Json<Value> {
    model.seen.lock().unwrap().push(body);
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}});
    let message = match model.asked.fetch_add(1, Ordering::SeqCst) {
        0 => json!({"content": null, "tool_calls": [
            call("a", "embed", json!({"text": "noise"})), call("b", "publish", json!({"payload": {"on": true}})),
        ]}),
        1 => json!({"content": null, "tool_calls": [call("c", "check", json!({"unit": 7}))]}),
        _ => json!({"content": "The bearing is worn."}),
    };
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10});
    Json(json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}))
}

async fn serve() -> (String, Model) {
    let model = Model::default();
    let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(model.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, model)
}

fn rooms(store: &Store, url: &str, rules: PolicySet) -> Rooms {
    let target = json!({"name": "cloud/large", "kind": "openai", "url": url, "model": "large-1", "key_env": "PATH"});
    let broker =
        action::Broker { host: "127.0.0.1".to_owned(), port: 1, login: None, tls: None, client_id: "test".to_owned() };
    Rooms::new(
        Inference::new(vec![serde_json::from_value(target).unwrap()], &models::catalog::Digests::default()),
        Memory::open(store.clone(), models::embed::default_embedder()),
        action::Action::new(broker, action::config::Calls::default()),
        Arc::new(rules),
        "CH".to_owned(),
    )
}

/// The default rules, and one that holds for this agent alone.
fn rules(actions: &str) -> PolicySet {
    let narrow = format!(
        "@id(\"scout-only-looks\") forbid (principal, action in [{actions}], resource) when {{ context.agent == \"scout\" }};"
    );
    let files = [("default.cedar", PolicySet::DEFAULT), ("site.cedar", &narrow)];
    PolicySet::parse(&files.map(|(name, text)| (name.to_owned(), text.to_owned()))).unwrap()
}

async fn acts(store: &Store) -> Vec<(String, String, String)> {
    let read = |c: &rusqlite::Connection| {
        let mut all = c.prepare("SELECT body FROM ledger WHERE fact = 'agent-acted' ORDER BY seq")?;
        let rows = all.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        rows.collect::<Result<Vec<_>, _>>()
    };
    let bodies = store.read("look", read).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let act = |body: Vec<u8>| {
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&value["agent"], &value["owner"]), (&json!("scout"), &json!("ops")));
        (text(&value["act"]), text(&value["of"]), text(&value["content"]["text"]))
    };
    bodies.into_iter().map(act).collect()
}

/// Lets the agent work under the default rules and one that forbids it these actions; gives the run, what the ledger says of
/// the agent, and what its model was sent.
async fn work(actions: &str) -> (runs::RunDetail, Vec<(String, String, String)>, Vec<Value>) {
    let (url, model) = serve().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&path(&dir)).unwrap();
    let runner = Runner::open(store.clone(), Arc::new(rooms(&store, &url, rules(actions)))).await.unwrap();
    runner.set_workflows(Digest::of(b"bundle"), vec![workflow(0, BODY), workflow(1, CHILD)]).await.unwrap();
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    let detail = rooms::ended(&store, &runner, run).await;
    let seen = model.seen.lock().unwrap().clone();
    (detail, acts(&store).await, seen)
}

#[tokio::test]
async fn an_agent_starts_no_workflow_that_policy_keeps_from_it() {
    let (detail, acts, _) = work("Action::\"publish\", Action::\"start\"").await;
    assert_eq!(detail.output.unwrap()["toolFailures"], 2);
    let (act, of, told) = acts.iter().find(|(_, of, _)| of == "check").unwrap();
    assert_eq!((act.as_str(), of.as_str()), ("failed", "check"));
    assert!(told.contains("authorization") && told.contains("scout-only-looks"), "{told}");
}

#[tokio::test]
async fn an_agent_works_with_real_rooms_and_has_no_more_authority_than_policy_gives() {
    let (detail, acts, seen) = work("Action::\"publish\"").await;
    assert_eq!(detail.summary.status, "completed", "{:?}", detail.error);
    let output = detail.output.unwrap();
    assert_eq!((&output["output"], &output["ended"]), (&json!("The bearing is worn."), &json!("done")));
    assert_eq!((&output["toolCalls"], &output["toolFailures"], &output["turns"]), (&json!(3), &json!(1), &json!(3)));
    assert_eq!(output["usage"]["tokensIn"], 300);
    let told: Vec<_> = acts.iter().map(|(act, of, _)| (act.as_str(), of.as_str())).collect();
    let expected = [
        ("began", ""),
        ("turned", ""),
        ("called", "embed"),
        ("failed", "publish"),
        ("turned", ""),
        ("called", "check"),
        ("turned", ""),
    ];
    assert_eq!(told, expected);
    assert!(acts[3].2.contains("scout-only-looks"), "{}", acts[3].2);
    // The model was told the refusal and the other run's output.
    let last =
        |at: usize| seen[at]["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    assert!(last(1).starts_with("error (authorization): "), "{}", last(1));
    assert_eq!(last(2), r#"{"fine":true,"unit":7}"#);
}

/// Performs like `Script`, but a model's turn is scripted by its number, and the first tool hangs while it is down.
#[tokio::test]
async fn a_restart_between_turns_repeats_no_turn_and_no_tool_call() {
    let body = "do: [{ solve: { call: agent, with: { name: scout, goal: go, tools: [retrieve, { function: http, name: fetch, \
        with: { method: get, endpoint: 'http://a' } }] } } }]";
    let mut node = Node::new(&[body]).await;
    node.script.set_down(true);
    let run = node.start(json!({})).await;
    let script = Arc::clone(&node.script);
    tokio::time::timeout(PATIENCE, async {
        while script.keys().len() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the second tool is asked");
    let before = node.script.keys();
    node = node.reopen().await;
    let output = node.output(run).await;
    assert_eq!((&output["ended"], &output["turns"]), (&json!("done"), &json!(2)));
    let after = node.script.keys();
    assert_eq!(before[2], after[0], "what was not answered is asked again under its key");
    assert!(
        before[0].ends_with("/turn/0")
            && before[1].contains("/turn/0/tool/0/")
            && before[2].contains("/turn/0/tool/1/"),
        "{before:?}"
    );
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(after[1].ends_with("/turn/1"), "{after:?}");
}
