//! Ledgers up: pulled, verified, countersigned; and what is refused.

use cloud_control::{
    control::{RollBackRequest, Verification},
    store::{
        ledger::{self, Alarm, Filter},
        nodes,
    },
};
use edge_agent::{store::Store, sync};

use crate::site::{Cloud, Node, log, name, until};

async fn archived(cloud: &Cloud, node: &str) -> u64 {
    let name = name(node);
    let node = cloud.control().read("look", move |c| nodes::get(c, &name)).await.expect("readable").expect("enrolled");
    node.archived
}

async fn archive_reaches(cloud: &Cloud, size: u64) {
    until("the archive catches up", async || (archived(cloud, "basel").await == size).then_some(())).await;
}

async fn verified(cloud: &Cloud) -> Verification {
    cloud.control().verify_ledger(&name("basel")).await.expect("readable")
}

async fn alarm(cloud: &Cloud) -> Alarm {
    until("the alarm", async || cloud.control().read("look", |c| ledger::alarms(c, 10)).await.expect("readable").pop())
        .await
}

#[tokio::test]
async fn a_ledger_is_archived_in_order_and_both_sides_sign_its_head() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    node.link_is_up().await;
    for round in 0..3 {
        node.log(&["a", "b", "c"]).await;
        archive_reaches(&cloud, (round + 1) * 3).await;
    }
    let verification = verified(&cloud).await;
    assert_eq!((verification.entries, verification.fault), (9, None));
    let head = until("the node has the countersigned head", async || {
        let standing = node.store.read("look", sync::standing).await.expect("readable");
        standing.countersigned.filter(|_| standing.shipped == 9)
    })
    .await;
    assert_eq!(Some(&head), verification.head.as_ref());
    assert!(head.cosigned_by(cloud.control().keys().witness().public()).is_ok());
    let entries = cloud.control().read("look", |c| ledger::list(c, &Filter::default())).await.expect("readable");
    assert_eq!(entries.len(), 9);
    assert_eq!(entries[0].fact, "agent-started");
}

#[tokio::test]
async fn what_was_logged_while_the_link_was_down_catches_up_without_a_gap() {
    let cloud = Cloud::start().await;
    let mut node = Node::join("basel", &cloud).await;
    node.link_is_up().await;
    node.log(&["before"]).await;
    archive_reaches(&cloud, 1).await;
    let port = cloud.control().url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let (admin, folder) = (cloud.admin, cloud.folder);
    cloud.running.shut_down().await;
    tokio::time::timeout(std::time::Duration::from_secs(20), node.handles.link.wait_for(|link| !link.is_up()))
        .await
        .expect("the node sees that the link is down")
        .expect("syncing");
    let words: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    futures::future::join_all(words.iter().map(|word| log_one(&node.store, word))).await;
    let running = Cloud::serve(folder.path(), port).await;
    let again = running.control.first_operator(|_| Ok(())).await.expect("readable");
    assert_eq!(again, None, "a secret is made at the first start alone");
    let cloud = Cloud { running, admin, folder };
    archive_reaches(&cloud, 5_001).await;
    let verification = verified(&cloud).await;
    assert_eq!((verification.entries, verification.fault), (5_001, None));
}

async fn log_one(store: &Store, word: &str) {
    log(store, &[word]).await;
}

#[tokio::test]
async fn an_entry_changed_in_the_archive_is_found() {
    let cloud = Cloud::start().await;
    let node = Node::join("basel", &cloud).await;
    node.log(&["a", "b", "c"]).await;
    archive_reaches(&cloud, 3).await;
    let file = rusqlite::Connection::open(cloud.folder.path().join("control.db")).expect("opens");
    file.execute("UPDATE ledger SET body = replace(body, '\"b\"', '\"x\"') WHERE seq = 1", []).expect("changed");
    let fault = verified(&cloud).await.fault.expect("found");
    assert!(fault.starts_with("tampered"), "{fault}");
    file.execute("DELETE FROM ledger WHERE seq = 1", []).expect("removed");
    let fault = verified(&cloud).await.fault.expect("found");
    assert!(fault.starts_with("gap: entry 1 was expected"), "{fault}");
}

#[tokio::test]
async fn an_entry_changed_on_the_node_before_it_was_shipped_is_found_there() {
    let cloud = Cloud::start().await;
    let (folder, identity, store) = {
        let node = Node::join("basel", &cloud).await;
        node.log(&["a"]).await;
        archive_reaches(&cloud, 1).await;
        node.stop().await
    };
    log(&store, &["b", "c"]).await;
    drop(store);
    let file = rusqlite::Connection::open(folder.path().join("node.db")).expect("opens");
    file.execute("UPDATE ledger SET body = CAST(replace(body, '\"b\"', '\"x\"') AS BLOB) WHERE seq = 1", [])
        .expect("changed");
    drop(file);
    let node = Node::start(folder, identity);
    let complaint = until("the node complains", async || {
        let node = cloud.control().read("look", |c| nodes::get(c, &name("basel"))).await.expect("readable");
        node?.status?.complaints.into_iter().find(|complaint| complaint.contains("tampered"))
    })
    .await;
    assert!(complaint.contains("cannot be shipped"), "{complaint}");
    let checked = node.store.read("verify", sync::ledger::verify);
    assert_eq!(checked.await.expect("readable").expect_err("found").kind(), "tampered");
    assert_eq!(archived(&cloud, "basel").await, 1);
}

/// A node whose disk was replaced by one with another history, but with the same papers.
async fn with_history(cloud: &Cloud, words: &[&str]) -> Node {
    let (folder, identity, store) = {
        let node = Node::join("basel", cloud).await;
        node.log(&["a", "b", "c"]).await;
        archive_reaches(cloud, 3).await;
        node.stop().await
    };
    drop(store);
    for file in ["node.db", "node.db-wal", "node.db-shm"] {
        drop(std::fs::remove_file(folder.path().join(file)));
    }
    let store = Store::open(&folder.path().join("node.db")).expect("a new store");
    log(&store, words).await;
    drop(store);
    Node::start(folder, identity)
}

#[tokio::test]
async fn a_fork_is_refused_with_the_nodes_own_signature_as_evidence() {
    let cloud = Cloud::start().await;
    let node = with_history(&cloud, &["a", "forged", "c", "d"]).await;
    let alarm = alarm(&cloud).await;
    assert_eq!((alarm.kind.as_str(), alarm.node.as_str()), ("fork", "basel"));
    let evidence = alarm.evidence.expect("the signed head");
    assert!(evidence.verified_by(node.identity.ledger_key().public()).is_ok());
    assert_eq!(archived(&cloud, "basel").await, 3, "nothing of the fork was taken");
    let verification = verified(&cloud).await;
    assert_eq!(verification.fault, None, "what was archived before stands");
    assert!(verification.halted.expect("halted").starts_with("fork"));
    let complaint =
        until("the node knows", async || node.store.read("look", sync::standing).await.expect("readable").complaint())
            .await;
    assert!(complaint.starts_with("the ledger is halted: fork"), "{complaint}");
    // The rest of the fleet's service goes on for the node.
    let back =
        RollBackRequest { group: "plant".to_owned(), to: cloud.push(&[("feeds.yaml", "feeds: []")]).await.digest };
    cloud.control().roll_back(&cloud.admin, back).await.expect("still an operator");
}

#[tokio::test]
async fn a_fork_of_the_same_length_is_seen_before_it_grows() {
    let cloud = Cloud::start().await;
    let _node = with_history(&cloud, &["a", "forged", "c"]).await;
    assert_eq!(alarm(&cloud).await.kind, "fork");
}

#[tokio::test]
async fn a_ledger_that_lost_entries_is_refused() {
    let cloud = Cloud::start().await;
    let _node = with_history(&cloud, &["a"]).await;
    let alarm = alarm(&cloud).await;
    assert_eq!(alarm.kind, "shrunk");
    assert!(alarm.message.contains("a head of 1 entries after one of 3"), "{}", alarm.message);
}
