//! Rest, going on, and trying again.

use super::*;

#[tokio::test]
async fn a_run_rests_across_a_restart_and_events_wait_for_it() {
    let node = Node::new(&["do: [{ l: { listen: { to: { one: { with: { type: t } } } } } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    node.runner.suspend(run);
    node.until_status(run, "suspended").await;
    node.deliver("a", "t", json!(1)).await;
    let node = node.reopen().await;
    let counts = node.until(|c| Some(runs::counts(c).unwrap())).await;
    assert_eq!(counts, [("suspended".to_owned(), 1)]);
    assert_eq!(node.count("SELECT count(*) FROM delivery").await, 1);
    node.runner.resume(run);
    assert_eq!(node.output(run).await, json!([1]));
}

#[tokio::test]
async fn a_faulted_run_is_tried_again_from_where_it_failed() {
    let node = Node::new(&["do: [{ a: { call: http, with: { method: get, endpoint: 'http://h/' } } }, \
        { b: { if: .did, call: publish, with: { topic: t, payload: '${ .did }' } } }, { c: { call: embed, with: { text: x } } }]"])
    .await;
    let run = node.start(json!({})).await;
    node.until_status(run, "faulted").await;
    let unknown = node.runner.retry(run, "/do/9/z").await.unwrap_err().to_string();
    assert!(unknown.contains("it entered /do/0/a, /do/1/b, /do/2/c"), "{unknown}");
    let again = node.runner.retry(run, "/do/1/b").await.unwrap();
    node.until_status(again, "faulted").await;
    assert_eq!(node.script.keys(), ["/do/0/a", "/do/1/b", "/do/2/c", "/do/1/b", "/do/2/c"]);
    let detail = node.until(move |c| runs::detail(c, again).unwrap()).await;
    assert_eq!((detail.tasks.len(), detail.trigger), (3, format!("retry of {run} from /do/1/b")));
    assert_eq!(node.facts("run-started").await, 2);
    let node = node.reopen().await;
    node.until_status(again, "faulted").await;
    assert!(node.script.keys().is_empty());
}

#[tokio::test]
async fn only_a_run_that_has_ended_is_tried_again() {
    let node = Node::new(&["do: [{ w: { wait: PT1H } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    assert!(matches!(node.runner.retry(run, "/do/0/w").await, Err(ControlError::Open(_))));
    let none = RunId::derive(clock::now(), b"none");
    assert!(matches!(node.runner.retry(none, "/do/0/w").await, Err(ControlError::Unknown(_))));
}

#[tokio::test]
async fn a_wish_to_cancel_outlives_the_node_and_a_run_that_has_not_begun_does_not_begin() {
    let node = Node::new(&["do: [{ w: { wait: PT1H } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    let pending = RunId::derive(clock::now(), b"pending");
    let wanted = move |c: &rusqlite::Connection| {
        c.execute("UPDATE run SET wanted = 'cancel' WHERE id = ?1", [run.to_string()]).unwrap();
        let sql = "INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, \
                   changed_at) SELECT ?1, workflow, version, definition, bundle, trigger, input, label, 'pending', 1, 1 FROM run";
        c.execute(sql, [pending.to_string()]).unwrap();
        super::super::control::want_cancel(c, pending, clock::now()).unwrap();
    };
    let node = node.reopen_with(wanted).await;
    node.until_status(run, "cancelled").await;
    node.until_status(pending, "cancelled").await;
    assert_eq!(node.facts("run-started").await, 1);
}
