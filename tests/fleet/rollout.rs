//! Bundles down to nodes, questions up and answers back.

use std::time::Duration;

use cloud_control::{
    control::{PushRequest, RollBackRequest},
    fleet::rollout::{Stage, stage},
    store::{approvals, bundles, nodes, runs},
};
use edge_agent::sync::{self, Desired};
use serde_json::json;
use shared::{
    digest::Digest,
    id::RunId,
    label::Label,
    ledger::entry::Verdict,
    wire::v1::{PendingApproval, RunSummary},
};

use crate::site::{Cloud, NewGroup, Node, name, question_about, until};

async fn desired(node: &mut Node) -> Desired {
    let next = node.handles.desired.recv();
    tokio::time::timeout(Duration::from_secs(30), next).await.expect("a bundle in time").expect("syncing")
}

async fn stage_of(cloud: &Cloud, node: &str) -> Stage {
    let name = name(node);
    let node = cloud.control().read("look", move |c| nodes::get(c, &name)).await.expect("readable").expect("enrolled");
    stage(&node)
}

#[tokio::test]
async fn a_pushed_bundle_is_applied_reported_and_rolled_back_when_it_fails() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    assert_eq!(stage_of(&cloud, "basel").await, Stage::Unassigned);
    let long = "The press has a bearing.\n".repeat(20_000);
    let first = cloud.push(&[("feeds.yaml", "feeds: []\n"), ("documents/manuals/press.md", &long)]).await;
    let Desired { digest, version, dir, answer } = desired(&mut node).await;
    assert_eq!((digest, version), (first.digest, 1));
    assert_eq!(std::fs::read_to_string(dir.join("documents/manuals/press.md")).expect("there"), long);
    assert_eq!(sync::verify_bundle(node.folder.path(), digest).expect("as signed"), dir);
    answer.send(Ok(())).expect("waited for");
    until("the node runs it", async || (stage_of(&cloud, "basel").await == Stage::Current).then_some(())).await;

    let second = cloud.push(&[("feeds.yaml", "feeds: [] # newer\n"), ("documents/manuals/press.md", &long)]).await;
    let bad = desired(&mut node).await;
    assert_eq!((bad.digest, bad.version), (second.digest, 2));
    bad.answer.send(Err("feeds.yaml:1: expected a feed".to_owned())).expect("waited for");
    let reason = until("the node says why not", async || match stage_of(&cloud, "basel").await {
        Stage::Rejected(reason) => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason, "feeds.yaml:1: expected a feed");
    let standing = node.store.read("look", sync::standing).await.expect("readable");
    assert_eq!(standing.applied.expect("the first").digest, first.digest);
    let facts = node.store.read("look", |c| {
        let mut rows = c.prepare("SELECT fact FROM ledger ORDER BY seq")?;
        rows.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(facts.await.expect("readable"), ["bundle-applied", "bundle-rolled-back"]);

    let refused = [("feeds.yaml", "feeds: [] # newer\n"), ("documents/manuals/press.md", long.as_str())];
    let same = cloud.push(&refused).await;
    assert_eq!((same.digest, same.unchanged, same.rejected_by), (second.digest, true, vec![name("basel")]));
    let request = PushRequest { again: true, ..cloud.request(&refused).await };
    let again = cloud.control().push(&cloud.admin, request).await.expect("pushed");
    assert_eq!((again.version, again.unchanged), (3, false));
    let tried = desired(&mut node).await;
    assert_eq!(tried.digest, again.digest);
    tried.answer.send(Ok(())).expect("waited for");
    until("the node runs it", async || (stage_of(&cloud, "basel").await == Stage::Current).then_some(())).await;

    let third = cloud.push(&[("feeds.yaml", "feeds: []\n")]).await;
    desired(&mut node).await.answer.send(Ok(())).expect("waited for");
    until("the node runs it", async || (stage_of(&cloud, "basel").await == Stage::Current).then_some(())).await;
    let back = RollBackRequest { group: "plant".to_owned(), to: first.digest };
    cloud.control().roll_back(&cloud.admin, back).await.expect("rolled back");
    let old = desired(&mut node).await;
    assert_eq!(old.digest, first.digest);
    old.answer.send(Ok(())).expect("waited for");
    until("the node runs it", async || (stage_of(&cloud, "basel").await == Stage::Current).then_some(())).await;
    let standing = node.store.read("look", sync::standing).await.expect("readable");
    assert_eq!(standing.floor.expect("a floor").version, third.version, "the floor stays");
}

async fn refused(cloud: &Cloud, group: &str, path: &str, content: &str) -> String {
    let pushed = cloud.try_push(group, NewGroup::Refused, &[(path, content)]).await;
    pushed.expect_err("refused").refusal().message
}

#[tokio::test]
async fn what_every_node_would_refuse_is_not_signed() {
    let cloud = Cloud::start().await;
    let feed = "feeds:\n  - name: t\n    topic: a/+\n    decode: { device: 'topic[1]', channel: { constant: c } }\n";
    cloud.push(&[("feeds.yaml", feed)]).await;
    let told = refused(&cloud, "plant", "feeds.yaml", &feed.replace("topic:", "topik:")).await;
    assert!(told.starts_with("feeds.yaml:3:5: feeds[0].topik: unknown field `topik`, expected one of"), "{told}");
    let told = refused(&cloud, "plant", "documents/m/a.md", &"x".repeat((8 << 20) + 1)).await;
    assert_eq!(told, "documents/m/a.md: has 8388609 bytes: expected at most 8388608");
    let told = refused(&cloud, "plnat", "feeds.yaml", feed).await;
    assert!(told.starts_with("there is no group plnat: there is plant."), "{told}");
    let bundles = cloud.control().read("look", bundles::list).await.expect("readable");
    assert_eq!(bundles.len(), 1, "nothing of it was kept");
}

#[tokio::test]
async fn a_changed_file_of_a_bundle_is_found() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    cloud.push(&[("feeds.yaml", "feeds: []\n")]).await;
    let Desired { digest, dir, .. } = desired(&mut node).await;
    std::fs::write(dir.join("feeds.yaml"), "feeds: [evil]\n").expect("written");
    let error = sync::verify_bundle(node.folder.path(), digest).expect_err("changed").to_string();
    assert!(error.contains("feeds.yaml is not what the manifest says"), "{error}");
}

#[tokio::test]
async fn a_lost_bundle_is_no_longer_reported_and_is_brought_anew() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    cloud.push(&[("feeds.yaml", "feeds: []\n"), ("documents/m/a.md", "a")]).await;
    let Desired { digest, dir, answer, .. } = desired(&mut node).await;
    answer.send(Ok(())).expect("waited for");
    until("the node runs it", async || (stage_of(&cloud, "basel").await == Stage::Current).then_some(())).await;
    let (folder, identity, store) = node.stop().await;
    std::fs::write(dir.join("feeds.yaml"), "rot").expect("written");
    let applied = store.read("look", sync::standing).await.expect("readable").applied.expect("applied");
    sync::bundle_lost(&store, applied, "feeds.yaml is rotten".to_owned(), None).await.expect("written");
    drop(store);
    let mut node = Node::start(folder, identity);
    let again = desired(&mut node).await;
    assert_eq!(again.digest, digest);
    assert_eq!(sync::verify_bundle(node.folder.path(), digest).expect("whole again"), dir);
    until("the fleet knows", async || (stage_of(&cloud, "basel").await == Stage::Pending).then_some(())).await;
    again.answer.send(Ok(())).expect("waited for");
    until("the node runs it", async || (stage_of(&cloud, "basel").await == Stage::Current).then_some(())).await;
    assert_eq!(node.store.read("look", sync::standing).await.expect("readable").lost, None);
}

#[tokio::test]
async fn a_download_goes_on_where_it_ended_and_a_damaged_part_is_fetched_anew() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    let (good, bad) = ("a manual ".repeat(50_000), "another one ".repeat(50_000));
    let parts = node.folder.path().join("bundles/parts");
    std::fs::create_dir_all(&parts).expect("made");
    let part = |text: &str| parts.join(Digest::of(text.as_bytes()).to_string().replace("sha256:", ""));
    std::fs::write(part(&good), &good.as_bytes()[..200_000]).expect("written");
    std::fs::write(part(&bad), vec![0; 200_000]).expect("written");
    cloud
        .push(&[("feeds.yaml", "feeds: []\n"), ("documents/manuals/a.md", &good), ("documents/manuals/b.md", &bad)])
        .await;
    let Desired { digest, dir, .. } = desired(&mut node).await;
    assert_eq!(sync::verify_bundle(node.folder.path(), digest).expect("as signed"), dir);
}

fn question() -> PendingApproval {
    question_about(edge_agent::clock::now(), json!({"stop": "press-1", "because": "bearing"}))
}

#[tokio::test]
async fn a_question_travels_up_and_its_answer_back_once() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    node.link_is_up().await;
    let asked = question();
    node.questions.send_replace(vec![asked.clone()]);
    node.log(&["asked"]).await;
    let control = cloud.control();
    let open = until("the question arrives", async || {
        control.read("look", |c| approvals::list(c, true, 10)).await.expect("readable").pop()
    })
    .await;
    assert_eq!(open.question, asked);
    let secret = control.create_operator(&cloud.admin, "ada", vec!["maintenance".to_owned()]).await.expect("made");
    let ada = control.login(&secret).await.expect("readable").expect("known");
    let other = Digest::of(b"something else");
    let refused = control.decide(&ada, asked.approval, other, Verdict::Approved, None).await.expect_err("not shown");
    assert_eq!(refused.refusal().code, "shown-differs");
    control.decide(&ada, asked.approval, asked.shown, Verdict::Approved, None).await.expect("decided");
    control.decide(&ada, asked.approval, asked.shown, Verdict::Approved, None).await.expect("a repeat is no harm");
    let answer = tokio::time::timeout(Duration::from_secs(30), node.handles.answers.recv());
    let answer = answer.await.expect("in time").expect("syncing");
    assert_eq!((answer.answer.by.as_str(), answer.answer.verdict), ("ada", Verdict::Approved));
    assert_eq!(answer.answer.shown, asked.shown);
    node.questions.send_replace(Vec::new());
    answer.done.send(Ok(())).expect("waited for");
    until("the outcome is known", async || {
        let known = control.read("look", move |c| approvals::get(c, asked.approval)).await.expect("readable");
        (known.expect("kept").state() == approvals::State::Delivered).then_some(())
    })
    .await;
    assert!(node.handles.answers.try_recv().is_err(), "the answer came once");
}

#[tokio::test]
async fn runs_are_reported_as_they_change() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    node.link_is_up().await;
    let at = edge_agent::clock::now();
    let run = |status: &str, after: i64| RunSummary {
        run: RunId::derive(at, b"r"),
        workflow: "plant/explain".to_owned(),
        version: "1.0.0".to_owned(),
        bundle: Digest::of(b"b"),
        status: status.to_owned(),
        task: None,
        note: None,
        subject: Some("press-1/temperature".to_owned()),
        label: Label::default(),
        started: at,
        updated: at.plus_micros(after),
        ended: None,
    };
    for (status, after) in [("running", 1), ("completed", 2)] {
        node.runs.send_replace(vec![run(status, after)]);
        node.log(&[status]).await;
        until("the run is shown", async || {
            let runs =
                cloud.control().read("look", |c| runs::list(c, &runs::Filter::default())).await.expect("readable");
            (runs.first()?.summary.status == status).then_some(())
        })
        .await;
    }
}
