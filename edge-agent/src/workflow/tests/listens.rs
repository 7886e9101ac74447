//! Events for runs that listen, and for workflows that several of them start: each comes once, whenever the node ends.

use super::*;

const LISTEN: &str = "do: [{ l: { listen: { to: { one: { with: { type: t }, correlate: { k: { from: .k, expect: '${ .k }' } } } } } } }]";

#[tokio::test]
async fn an_event_comes_to_the_run_that_its_correlation_names() {
    let node = Node::new(&[LISTEN]).await;
    let (one, two) = (node.start(json!({"k": 1})).await, node.start(json!({"k": 2})).await);
    let summary = node.until_status(one, "waiting").await;
    assert_eq!(summary.note.as_deref(), Some("listens for events of t"));
    node.until_status(two, "waiting").await;
    node.deliver("a", "u", json!({"k": 2})).await;
    node.deliver("b", "t", json!({"k": 2})).await;
    assert_eq!(node.output(two).await, json!([{"k": 2}]));
    node.until_status(one, "waiting").await;
    let node = node.reopen().await;
    node.deliver("c", "t", json!({"k": 1})).await;
    assert_eq!(node.output(one).await, json!([{"k": 1}]));
    assert_eq!(node.count("SELECT count(*) FROM listening").await, 0);
    assert_eq!(node.count("SELECT (SELECT count(*) FROM delivery) + (SELECT count(*) FROM arrived)").await, 0);
}

#[tokio::test]
async fn an_event_that_was_written_down_before_a_kill_is_heard_after_it() {
    let node = Node::new(&["do: [{ l: { listen: { to: { any: [], until: 'length == 2' } } } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    let event = serde_json::to_string(&Event::new("a", "https://here", "t", json!(1))).unwrap();
    let label = serde_json::to_string(&Label::default()).unwrap();
    let written = move |c: &rusqlite::Connection| {
        c.execute("INSERT INTO arrived VALUES (7, ?1, ?2)", [event, label]).unwrap();
        c.execute("INSERT INTO delivery VALUES (?1, 7)", [run.to_string()]).unwrap();
    };
    let node = node.reopen_with(written).await;
    node.until(|c| c.query_row("SELECT 1 FROM delivery", [], |_| Ok(())).is_err().then_some(())).await;
    node.deliver("a", "t", json!(1)).await;
    node.deliver("b", "t", json!(2)).await;
    assert_eq!(node.output(run).await, json!([1, 2]), "the repeat counts once");
}

#[tokio::test]
async fn one_workflow_emits_what_another_ones_run_listens_for() {
    let node = Node::new(&[
        "do: [{ l: { listen: { to: { one: { with: { type: t.done } } } } } }, { s: { set: { got: '${ .[0].n }' } } }]",
        "do: [{ e: { emit: { event: { with: { type: t.done, data: { n: 5 } } } } } }]",
    ])
    .await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    node.runner.start("test/w1", json!({}), Label::default()).await.unwrap();
    assert_eq!(node.output(run).await, json!({"got": 5}));
}

#[tokio::test]
async fn all_of_several_events_start_one_run_across_a_restart() {
    let node = Node::new(&["schedule: { 'on': { all: [{ with: { type: a } }, { with: { type: b } }] } }\n\
        do: [{ s: { set: { got: '${ . }' } } }]"])
    .await;
    node.deliver("1", "a", json!(1)).await;
    assert_eq!(node.count("SELECT count(*) FROM run").await, 0);
    let node = node.reopen().await;
    node.deliver("1", "a", json!(1)).await;
    node.deliver("2", "b", json!(2)).await;
    let run = node.until_one("test/w0", "completed").await;
    assert_eq!(node.output(run).await, json!({"got": [1, 2]}));
    node.deliver("2", "b", json!(2)).await;
    assert_eq!(node.count("SELECT count(*) FROM run").await, 1);
}

#[tokio::test]
async fn a_workflow_starts_again_some_time_after_its_end() {
    let node = Node::new(&["schedule: { after: PT1S }\ndo: [{ s: { set: { x: 1 } } }]"]).await;
    let first: i64 = node.count("SELECT next_at FROM schedule").await;
    assert!(first > clock::now().as_micros());
    node.until(|c| {
        let ended: i64 =
            c.query_row("SELECT count(*) FROM run WHERE status = 'completed'", [], |row| row.get(0)).unwrap();
        (ended >= 2).then_some(())
    })
    .await;
    let (created, ended) = (
        node.count("SELECT max(created_at) FROM (SELECT created_at FROM run ORDER BY created_at LIMIT 2)").await,
        node.count("SELECT min(ended_at) FROM run").await,
    );
    assert!(created - ended >= 1_000_000, "{created} {ended}");
}

#[tokio::test]
async fn lifecycle_events_are_made_for_those_who_wait_for_them_and_start_no_others() {
    let node = Node::new(&[
        "do: [{ a: { set: { x: 1 } } }]",
        "schedule: { 'on': { one: { with: { type: io.serverlessworkflow.workflow.completed.v1 } } }, read: envelope }\n\
         do: [{ s: { set: { kind: '${ .[0].type }', name: '${ .[0].data.name }' } } }]",
    ])
    .await;
    let run = node.start(json!({})).await;
    let told = node.until_one("test/w1", "completed").await;
    let output = node.output(told).await;
    assert_eq!(output["kind"], "io.serverlessworkflow.workflow.completed.v1");
    assert_eq!(output["name"], format!("w0-{}.test", run.to_string().to_lowercase()));
    assert_eq!(node.count("SELECT count(*) FROM run").await, 2, "what it started made none");
    let quiet = Node::new(&["do: [{ a: { set: { x: 1 } } }]"]).await;
    let run = quiet.start(json!({})).await;
    quiet.output(run).await;
    assert_eq!(quiet.count("SELECT count(*) FROM emitted").await, 0);
}
