//! An agent on the node's own rooms: a scripted OpenAI-compatible server says which tools it wants; policy, store and
//! ledger are real.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Json, Router, extract::State, routing::post};
use shared::{label::DataClass, policy::PolicySet};

use super::*;
use crate::{action, inference::Inference, memory::Memory};

const BODY: &str = "do: [{ solve: { call: agent, with: { name: scout, owner: ops, goal: 'Say what is wrong.', model: cloud/large, \
    tools: [embed, { function: publish, with: { topic: alarms/a } }, { workflow: test/w1, name: check }] } } }]";
const CHILD: &str = "do: [{ t: { set: { unit: '${ .unit }', fine: true } } }]";

#[derive(Clone)]
struct Model {
    /// Turn by turn the tools that it wants called; then it answers.
    script: Arc<Vec<Value>>,
    asked: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Value>>>,
}

async fn answer(State(model): State<Model>, Json(body): Json<Value>) -> Json<Value> {
    model.seen.lock().unwrap().push(body);
    let message = match model.script.get(model.asked.fetch_add(1, Ordering::SeqCst)) {
        Some(calls) => json!({"content": null, "tool_calls": calls}),
        None => json!({"content": "The bearing is worn."}),
    };
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10});
    Json(json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}))
}

fn call(id: &str, name: &str, arguments: &Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}})
}

async fn serve(script: Vec<Value>) -> (String, Model) {
    let model = Model { script: script.into(), asked: Arc::default(), seen: Arc::default() };
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

async fn asked(store: &Store, runner: &Runner) -> PendingApproval {
    let mut changes = runner.changes();
    let wait = async {
        loop {
            changes.borrow_and_update();
            let pending = store.read("look", runs::approvals_pending).await.unwrap();
            if let Some(question) = pending.into_iter().next() {
                return question;
            }
            drop(tokio::time::timeout(Duration::from_millis(50), changes.changed()).await);
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a person is asked")
}

/// Lets the agent work under the default rules and one that forbids it these actions; gives the run, what the ledger says of
/// the agent, and what its model was sent.
async fn work(actions: &str) -> (runs::RunDetail, Vec<(String, String, String)>, Vec<Value>) {
    let (url, model) = serve(vec![
        json!([call("a", "embed", &json!({"text": "noise"})), call("b", "publish", &json!({"payload": {"on": true}}))]),
        json!([call("c", "check", &json!({"unit": 7}))]),
    ])
    .await;
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

#[tokio::test]
async fn what_a_workflow_and_those_that_it_runs_asked_of_models_counts_for_the_agent_whose_tool_it_is() {
    let body = "do: [{ solve: { call: agent, with: { name: scout, owner: ops, goal: look, model: cloud/large, \
        tools: [{ workflow: test/w1, name: check }] } } }]";
    let child = "do: [{ a: { call: infer, with: { prompt: x, model: cloud/large } } }, \
        { b: { run: { workflow: { namespace: test, name: w2, version: latest } } } }]";
    for (end, ended) in
        [("set: { fine: true }", "called"), ("raise: { error: { type: 'https://e/x', status: 418 } }", "failed")]
    {
        let grandchild = format!(
            "do: [{{ a: {{ call: infer, with: {{ prompt: y, model: cloud/large }} }} }}, {{ z: {{ {end} }} }}]"
        );
        let (url, model) = serve(vec![json!([call("a", "check", &json!({}))])]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&path(&dir)).unwrap();
        let performer = rooms(&store, &url, rules("Action::\"publish\""));
        let runner = Runner::open(store.clone(), Arc::new(performer)).await.unwrap();
        let all = vec![workflow(0, body), workflow(1, child), workflow(2, &grandchild)];
        runner.set_workflows(Digest::of(b"bundle"), all).await.unwrap();
        let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
        let output = rooms::ended(&store, &runner, run).await.output.unwrap();
        assert_eq!(model.asked.load(Ordering::SeqCst), 4, "two turns and two others");
        assert_eq!(
            (&output["ended"], &output["usage"]["tokensIn"], &output["usage"]["tokensOut"]),
            (&json!("done"), &json!(400), &json!(40))
        );
        let acts = acts(&store).await;
        let (act, _, told) = acts.iter().find(|(_, of, _)| of == "check").unwrap();
        assert_eq!(act, ended);
        assert_eq!(told, if ended == "called" { "{\"fine\":true}" } else { "error (runtime): no detail" });
    }
}

#[tokio::test]
async fn a_person_who_gets_the_case_ends_the_task_over_a_restart_too() {
    let body = "do: [{ solve: { call: agent, with: { name: scout, owner: ops, goal: look, model: cloud/large, limits: { time: PT1H }, \
        tools: [{ person: { role: lead, label: { class: confidential, personal: true }, limits: { time: PT10M } } }] } } }]";
    let (url, model) = serve(vec![json!([call("a", "handoff_lead", &json!({"case": "the fan is stuck"}))])]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = path(&dir);
    let open = async || {
        let store = Store::open(&path).unwrap();
        let runner =
            Runner::open(store.clone(), Arc::new(rooms(&store, &url, rules("Action::\"publish\"")))).await.unwrap();
        runner.set_workflows(Digest::of(b"bundle"), vec![workflow(0, body)]).await.unwrap();
        (store, runner)
    };
    let (store, runner) = open().await;
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    let question = asked(&store, &runner).await;
    runner.close().await;
    drop((runner, store));
    let (store, runner) = open().await;
    assert_eq!(asked(&store, &runner).await, question, "one question, whatever happens to the node");
    assert_eq!((&*question.role, &question.proposal.as_ref().unwrap()["case"]), ("lead", &json!("the fan is stuck")));
    assert_eq!((question.label.class, question.label.personal), (DataClass::Confidential, true));
    let minutes = question.deadline.unwrap().as_micros() - question.asked.as_micros();
    assert!((590_000_000..=600_000_000).contains(&minutes), "{minutes}");
    runner.decide_approval(approvals::answer(&question, Verdict::Rejected)).await.unwrap();
    let output = rooms::ended(&store, &runner, run).await.output.unwrap();
    assert_eq!((&output["ended"], &output["output"]), (&json!("person"), &json!("go on")));
    assert_eq!((&output["person"]["by"], &output["person"]["verdict"]), (&json!("ada"), &json!("rejected")));
    assert_eq!(model.asked.load(Ordering::SeqCst), 1, "no model is asked after the hand-over");
    let acts: Vec<_> = acts(&store).await.into_iter().map(|(act, of, _)| (act, of)).collect();
    let expected = [("began", ""), ("turned", ""), ("asked", "lead"), ("called", "handoff_lead")];
    assert_eq!(acts, expected.map(|(act, of)| (act.to_owned(), of.to_owned())));
}

/// The model's turns are those of `Script`; the first tool hangs while it is down.
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
