//! The node's own rooms behind the runner: policy is asked before anything is done, and its answer is remembered.

use shared::policy::PolicySet;

use super::*;
use crate::{
    action::{self, config::Calls},
    inference::Inference,
    learning::Learning,
    memory::Memory,
};

async fn node(rules: PolicySet, body: &str) -> (tempfile::TempDir, Store, Runner) {
    node_of(rules, vec![workflow(0, body)], Calls::default()).await
}

/// A node with these workflows and its own rooms.
pub(super) async fn node_of(
    rules: PolicySet,
    workflows: Vec<Arc<Workflow>>,
    calls: Calls,
) -> (tempfile::TempDir, Store, Runner) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&path(&dir)).unwrap();
    let runner = Runner::open(store.clone(), Arc::new(rooms(&store, rules, calls))).await.unwrap();
    runner.set_workflows(Digest::of(b"bundle"), workflows).await.unwrap();
    (dir, store, runner)
}

fn rooms(store: &Store, rules: PolicySet, calls: Calls) -> Rooms {
    let memory = Memory::open(store.clone(), models::embed::default_embedder());
    // Nobody listens there: what is not permitted must not even try.
    let broker =
        action::Broker { host: "127.0.0.1".to_owned(), port: 1, login: None, tls: None, client_id: "test".to_owned() };
    let rooms = Rooms::new(
        Inference::new(Vec::new(), &models::catalog::Digests::default()),
        memory,
        action::Action::new(broker, calls),
        Arc::new(rules),
        "CH".to_owned(),
    );
    rooms.set_learning(Learning::new(store.clone()));
    rooms
}

pub(super) async fn ended(store: &Store, runner: &Runner, run: RunId) -> runs::RunDetail {
    let mut changes = runner.changes();
    let wait = async {
        loop {
            changes.borrow_and_update();
            let detail = store.read("look", move |c| runs::detail(c, run)).await.unwrap().unwrap();
            if detail.summary.ended.is_some() {
                return detail;
            }
            drop(tokio::time::timeout(Duration::from_millis(50), changes.changed()).await);
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the run ends")
}

async fn decisions(store: &Store) -> Vec<(String, bool)> {
    let read = |c: &rusqlite::Connection| {
        let mut all = c.prepare("SELECT body FROM ledger WHERE fact = 'policy-decided' ORDER BY seq")?;
        let rows = all.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        rows.collect::<Result<Vec<_>, _>>()
    };
    let bodies = store.read("look", read).await.unwrap();
    let read = |body: Vec<u8>| {
        let value: Value = serde_json::from_slice(&body).unwrap();
        (value["resource"].as_str().unwrap().to_owned(), value["allowed"].as_bool().unwrap())
    };
    bodies.into_iter().map(read).collect()
}

#[tokio::test]
async fn a_denied_action_is_recorded_and_not_performed() {
    let rules = "@id(\"no-alarms\") forbid (principal, action == Action::\"publish\", resource);";
    let rules = PolicySet::parse(&[("p.cedar".to_owned(), rules.to_owned())]).unwrap();
    let body = "do: [{ t: { call: publish, with: { topic: alarms/a, payload: { on: true } } } }]";
    let (_dir, store, runner) = node(rules, body).await;
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    let detail = ended(&store, &runner, run).await;
    assert_eq!(detail.summary.status, "faulted");
    let error = detail.error.unwrap();
    assert_eq!(error["status"], 403);
    assert!(error["detail"].as_str().unwrap().contains("no-alarms"), "{error}");
    let topic = Digest::of(b"alarms/a").to_string();
    assert_eq!(decisions(&store).await, [(topic, false)], "these rules let the ledger keep no text");
}

#[tokio::test]
async fn a_permitted_inference_is_answered_on_the_node() {
    let body = "do: [{ ask: { call: infer, with: { prompt: 'What is worn?', model: local/extract, \
        passages: [{ text: 'Noise at 120 Hz means that the bearing is worn.', document: manual, place: '1' }] } } }]";
    let (_dir, store, runner) = node(PolicySet::default_rules(), body).await;
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    let detail = ended(&store, &runner, run).await;
    assert_eq!(detail.summary.status, "completed", "{:?}", detail.error);
    assert!(detail.output.unwrap()["text"].as_str().unwrap().contains("bearing is worn"));
    assert_eq!(decisions(&store).await, [("local/extract".to_owned(), true)]);
}

#[tokio::test]
async fn a_detector_is_trained_only_if_policy_lets_it() {
    let body = "do: [{ learn: { call: train, with: { feed: press, detector: odd } } }]";
    let (_dir, store, runner) = node(PolicySet::default_rules(), body).await;
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    let error = ended(&store, &runner, run).await.error.unwrap();
    assert!(error["detail"].as_str().unwrap().contains("press/odd has no history"), "{error}");
    assert_eq!(decisions(&store).await, [("press/odd".to_owned(), true)]);
    let rules = "@id(\"not-these\") forbid (principal, action == Action::\"train\", resource) when { resource.kind == \"detector\" };";
    let rules = PolicySet::parse(&[("p.cedar".to_owned(), rules.to_owned())]).unwrap();
    let (_dir, store, runner) = node(rules, body).await;
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    assert_eq!(ended(&store, &runner, run).await.error.unwrap()["status"], 403);
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let body = "do: [{ ask: { call: infer, with: { prompt: p, maxTokens: '${ .p }' } } }]";
    let (_dir, store, runner) = node(PolicySet::default_rules(), body).await;
    let run = runner.start("test/w0", json!({"p": "many"}), Label::default(), person()).await.unwrap().run.unwrap();
    let error = ended(&store, &runner, run).await.error.unwrap();
    assert!(error["type"].as_str().unwrap().ends_with("/validation"), "{error}");
    assert_eq!(error["instance"], "/do/0/ask");
}

#[tokio::test]
async fn a_person_is_told_of_no_task() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&path(&dir)).unwrap();
    let rooms = rooms(&store, PolicySet::default_rules(), Calls::default());
    let ask = async |function: &str, input: Value| {
        let wanted = Wanted { function: function.to_owned(), input, label: Label::default() };
        perform_wanted(&rooms, &store, wanted).await
    };
    ask("remember", json!({"index": "notes", "text": "The bearing is worn."})).await.expect("kept");
    let asked = |name: &str, value: Value| {
        let mut input = json!({"question": "What is worn?", "index": "notes"});
        input[name] = value;
        input
    };
    for (function, input, expected) in [
        ("remember", json!({"text": " "}), "text: empty"),
        ("remember", json!({"texts": []}), "unknown field `texts`"),
        ("forget", json!({}), "id: missing"),
        ("follow", json!({"index": "notes", "source": "a", "path": "here"}), "path: here; expected the whole path"),
        ("search", json!({"query": "worn", "index": "nowhere"}), "\"nowhere\""),
        ("ask", asked("topK", json!(0)), "topK"),
        ("ask", asked("maxTokens", json!(0)), "maxTokens"),
        ("ask", asked("model", json!("cloud/none")), "cloud/none"),
    ] {
        let told = ask(function, input).await.expect_err("wrong").error.detail.expect("words");
        let task = ["remember", "forget", "follow", "retrieve", "infer"].map(|name| format!("/{name}"));
        assert!(told.contains(expected) && !task.iter().any(|task| told.contains(task)), "{told}");
    }
}

const STARTS: &str = "do: [{ c: { run: { workflow: { namespace: test, name: w1, version: '0.1.0' } } } }]";

#[tokio::test]
async fn a_workflow_starts_another_only_if_policy_lets_it() {
    let child = || workflow(1, "do: [{ s: { set: { x: 1 } } }]");
    let rules = "@id(\"all\") permit (principal, action, resource); \
        @id(\"not-this\") forbid (principal == Workflow::\"test/w0\", action == Action::\"start\", resource == Target::\"test/w1\");";
    let rules = PolicySet::parse(&[("p.cedar".to_owned(), rules.to_owned())]).unwrap();
    let (_dir, store, runner) = node_of(rules, vec![workflow(0, STARTS), child()], Calls::default()).await;
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    let detail = ended(&store, &runner, run).await;
    let error = detail.error.unwrap();
    assert_eq!((&error["status"], &error["instance"]), (&json!(403), &json!("/do/0/c")));
    assert!(error["detail"].as_str().unwrap().contains("`start` on test/w1"), "{error}");
    assert_eq!(decisions(&store).await, [("test/w1".to_owned(), false)]);
    let runs = store.read("look", |c| c.query_row("SELECT count(*) FROM run", [], |row| row.get::<_, i64>(0))).await;
    assert_eq!(runs.unwrap(), 1, "the other one never began");

    let (_dir, store, runner) =
        node_of(PolicySet::default_rules(), vec![workflow(0, STARTS), child()], Calls::default()).await;
    let run = runner.start("test/w0", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    assert_eq!(ended(&store, &runner, run).await.output, Some(json!({"x": 1})));
    assert_eq!(decisions(&store).await, [("test/w1".to_owned(), true)], "asked once, not again at its end");
}
