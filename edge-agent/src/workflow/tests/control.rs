//! Rest, going on, and trying again.

use super::*;

#[tokio::test]
async fn a_run_rests_across_a_restart_and_events_wait_for_it() {
    let node = Node::new(&["do: [{ l: { listen: { to: { one: { with: { type: t } } } } } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    node.runner.steer(run, Act::Suspend, person()).await.unwrap();
    node.until_status(run, "suspended").await;
    node.deliver("a", "t", json!(1)).await;
    let node = node.reopen().await;
    let counts = node.until(|c| Some(runs::counts(c).unwrap())).await;
    assert_eq!(counts, [("suspended".to_owned(), 1)]);
    assert_eq!(node.count("SELECT count(*) FROM delivery").await, 1);
    node.runner.steer(run, Act::Resume, person()).await.unwrap();
    assert_eq!(node.output(run).await, json!([1]));
}

#[tokio::test]
async fn a_faulted_run_is_tried_again_from_where_it_failed() {
    let node = Node::new(&["do: [{ a: { call: http, with: { method: get, endpoint: 'http://h/' } } }, \
        { b: { if: .did, call: publish, with: { topic: t, payload: '${ .did }' } } }, { c: { call: embed, with: { text: x } } }]"])
    .await;
    let run = node.start(json!({})).await;
    node.until_status(run, "faulted").await;
    let unknown = node.runner.retry(run, Some("/do/9/z"), person()).await.unwrap_err().to_string();
    assert!(unknown.contains("the workflow has no task /do/9/z: did you mean /do/0/a"), "{unknown}");
    let again = node.runner.retry(run, Some("b"), person()).await.unwrap().run.unwrap();
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
    assert!(matches!(node.runner.retry(run, Some("/do/0/w"), person()).await, Err(ControlError::Open(_))));
    let none = RunId::derive(clock::now(), b"none");
    assert!(matches!(node.runner.retry(none, Some("/do/0/w"), person()).await, Err(ControlError::Unknown(_))));
}

#[tokio::test]
async fn what_people_do_to_runs_is_in_the_ledger_and_what_does_not_fit_changes_nothing() {
    let node = Node::new(&["do: [{ w: { wait: PT1H } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    let refused = node.runner.steer(run, Act::Resume, person()).await.unwrap_err().to_string();
    assert_eq!(refused, format!("the run {run} does not rest"));
    node.runner.steer(run, Act::Suspend, person()).await.unwrap();
    let refused = node.runner.steer(run, Act::Suspend, person()).await.unwrap_err().to_string();
    assert_eq!(refused, format!("the run {run} rests already"));
    let entry = node.runner.steer(run, Act::Cancel, person()).await.unwrap();
    let Fact::RunSteered { act, by, place, role, .. } = &entry.fact else { panic!("{entry:?}") };
    assert_eq!([act, by, place, role], ["cancel", "Ada", "command line", "operator"]);
    let ended = node.runner.steer(run, Act::Cancel, person()).await.unwrap_err();
    assert!(matches!(ended, ControlError::Ended(_)), "{ended}");
    // Tried again without a place: from the task that it stood at.
    let again = node.runner.retry(run, None, person()).await.unwrap().run.unwrap();
    let detail = node.until(move |c| runs::detail(c, again).unwrap()).await;
    assert_eq!(detail.trigger, format!("retry of {run} from /do/0/w"));
    // Start, suspend, cancel, retry; each once.
    assert_eq!(node.facts("run-steered").await, 4);
}

#[tokio::test]
async fn a_wish_to_cancel_outlives_the_node_and_a_run_that_has_not_begun_does_not_begin() {
    let node = Node::new(&["do: [{ w: { wait: PT1H } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    let pending = RunId::derive(clock::now(), b"pending");
    let wanted = move |c: &rusqlite::Connection| {
        let sql = "INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, \
                   changed_at) SELECT ?1, workflow, version, definition, bundle, trigger, input, label, 'pending', 1, 1 FROM run";
        c.execute(sql, [pending.to_string()]).unwrap();
        c.execute("UPDATE run SET wanted = 'cancel'", []).unwrap();
    };
    let node = node.reopen_with(wanted).await;
    node.until_status(run, "cancelled").await;
    node.until_status(pending, "cancelled").await;
    assert_eq!(node.facts("run-started").await, 1);
}

#[tokio::test]
async fn a_run_that_has_not_begun_can_be_cancelled_and_does_nothing_else() {
    let (first, again) =
        ("do: [{ a: { set: { n: 1 } } }]", "schedule: { after: PT1H }\ndo: [{ b: { set: { n: 2 } } }]");
    let node = Node::new(&[first, again]).await;
    node.count("SELECT count(*) FROM schedule WHERE rule LIKE 'after %'").await;
    // Wanted before the pump sees it: as if hundreds of others were under way.
    let run = RunId::derive(clock::now(), b"pending");
    let write = move |tx: &mut crate::store::Transaction<'_>| {
        let sql = "INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, \
                   changed_at, wanted) SELECT ?1, name, '0.1.0', digest, ?2, 'by hand', '{}', '{\"class\":\"public\"}', \
                   'pending', 1, 1, 'hold' FROM workflow WHERE name = 'test/w1'";
        Ok(tx.connection().execute(sql, [run.to_string(), Digest::of(b"").to_string()])?)
    };
    assert_eq!(node.store.write("add a run", write).await.unwrap(), 1);
    let refused = node.runner.steer(run, Act::Suspend, person()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Pending(_)), "{refused}");
    node.runner.steer(run, Act::Cancel, person()).await.unwrap();
    node.until_status(run, "cancelled").await;
    assert!(matches!(node.runner.steer(run, Act::Cancel, person()).await, Err(ControlError::Ended(_))));
    assert!(matches!(node.runner.retry(run, None, person()).await, Err(ControlError::Place(_))));
    assert_eq!((node.facts("run-started").await, node.facts("run-ended").await), (0, 1));
    // Its workflow starts an hour after this end, as after any other.
    let next = "SELECT next_at > 3500000000 + (SELECT changed_at FROM run WHERE status = 'cancelled') FROM schedule";
    assert_eq!(node.count(next).await, 1);
}

#[tokio::test]
async fn a_retried_run_asks_people_and_children_anew() {
    let body = "do: [{ f: { fork: { branches: [{ ask: { call: approve, with: { role: lead, title: t, proposal: 1 } } }, \
        { child: { run: { workflow: { namespace: test, name: w1, version: '0.1.0' } } } }, { bad: { call: embed, with: { text: x } } }] } } }]";
    let node = Node::new(&[body, "do: [{ w: { wait: PT1H } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "faulted").await;
    let again = node.runner.retry(run, Some("bad"), person()).await.unwrap().run.unwrap();
    node.until_status(again, "faulted").await;
    // What is tried again fails again, after it had asked a person and begun a child of its own.
    let children = node.count("SELECT count(*) FROM run WHERE workflow = 'test/w1'").await;
    let questions = node.count("SELECT count(*) FROM approval").await;
    assert_eq!((children, questions), (2, 2));
}
