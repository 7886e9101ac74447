//! How runs begin, and what of them is remembered.

use super::*;

const ON_FINDING: &str = "schedule: { 'on': { one: { with: { type: io.skerry.finding.v1, \
    data: '${ .severity == \"critical\" }' } } } }\ninput: { from: '${ .[0] }' }\n\
    do: [{ tell: { call: publish, with: { topic: t, payload: '${ .device }' } } }]";

#[tokio::test]
async fn a_finding_starts_one_run_however_often_it_is_delivered() {
    let node = Node::new(&[ON_FINDING]).await;
    for _ in 0..3 {
        node.runner.deliver(vec![(finding("a"), Label::default()), (finding("a"), Label::default())]).await.unwrap();
    }
    let run = edge_core::trigger::run_of_event("test/w0", &finding("a"));
    assert_eq!(node.output(run).await["with"], json!({"topic": "t", "payload": "pump-7"}));
    let summary = node.until_status(run, "completed").await;
    assert_eq!(summary.subject.as_deref(), Some("pump-7/vibration"));
    let node = node.reopen().await;
    node.runner.deliver(vec![(finding("a"), Label::default())]).await.unwrap();
    let all = node.until(|c| Some(runs::list(c, &runs::Filter::default()).unwrap())).await;
    assert_eq!(all.len(), 1);
    assert_eq!((node.facts("finding").await, node.facts("run-started").await), (1, 1));
    let found = node.until(|c| Some(runs::findings(c, 10).unwrap())).await;
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn events_that_fit_no_workflow_start_nothing() {
    let node = Node::new(&[ON_FINDING]).await;
    let mut mild = finding("b");
    mild.data = Some(json!({"severity": "warning"}));
    node.runner.deliver(vec![(mild, Label::default())]).await.unwrap();
    let counts = node.until(|c| Some(runs::counts(c).unwrap())).await;
    assert_eq!(counts, []);
    assert_eq!(node.facts("finding").await, 1, "it is a finding all the same");
}

#[tokio::test]
async fn many_events_become_as_many_runs() {
    let node = Node::new(&[ON_FINDING]).await;
    let events = (0..300).map(|n| (finding(&n.to_string()), Label::default())).collect();
    node.runner.deliver(events).await.unwrap();
    node.until(|c| (runs::counts(c).unwrap() == [("completed".to_owned(), 300)]).then_some(())).await;
    assert_eq!(node.script.keys().len(), 300);
}

#[tokio::test]
async fn calls_that_wait_for_hours_keep_nobody_from_a_place() {
    let waits = "do: [{ a: { call: asyncapi, with: { document: { endpoint: 'http://h/a' }, channel: c, \
        subscription: { consume: { amount: 1 } } } } }]";
    let node = Node::new(&[waits, "do: [{ a: { call: publish, with: { topic: t, payload: 1 } } }]"]).await;
    node.script.set_down(true);
    for _ in 0..places::LONG_MAX + 12 {
        node.start(json!({})).await;
    }
    let parked = "SELECT count(*) FROM outbox WHERE ask_again_at IS NOT NULL";
    node.until(|c| (c.query_row(parked, [], |row| row.get::<_, i64>(0)).unwrap() == 12).then_some(())).await;
    assert_eq!(node.script.keys().len(), places::LONG_MAX);
    assert_eq!(node.runner.inner.under_way(), 0, "none of them keeps a run from beginning");
    let quick = node.runner.start("test/w1", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    assert_eq!(node.output(quick).await["with"]["topic"], "t");
}

#[tokio::test]
async fn every_end_of_a_task_and_of_a_run_is_in_the_ledger() {
    let node = Node::new(&[
        "do: [{ a: { set: { x: 1 } } }, { b: { if: .x > 1, set: { y: 1 } } }, { c: { call: http, with: { method: get, endpoint: 'http://h/' } } }]",
    ])
    .await;
    let run = node.start(json!({})).await;
    node.output(run).await;
    assert_eq!((node.facts("run-started").await, node.facts("run-ended").await), (1, 1));
    assert_eq!((node.facts("task-ended").await, node.facts("route-chosen").await), (3, 1));
    let detail = node.until(move |c| runs::detail(c, run).unwrap()).await;
    let seen: Vec<_> = detail.tasks.iter().map(|task| (task.place.as_str(), format!("{:?}", task.status))).collect();
    let expected = [("/do/0/a", "Completed"), ("/do/1/b", "Skipped"), ("/do/2/c", "Completed")];
    assert_eq!(seen, expected.map(|(place, status)| (place, status.to_owned())));
}

#[tokio::test]
async fn the_ledger_keeps_digests_alone_of_what_is_confidential() {
    let node = Node::new(&["do: [{ a: { set: { secret: 'the recipe' } } }]"]).await;
    let label = Label { class: DataClass::Restricted, ..Label::default() };
    let run = node.runner.start("test/w0", json!({}), label, person()).await.unwrap().run.unwrap();
    node.output(run).await;
    let bodies = node
        .until(|c| {
            let mut all = c.prepare("SELECT CAST(body AS TEXT) FROM ledger").unwrap();
            let rows: Result<Vec<String>, _> = all.query_map([], |row| row.get(0)).unwrap().collect();
            rows.ok()
        })
        .await;
    assert!(bodies.iter().any(|body| body.contains("run-ended")));
    assert!(!bodies.iter().any(|body| body.contains("the recipe")), "{bodies:?}");
}

#[tokio::test]
async fn a_fault_is_told_with_its_error() {
    let node = Node::new(&[
        "do: [{ a: { call: embed, with: { text: x } } }]",
        "do: [{ a: { call: classify, with: { text: x, cases: c } } }]",
    ])
    .await;
    let run = node.start(json!({})).await;
    let summary = node.until_status(run, "faulted").await;
    assert!(summary.note.unwrap().contains("always"));
    assert_eq!(node.facts("effect-failed").await, 1);
    let broken = node.runner.start("test/w1", json!({}), Label::default(), person()).await.unwrap().run.unwrap();
    node.until_status(broken, "faulted").await;
}

#[tokio::test]
async fn an_emitted_event_starts_what_waits_for_it() {
    let node = Node::new(&[
        "do: [{ e: { emit: { event: { with: { type: t.done, data: { n: '${ .n }' } } } } } }]",
        "schedule: { 'on': { one: { with: { type: t.done } } } }\ndo: [{ a: { set: { got: '${ .[0].n }' } } }]",
    ])
    .await;
    node.start(json!({"n": 5})).await;
    let filter = runs::Filter {
        workflow: Some("test/w1".to_owned()),
        status: Some("completed".to_owned()),
        ..runs::Filter::default()
    };
    let second = node.until(move |c| runs::list(c, &filter).unwrap().pop()).await;
    assert_eq!(node.output(second.run).await, json!({"got": 5}));
    assert_eq!(node.facts("event-emitted").await, 1);
    let left: i64 = node.until(|c| c.query_row("SELECT count(*) FROM emitted", [], |row| row.get(0)).ok()).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn workflows_that_cannot_be_performed_are_refused_and_the_old_ones_stay() {
    let node = Node::new(&["do: [{ a: { set: { x: 1 } } }]"]).await;
    let bad = workflow(0, "do: [{ l: { call: a2a, with: { method: tasks/list } } }]");
    let refused = node.runner.set_workflows(Digest::of(b"next"), vec![bad]).await.unwrap_err();
    assert!(refused.to_string().contains("/do/0/l"), "{refused}");
    let twice = workflow(0, "do: [{ a: { set: { x: 2 } } }]");
    let same = vec![Arc::clone(&twice), twice];
    assert!(node.runner.set_workflows(Digest::of(b"next"), same).await.is_err());
    let run = node.start(json!({})).await;
    assert_eq!(node.output(run).await, json!({"x": 1}));
    let unknown = node.runner.start("test/none", json!({}), Label::default(), person()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no workflow test/none; there are test/w0");
}

#[tokio::test]
async fn a_run_keeps_the_version_that_it_began_with() {
    let node = Node::new(&[
        "do: [{ w: { call: approve, with: { role: lead, title: t, proposal: 1 } } }, { s: { set: { version: old } } }]",
    ])
    .await;
    let run = node.start(json!({})).await;
    let question = node.until_asked().await;
    let newer = workflow(0, "do: [{ s: { set: { version: new } } }]");
    let mut node = node;
    node.workflows = vec![newer];
    let node = node.reopen().await;
    let answer = approvals::answer(&question, Verdict::Approved);
    node.runner.decide_approval(answer).await.unwrap();
    assert_eq!(node.output(run).await, json!({"version": "old"}));
    let next = node.start(json!({})).await;
    assert_eq!(node.output(next).await, json!({"version": "new"}));
}

#[tokio::test]
async fn an_input_larger_than_a_run_may_carry_faults_the_run_before_it_does_anything() {
    let node = Node::new(&["schedule: { 'on': { one: { with: { type: big } } } }\n\
        do: [{ a: { call: http, with: { method: get, endpoint: 'http://h/' } } }]"])
    .await;
    let large = json!({"text": "x".repeat(1_100_000)});
    let by_hand = node.start(large.clone()).await;
    node.until_status(by_hand, "faulted").await;
    node.deliver("1", "big", large).await;
    assert_eq!(node.count("SELECT count(*) FROM run").await, 2);
    let faults = node.until(|c| {
        let filter = runs::Filter { status: Some("faulted".to_owned()), ..runs::Filter::default() };
        let found = runs::list(c, &filter).unwrap();
        let error = |run: RunSummary| runs::detail(c, run.run).unwrap().and_then(|detail| detail.error);
        (found.len() == 2).then(|| found.into_iter().filter_map(error).collect::<Vec<_>>())
    });
    let statuses: Vec<Value> = faults.await.iter().map(|error| error["status"].clone()).collect();
    assert_eq!(statuses, [413, 413]);
    assert_eq!(node.script.keys(), [""; 0], "nothing was asked for");
}
