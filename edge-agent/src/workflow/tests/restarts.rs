//! Runs across the runner's end and beginning: nothing is lost, nothing is remembered twice.

use super::*;

#[tokio::test]
async fn an_effect_under_way_is_asked_again_with_the_same_key_and_recorded_once() {
    let node = Node::new(&["do: [{ a: { call: http, with: { method: get, endpoint: 'http://h/' } } }]"]).await;
    node.script.set_down(true);
    let run = node.start(json!({})).await;
    let asked = || Arc::clone(&node.script);
    let script = asked();
    node.until(move |_| (!script.keys().is_empty()).then_some(())).await;
    let node = node.reopen().await;
    node.output(run).await;
    assert_eq!(node.script.keys(), ["/do/0/a"], "and again after the restart");
    assert_eq!((node.facts("route-chosen").await, node.facts("task-ended").await), (1, 1));
}

#[tokio::test]
async fn a_run_that_was_only_written_down_begins_after_the_restart() {
    let node = Node::new(&["do: [{ a: { set: { x: '${ .k }' } } }]"]).await;
    let done = node.start(json!({"k": 1})).await;
    node.output(done).await;
    let copy = RunId::derive(clock::now(), b"copy");
    let pending = move |c: &rusqlite::Connection| {
        let sql = "INSERT INTO run (id, workflow, version, definition, bundle, trigger, input, label, status, created_at, \
                   changed_at) SELECT ?1, workflow, version, definition, bundle, trigger, input, label, 'pending', 1, 1 FROM run";
        c.execute(sql, [copy.to_string()]).unwrap();
    };
    let node = node.reopen_with(pending).await;
    assert_eq!(node.output(copy).await, json!({"x": 1}));
}

#[tokio::test]
async fn a_wait_ends_though_the_node_was_down_when_it_should() {
    let node = Node::new(&["do: [{ w: { wait: PT0.2S } }, { s: { set: { ok: true } } }]"]).await;
    let run = node.start(json!({})).await;
    node.until_status(run, "waiting").await;
    let node = node.reopen().await;
    assert_eq!(node.output(run).await, json!({"ok": true}));
}

#[tokio::test]
async fn a_parked_effect_waits_durably_and_a_nudge_asks_it_again() {
    let node = Node::new(&["do: [{ a: { call: infer, with: { prompt: p } } }]"]).await;
    node.script.set_down(true);
    let run = node.start(json!({})).await;
    let parked = node.until_status(run, "parked").await;
    assert_eq!(parked.task.as_deref(), Some("/do/0/a"));
    let node = node.reopen().await;
    node.script.set_down(true);
    node.runner.nudge();
    let script = Arc::clone(&node.script);
    node.until(move |_| (script.keys().len() == 1).then_some(())).await;
    let script = Arc::clone(&node.script);
    script.set_down(false);
    node.until(move |c| {
        let open: i64 = c.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap();
        (open > 0).then_some(())
    })
    .await;
    let nudged = async {
        while runs_status(&node, run).await != "completed" {
            node.runner.nudge();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, nudged).await.unwrap();
    assert_eq!(node.facts("route-chosen").await, 2, "once when it was parked, once when it was done");
}

#[tokio::test]
async fn what_a_parked_effect_sent_is_told_each_time_and_why_it_is_parked_once() {
    let node = Node::new(&["do: [{ a: { call: infer, with: { prompt: p } } }]"]).await;
    node.script.set_down(true);
    let run = node.start(json!({})).await;
    node.until_status(run, "parked").await;
    let again = async {
        while node.facts("model-called").await < 3 {
            node.runner.nudge();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(node.facts("route-chosen").await, 1);
}

async fn runs_status(node: &Node, run: RunId) -> String {
    node.until(move |c| runs::one(c, run).unwrap()).await.status
}

#[tokio::test]
async fn a_scheduled_start_is_made_once_and_caught_up_with_once() {
    let node =
        Node::new(&["schedule: { every: PT1H }\ndo: [{ a: { set: { at: '${ $workflow.input | length }' } } }]"]).await;
    let started = |node: &Node| {
        let store = node.store.clone();
        async move { store.read("count", |c| Ok(runs::counts(c).unwrap())).await.unwrap() }
    };
    assert_eq!(started(&node).await, []);
    // Five intervals pass while the node is down.
    let five_hours = i64::try_from(Duration::from_secs(5 * 3_600 + 60).as_micros()).unwrap();
    let node = node
        .reopen_with(move |c| {
            c.execute("UPDATE schedule SET next_at = next_at - ?1", [five_hours]).unwrap();
        })
        .await;
    node.until(|c| (runs::counts(c).unwrap() == [("completed".to_owned(), 1)]).then_some(())).await;
    let next: i64 = node.until(|c| c.query_row("SELECT next_at FROM schedule", [], |row| row.get(0)).ok()).await;
    assert!(next > clock::now().as_micros(), "the next start lies ahead");
    let node = node.reopen().await;
    assert_eq!(started(&node).await, [("completed".to_owned(), 1)]);
    let same: i64 = node.until(|c| c.query_row("SELECT next_at FROM schedule", [], |row| row.get(0)).ok()).await;
    assert_eq!(same, next, "a restart does not move it");
}

#[tokio::test]
async fn a_run_restarted_at_every_moment_ends_as_an_undisturbed_one() {
    let body = "do: [{ l: { for: { in: '${ [1, 2, 3, 4, 5] }' }, do: [{ a: { call: http, with: { method: get, \
        endpoint: 'http://h/', body: '${ $item }' } } }, { w: { wait: PT0.02S } }] } }, { s: { set: { ok: true } } }]";
    let mut node = Node::new(&[body]).await;
    let run = node.start(json!({})).await;
    for _ in 0..8 {
        node = node.reopen().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(node.output(run).await, json!({"ok": true}));
    assert_eq!((node.facts("route-chosen").await, node.facts("run-ended").await), (5, 1));
    assert_eq!(node.facts("task-ended").await, 12);
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_given_up_and_the_others_go_on() {
    let node = Node::new(&["do: [{ w: { wait: PT0.1S } }, { s: { set: { ok: true } } }]"]).await;
    let (damaged, sound) = (node.start(json!({})).await, node.start(json!({})).await);
    node.until_status(damaged, "waiting").await;
    let damage = move |c: &rusqlite::Connection| {
        c.execute("UPDATE run_step SET records = '[{}]' WHERE run = ?1", [damaged.to_string()]).unwrap();
    };
    let node = node.reopen_with(damage).await;
    assert_eq!(node.output(sound).await, json!({"ok": true}));
    let summary = node.until_status(damaged, "faulted").await;
    assert!(summary.note.is_some_and(|note| note.contains("load a run")));
}

#[tokio::test]
async fn who_waits_for_a_run_that_is_given_up_hears_of_it() {
    let run = |name: &str| format!("run: {{ workflow: {{ namespace: test, name: {name}, version: '0.1.0' }} }}");
    let parent = format!(
        "do: [{{ t: {{ try: [{{ c: {{ {} }} }}], catch: {{ do: [{{ h: {{ set: {{ caught: '${{ $error.type }}' }} }} }}] }} }} }}]",
        run("w1")
    );
    let middle = format!(
        "schedule: {{ after: PT1H }}\ndo: [{{ f: {{ fork: {{ branches: [{{ c: {{ {} }} }}, \
         {{ q: {{ call: approve, with: {{ role: lead, title: t, proposal: 1 }} }} }}] }} }} }}]",
        run("w2")
    );
    let kind = "io.serverlessworkflow.workflow.faulted.v1";
    let witness =
        format!("schedule: {{ on: {{ one: {{ with: {{ type: {kind} }} }} }} }}\ndo: [{{ s: {{ set: {{ a: 1 }} }} }}]");
    let node = Node::new(&[&parent, &middle, "do: [{ w: { wait: PT1H } }]", &witness]).await;
    let top = node.start(json!({})).await;
    let question = node.until_asked().await;
    let lowest = node.until_one("test/w2", "waiting").await;
    let damage = |c: &rusqlite::Connection| {
        c.execute(
            "UPDATE run_step SET records = '[{}]' WHERE run = (SELECT id FROM run WHERE workflow = 'test/w1')",
            [],
        )
        .unwrap();
    };
    let node = node.reopen_with(damage).await;
    // Whatever happens to it next finds the damage.
    node.runner.decide_approval(approvals::answer(&question, Verdict::Rejected)).await.unwrap();
    let given_up = node.until_one("test/w1", "faulted").await;
    assert_eq!(node.output(top).await, json!({"caught": "https://serverlessworkflow.io/spec/1.0.0/errors/runtime"}));
    node.until_status(lowest, "cancelled").await;
    let witnessed = node.until_one("test/w3", "completed").await;
    let told = node.until(move |c| runs::detail(c, witnessed).unwrap()).await.input;
    let name = format!("w1-{}.test", given_up.to_string().to_lowercase());
    assert!(told.to_string().contains(&name), "{told}");
    let next = "SELECT next_at > 3500000000 + (SELECT ended_at FROM run WHERE workflow = 'test/w1') FROM schedule";
    assert_eq!(node.count(next).await, 1);
    let twice = node.runner.steer(given_up, Act::Cancel, person()).await.unwrap_err().to_string();
    assert!(twice.contains("cannot be read"), "{twice}");
}

#[tokio::test]
async fn the_questions_of_a_run_that_is_given_up_are_closed() {
    let node = Node::new(&["do: [{ q: { call: approve, with: { role: lead, title: t, proposal: 1 } } }]"]).await;
    let run = node.start(json!({})).await;
    let question = node.until_asked().await;
    let damage = |c: &rusqlite::Connection| {
        c.execute("UPDATE run_step SET records = '[{}]'", []).unwrap();
    };
    let node = node.reopen_with(damage).await;
    let refused = node.runner.steer(run, Act::Suspend, person()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Unreadable(_)), "{refused}");
    node.until_status(run, "faulted").await;
    assert_eq!(node.count("SELECT count(*) FROM approval WHERE status = 'expired'").await, 1);
    let late = node.runner.decide_approval(approvals::answer(&question, Verdict::Approved)).await.unwrap_err();
    assert!(matches!(late, ApprovalError::Expired(_)), "{late}");
    assert_eq!((node.facts("approval-decided").await, node.facts("run-ended").await), (1, 1));
}

#[tokio::test]
async fn old_runs_are_forgotten_and_open_ones_are_not() {
    let node =
        Node::new(&["do: [{ a: { if: .wait, call: approve, with: { role: r, title: t, proposal: 1 } } }]"]).await;
    let (old, new, open) =
        (node.start(json!({})).await, node.start(json!({})).await, node.start(json!({"wait": 1})).await);
    node.output(old).await;
    node.output(new).await;
    node.until_status(open, "waiting").await;
    let ended = move |c: &rusqlite::Connection| {
        c.execute("UPDATE run SET ended_at = 1_000 WHERE id = ?1", [old.to_string()]).unwrap();
        c.execute("UPDATE run SET ended_at = 3_000 WHERE id = ?1", [new.to_string()]).unwrap();
    };
    let node = node.reopen_with(ended).await;
    // An hour after the first ended the second had not; then the node was on for three months.
    assert_eq!(swept(&node, 2_000, Duration::from_secs(3_600)).await, 0);
    assert_eq!(swept(&node, 4_000, Duration::from_secs(90 * 24 * 3_600)).await, 1);
    let left = node.until(|c| Some(runs::list(c, &runs::Filter::default()).unwrap())).await;
    let mut left: Vec<_> = left.into_iter().map(|summary| summary.run).collect();
    left.sort();
    let mut expected = vec![new, open];
    expected.sort();
    assert_eq!(left, expected);
}

/// Forgets what is old when the runs' clock says this and the node was on for so long.
async fn swept(node: &Node, micros: i64, on: Duration) -> usize {
    let now = shared::time::Timestamp::from_micros(micros);
    let sweep = move |tx: &mut crate::store::Transaction<'_>| Ok(keep::sweep(tx.connection(), now, on)?);
    node.store.write("forget old runs", sweep).await.unwrap()
}

#[tokio::test]
async fn a_clock_set_years_ahead_forgets_no_run_and_an_event_that_comes_again_starts_none() {
    let node =
        Node::new(&["schedule: { 'on': { one: { with: { type: go } } } }\ndo: [{ a: { set: { x: 1 } } }]"]).await;
    node.deliver("1", "go", json!({})).await;
    node.until_one("test/w0", "completed").await;
    let ten_years = 10 * 365 * 24 * 3_600 * 1_000_000;
    let hour = Duration::from_secs(3_600);
    for hours in 0..3 {
        assert_eq!(swept(&node, clock::now().as_micros() + ten_years + hours, hour).await, 0);
    }
    // Nobody but the sweep saw that clock: what ends after the next start is not older for it.
    let node = node.reopen().await;
    node.deliver("1", "go", json!({})).await;
    node.deliver("2", "go", json!({})).await;
    node.until(|c| (runs::counts(c).unwrap() == [("completed".to_owned(), 2)]).then_some(())).await;
    assert_eq!(swept(&node, clock::now().as_micros(), Duration::from_secs(89 * 24 * 3_600)).await, 0);
    assert_eq!(node.count("SELECT count(*) FROM run").await, 2);
}
