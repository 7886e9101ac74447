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
        c.execute("INSERT INTO arrived (seq, event, label) VALUES (7, ?1, ?2)", [event, label]).unwrap();
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
    node.runner.start("test/w1", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
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

/// What was withheld: workflow, reason, how often.
async fn withheld(node: &Node) -> Vec<(String, String, u64)> {
    let all = node.store.read("look", crate::store::withheld::all).await.unwrap();
    all.into_iter().map(|one| (one.workflow, one.reason, one.events)).collect()
}

/// Nothing goes on any more: no run is open, and no event waits.
async fn until_quiet(node: &Node, open: i64) -> i64 {
    node.until(move |c| {
        let (still, runs): (i64, i64) = c
            .query_row(
                "SELECT (SELECT count(*) FROM run WHERE ended_at IS NULL) + (SELECT count(*) FROM emitted) \
                 + (SELECT count(*) FROM delivery), (SELECT count(*) FROM run)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert!(runs < 50, "runs keep themselves going");
        (still == open).then_some(runs)
    })
    .await
}

const TELLS: &str = "schedule: { 'on': { one: { with: { type: io.serverlessworkflow.workflow.completed.v1 } } } }\n";

#[tokio::test]
async fn what_a_lifecycle_event_started_keeps_nothing_going_by_children_retries_or_events() {
    let telling = format!(
        "{TELLS}do: [{{ c: {{ run: {{ workflow: {{ namespace: test, name: w2, version: '0.1.0' }} }} }} }}, \
         {{ e: {{ emit: {{ event: {{ with: {{ type: x, data: {{}} }} }} }} }} }}]"
    );
    let set = "do: [{ s: { set: { x: 1 } } }]";
    let on_x = format!("schedule: {{ 'on': {{ one: {{ with: {{ type: x }} }} }} }}\n{set}");
    let node = Node::new(&[set, &telling, set, &on_x]).await;
    node.start(json!({})).await;
    let told = node.until_one("test/w1", "completed").await;
    assert_eq!(until_quiet(&node, 0).await, 4, "itself, who was told, the child of that, and who heard of it");
    let own = |workflow: &str, events| (workflow.to_owned(), "loop".to_owned(), events);
    assert_eq!(withheld(&node).await, [own("test/w1", 1), own("test/w2", 1), own("test/w3", 1)]);
    assert_eq!(node.facts("shed").await, 3);
    let node = node.reopen().await;
    node.runner.retry(told, Some("/do/0/c"), person()).await.unwrap();
    node.until(|c| (runs::counts(c).unwrap() == [("completed".to_owned(), 7)]).then_some(())).await;
    assert_eq!(until_quiet(&node, 0).await, 7);
    assert_eq!(withheld(&node).await, [own("test/w1", 2), own("test/w2", 2), own("test/w3", 2)]);
}

#[tokio::test]
async fn a_run_that_hears_of_its_own_children_does_not_go_on_for_ever() {
    let ear = "do: [{ l: { listen: { to: { any: [{ with: { type: io.serverlessworkflow.workflow.completed.v1 } }], until: 'false' } }, \
        foreach: { do: [{ c: { run: { workflow: { namespace: test, name: w1, version: '0.1.0' } } } }] } } }]";
    let node = Node::new(&[ear, "do: [{ s: { set: { x: 1 } } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    node.runner.start("test/w1", json!({}), Label::default(), person()).await.unwrap();
    node.until(|c| c.query_row("SELECT 1 FROM withheld", [], |_| Ok(())).ok()).await;
    assert_eq!(until_quiet(&node, 1).await, 3);
    assert_eq!(withheld(&node).await, [("test/w1".to_owned(), "loop".to_owned(), 1)]);
    // What comes from outside is told as before.
    node.runner.start("test/w1", json!({}), Label::default(), person()).await.unwrap();
    node.until(|c| c.query_row("SELECT 1 FROM withheld WHERE events = 2", [], |_| Ok(())).ok()).await;
    assert_eq!(until_quiet(&node, 1).await, 5);
}

#[tokio::test]
async fn an_event_that_an_answer_overtakes_waits_until_the_run_has_decided_about_it() {
    let node = Node::new(&[
        "do: [{ race: { fork: { compete: true, branches: [{ ear: { listen: { to: { one: { with: { type: t } } } } } }, \
        { ask: { call: approve, with: { role: lead, title: t, proposal: 1 } } }] } } }, \
        { again: { listen: { to: { one: { with: { type: t } } } } } }]",
    ])
    .await;
    let run = node.start(json!({})).await;
    node.until_asked().await;
    node.until_status(run, "waiting").await;
    // Somebody has answered, and the run has not heard of it. Each step tells how many events wait when it is written.
    let answered = |tx: &mut crate::store::Transaction<'_>| {
        Ok(tx.connection().execute_batch(
            "UPDATE approval SET status = 'approved', by = 'ada', decided_at = 1; CREATE TABLE seen (waiting INTEGER); \
             CREATE TRIGGER see AFTER UPDATE OF steps ON run BEGIN INSERT INTO seen SELECT count(*) FROM delivery; END;",
        )?)
    };
    node.store.write("answer", answered).await.unwrap();
    node.deliver("a", "t", json!(1)).await;
    assert_eq!(node.output(run).await, json!([1]));
    let seen =
        |c: &rusqlite::Connection| c.query_row("SELECT group_concat(waiting) FROM seen", [], |row| row.get(0)).ok();
    assert_eq!(node.until::<String>(seen).await, "1,0", "a kill after the answer's step would not lose it");
}

const RESTS: &str = "do: [{ t: { try: [{ l: { listen: { to: { any: [{ with: { type: t } }], until: { one: { with: { type: stop } } } } } } }], \
    catch: { as: e, do: [{ h: { set: { status: '${ $e.status }', why: '${ $e.detail }' } } }] } } }]";

async fn resting() -> (Node, RunId) {
    let node = Node::new(&[RESTS]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    node.runner.steer(run, Act::Suspend, person()).await.unwrap();
    node.until_status(run, "suspended").await;
    (node, run)
}

const LEFT: &str =
    "SELECT (SELECT count(*) FROM delivery) + (SELECT count(*) FROM arrived) + (SELECT count(*) FROM inbox)";

#[tokio::test]
async fn so_many_events_wait_for_a_run_and_it_is_told_of_those_that_could_not() {
    let (node, run) = resting().await;
    let event = |id: i64| (Event::new(id.to_string(), "https://here", "t", json!(id)), Label::default());
    node.runner.deliver((0..listen::EVENTS_MAX + 3).map(event).collect()).await.unwrap();
    assert_eq!(node.count("SELECT count(*) FROM delivery").await, listen::EVENTS_MAX);
    assert_eq!(withheld(&node).await, [("test/w0".to_owned(), "waiting".to_owned(), 3)]);
    assert_eq!(node.facts("shed").await, 0, "the ledger is told when the run is");
    let node = node.reopen().await;
    node.runner.steer(run, Act::Resume, person()).await.unwrap();
    let output = node.output(run).await;
    assert_eq!(output["status"], 413);
    assert!(output["why"].as_str().unwrap().starts_with("3 events that may have been for this task"), "{output}");
    assert_eq!((node.count(LEFT).await, node.facts("shed").await), (0, 1));
}

#[tokio::test]
async fn so_many_bytes_wait_for_a_run_and_go_with_it() {
    let (node, run) = resting().await;
    let event =
        |id: i64| (Event::new(id.to_string(), "https://here", "t", json!("x".repeat(1_000_000))), Label::default());
    node.runner.deliver((0..10).map(event).collect()).await.unwrap();
    assert_eq!(node.count("SELECT count(*) FROM delivery").await, 8);
    node.runner.steer(run, Act::Cancel, person()).await.unwrap();
    node.until_status(run, "cancelled").await;
    assert_eq!((node.count(LEFT).await, node.facts("shed").await), (0, 1), "nobody reads them any more");
    assert_eq!(withheld(&node).await, [("test/w0".to_owned(), "waiting".to_owned(), 2)]);
}

#[tokio::test]
async fn events_that_wait_for_others_and_make_room_are_counted_and_told() {
    let on = "schedule: { 'on': { all: [{ with: { type: a }, correlate: { room: { from: .room } } }, \
        { with: { type: b }, correlate: { room: { from: .room } } }] } }\ndo: [{ s: { set: { x: 1 } } }]";
    let node = Node::new(&[on]).await;
    let event =
        |room: usize| (Event::new(room.to_string(), "https://here", "a", json!({"room": room})), Label::default());
    node.runner.deliver((0..=edge_core::trigger::GROUPS_MAX).map(event).collect()).await.unwrap();
    assert_eq!(withheld(&node).await, [("test/w0".to_owned(), "group".to_owned(), 1)]);
    let told = |c: &rusqlite::Connection| {
        let body: Vec<u8> = c.query_row("SELECT body FROM ledger WHERE fact = 'shed'", [], |row| row.get(0)).ok()?;
        serde_json::from_slice::<Value>(&body).ok()
    };
    let told = node.until(told).await;
    assert_eq!((&told["feed"], &told["count"]), (&json!("events that start together test/w0"), &json!(1)));
    assert!(told["reason"].as_str().unwrap().ends_with(": https://here 0"), "{told}");
}
