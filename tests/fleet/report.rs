//! What goes up although there is much of it, and what is not told twice.

use cloud_control::store::{approvals, runs};
use serde_json::json;
use shared::{
    digest::Digest,
    id::RunId,
    label::Label,
    time::Timestamp,
    wire::v1::{PendingApproval, QUESTION_BYTES_MAX, RunSummary},
};

use crate::site::{Cloud, Node, question_about, until};

fn question(number: u32, bytes: usize) -> PendingApproval {
    let at = Timestamp::from_millis(1_700_000_000_000 + i64::from(number));
    question_about(at, json!("x".repeat(bytes)))
}

#[tokio::test]
async fn a_question_too_large_and_many_large_ones_do_not_cut_the_node_off() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    node.link_is_up().await;
    let mut asked = vec![question(0, QUESTION_BYTES_MAX)];
    asked.extend((1..60).map(|number| question(number, 200_000)));
    node.questions.send_replace(asked.clone());
    node.log(&["asked"]).await;
    let open = async || cloud.control().read("look", |c| approvals::list(c, true, 500)).await.expect("readable");
    let all = until("all questions arrive", async || Some(open().await).filter(|open| open.len() == 60)).await;
    let large = all.last().expect("the oldest").question.clone();
    assert_eq!((large.approval, large.shown, large.proposal), (asked[0].approval, asked[0].shown, None));
    assert!(large.title.ends_with("answer it on the node)"), "{}", large.title);
    assert!(all.iter().rev().zip(&asked).skip(1).all(|(known, asked)| known.question == *asked), "whole");

    asked.remove(1);
    node.questions.send_replace(asked);
    node.log(&["answered on the node"]).await;
    until("the one that is gone is closed, and no other", async || (open().await.len() == 59).then_some(())).await;
    assert!(node.handles.link.borrow().is_up());
}

fn run(number: i64) -> RunSummary {
    let at = Timestamp::from_millis(1_700_000_000_000 + number);
    RunSummary {
        run: RunId::derive(at, b"r"),
        workflow: "plant/explain".to_owned(),
        version: "1.0.0".to_owned(),
        bundle: Digest::of(b"b"),
        status: "completed".to_owned(),
        task: None,
        note: None,
        subject: None,
        label: Label::default(),
        started: at,
        updated: at,
        ended: Some(at),
    }
}

async fn known(cloud: &Cloud, expected: &[RunId]) {
    until("the runs are shown", async || {
        let runs = cloud.control().read("look", |c| runs::list(c, &runs::Filter::default())).await.expect("readable");
        let found: Vec<_> = runs.into_iter().map(|run| run.summary.run).collect();
        (found == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn runs_are_not_told_again_after_a_break_of_the_link_unless_the_control_plane_went_back() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    node.link_is_up().await;
    let [first, second, third] = [run(1), run(2), run(3)];
    node.runs.send_replace(vec![first.clone()]);
    node.log(&["first"]).await;
    known(&cloud, &[first.run]).await;
    until("the ledger is there", async || {
        let standing = node.store.read("look", edge_agent::sync::standing).await.expect("readable");
        (standing.shipped == 1).then_some(())
    })
    .await;

    let cloud = cloud.restarted("DELETE FROM runs").await;
    node.runs.send_replace(vec![first.clone(), second.clone()]);
    node.log(&["second"]).await;
    known(&cloud, &[second.run]).await;

    let cloud = cloud.restarted("DELETE FROM runs; DELETE FROM ledger; DELETE FROM heads").await;
    node.runs.send_replace(vec![first.clone(), second.clone(), third.clone()]);
    known(&cloud, &[third.run, second.run, first.run]).await;
}
