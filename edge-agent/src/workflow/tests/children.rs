//! Runs of runs: started once, answered once, ended with the parent, and not without end.

use super::*;

fn run_w1(more: &str) -> String {
    format!(
        "do: [{{ c: {{ run: {{ {more} workflow: {{ namespace: test, name: w1, version: '0.1.0', input: {{ n: '${{ .n }}' }} }} }} }} }}]"
    )
}

#[tokio::test]
async fn the_end_of_a_child_is_the_output_of_the_task() {
    let node = Node::new(&[&run_w1(""), "do: [{ a: { set: { double: '${ .n * 2 }' } } }]"]).await;
    let run = node.start(json!({"n": 21})).await;
    assert_eq!(node.output(run).await, json!({"double": 42}));
    let child = node.until_one("test/w1", "completed").await;
    let trigger = node.until(move |c| runs::detail(c, child).unwrap()).await.trigger;
    assert_eq!(trigger, format!("run {run}"));
}

#[tokio::test]
async fn a_child_outlives_the_node_and_answers_after_the_restart() {
    let child = "do: [{ ask: { call: approve, with: { role: lead, title: t, proposal: 1 } } }]";
    let node = Node::new(&[&run_w1(""), child]).await;
    let run = node.start(json!({"n": 1})).await;
    let question = node.until_asked().await;
    node.until_status(run, "waiting").await;
    let node = node.reopen().await.reopen().await;
    node.runner.decide_approval(approvals::answer(&question, Verdict::Approved)).await.unwrap();
    assert_eq!(node.output(run).await["by"], json!("ada"));
    assert_eq!(node.count("SELECT count(*) FROM run").await, 2, "the child is started once");
}

#[tokio::test]
async fn the_error_of_a_child_comes_to_the_parent() {
    let catching = "do: [{ t: { try: [{ c: { run: { workflow: { namespace: test, name: w1, version: latest } } } }], \
        catch: { do: [{ h: { set: { type: '${ $error.type }', at: '${ $error.instance }' } } }] } } }]";
    let node = Node::new(&[catching, "do: [{ r: { raise: { error: { type: 'https://e/x', status: 418 } } } }]"]).await;
    let run = node.start(json!({})).await;
    assert_eq!(node.output(run).await, json!({"type": "https://e/x", "at": "/do/0/t/try/0/c"}));
    let unknown =
        Node::new(&["do: [{ c: { run: { workflow: { namespace: test, name: none, version: '1.0.0' } } } }]"]).await;
    let run = unknown.start(json!({})).await;
    let note = unknown.until_status(run, "faulted").await.note.unwrap();
    assert!(note.contains("no workflow test/none:1.0.0") && note.contains("test/w0:0.1.0"), "{note}");
}

#[tokio::test]
async fn what_is_not_waited_for_goes_on_alone() {
    let child = "do: [{ ask: { call: approve, with: { role: lead, title: t, proposal: 1 } } }]";
    let node = Node::new(&[&run_w1("await: false,"), child]).await;
    let run = node.start(json!({"n": 1})).await;
    assert_eq!(node.output(run).await, json!({"n": 1}));
    node.until_asked().await;
}

#[tokio::test]
async fn a_cancelled_parent_takes_its_children_with_it() {
    let child = "do: [{ ask: { call: approve, with: { role: lead, title: t, proposal: 1 } } }]";
    let node = Node::new(&[&run_w1(""), child]).await;
    let run = node.start(json!({"n": 1})).await;
    node.until_asked().await;
    node.runner.steer(run, Act::Cancel, person()).await.unwrap();
    node.until_status(run, "cancelled").await;
    node.until_one("test/w1", "cancelled").await;
    // A kill between the two: what is wanted stands in the store.
    let other = node.start(json!({"n": 2})).await;
    node.until_asked().await;
    let wanted = move |c: &rusqlite::Connection| {
        c.execute("UPDATE run SET wanted = 'cancel' WHERE parent = ?1", [other.to_string()]).unwrap();
    };
    let node = node.reopen_with(wanted).await;
    assert_eq!(node.until_status(other, "faulted").await.note.map(|note| note.contains("was cancelled")), Some(true));
}

#[tokio::test]
async fn workflows_that_run_each_other_without_end_are_stopped() {
    let node =
        Node::new(&["do: [{ c: { run: { workflow: { namespace: test, name: w0, version: '0.1.0' } } } }]"]).await;
    let run = node.start(json!({})).await;
    let note = node.until_status(run, "faulted").await.note.unwrap();
    assert!(note.contains("more than 16 deep"), "{note}");
    assert_eq!(node.count("SELECT count(*) FROM run").await, 17);
}

#[tokio::test]
async fn what_a_child_heard_marks_the_parent_that_its_error_comes_to() {
    let catching = "do: [{ t: { try: [{ c: { run: { workflow: { namespace: test, name: w1, version: latest } } } }], \
        catch: { do: [{ h: { set: { caught: true } } }] } } }]";
    let child = "do: [{ l: { listen: { to: { one: { with: { type: t } } } } } }, \
        { r: { raise: { error: { type: 'https://e/x', status: 418, detail: '${ .[0] }' } } } }]";
    let node = Node::new(&[catching, child]).await;
    let run = node.start(json!({})).await;
    node.until_one("test/w1", "waiting").await;
    let event = Event::new("1", "https://here", "t", json!("what nobody may know"));
    let secret = Label { class: DataClass::Restricted, ..Label::default() };
    node.runner.deliver(vec![(event, secret.clone())]).await.unwrap();
    node.output(run).await;
    let label: String = node
        .until(move |c| c.query_row("SELECT label FROM run WHERE id = ?1", [run.to_string()], |row| row.get(0)).ok())
        .await;
    assert_eq!(serde_json::from_str::<Label>(&label).unwrap(), secret);
}
