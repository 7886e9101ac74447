//! Who gets in, and what the others are told.

use std::time::Duration;

use edge_agent::sync::{self, Identity, Link};
use shared::digest::Digest;

use crate::site::{Cloud, Node, enroll, name, until};

#[tokio::test]
async fn a_node_enrolls_once_with_a_token_and_its_link_comes_up() {
    let cloud = Cloud::start().await;
    let token = cloud.token().await;
    let (folder, identity) = enroll("basel", &token).await.expect("enrolled");
    let reopened = Identity::open(folder.path(), &name("basel")).expect("kept");
    assert_eq!(reopened.membership().expect("a member").group, "plant");
    let again = enroll("houston", &token).await.expect_err("the token is used").to_string();
    assert!(again.contains("used already, by node basel"), "{again}");
    let mut member = reopened;
    let twice = sync::enroll(&mut member, &token, "CH", "0.1.0").await.expect_err("a member").to_string();
    assert!(twice.contains("enrolled already, as basel"), "{twice}");
    let mut node = Node::start(folder, identity);
    node.link_is_up().await;
    assert!(cloud.control().link(&name("basel")).is_up());
    node.stop().await;
    until("the control plane sees that the node is gone", async || {
        (!cloud.control().link(&name("basel")).is_up()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refused_token_is_told_which_way() {
    let cloud = Cloud::start().await;
    let token = cloud.token_for(Duration::from_millis(1)).await;
    until("the token expires", async || (edge_agent::clock::now() > token.exp).then_some(())).await;
    let expired = enroll("basel", &token).await.expect_err("expired").to_string();
    assert!(expired.contains("the join token expired at"), "{expired}");
    let mut unknown = cloud.token().await;
    unknown.secret.push('x');
    let unknown = enroll("basel", &unknown).await.expect_err("unknown").to_string();
    assert!(unknown.contains("never made that join token"), "{unknown}");
    let good = cloud.token().await;
    enroll("basel", &good).await.expect("enrolled");
    let taken = enroll("basel", &cloud.token().await).await.expect_err("another basel").to_string();
    assert!(taken.contains("another node is enrolled as basel"), "{taken}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_told_the_secret() {
    let cloud = Cloud::start().await;
    let mut token = cloud.token().await;
    token.ca_sha256 = Digest::of(b"another authority");
    let error = enroll("basel", &token).await.expect_err("refused");
    assert!(matches!(error, sync::Error::WrongAuthority { .. }), "{error:?}");
    token = cloud.token().await;
    enroll("basel", &token).await.expect("the secret was not spent");
}

#[tokio::test]
async fn a_node_of_another_fleet_and_an_impostor_server_are_named() {
    let (ours, theirs) = (Cloud::start().await, Cloud::start().await);
    let (folder, _) = enroll("basel", &ours.token().await).await.expect("enrolled");
    // The same papers, but the address of another control plane, as after a hijacked name.
    let path = folder.path().join("identity/membership.json");
    let papers = std::fs::read_to_string(&path).expect("kept");
    std::fs::write(&path, papers.replace(ours.control().url(), theirs.control().url())).expect("written");
    let identity = Identity::open(folder.path(), &name("basel")).expect("readable");
    let mut node = Node::start(folder, identity);
    is_down(&mut node, "another authority").await;

    // The authority of the other control plane is trusted, but the certificate is not one of its own.
    let mut papers: serde_json::Value = serde_json::from_str(&papers).expect("JSON");
    papers["url"] = theirs.control().url().into();
    papers["ca_pem"] = theirs.control().keys().ca_pem().into();
    let (folder, ..) = node.stop().await;
    std::fs::write(&path, papers.to_string()).expect("written");
    let identity = Identity::open(folder.path(), &name("basel")).expect("readable");
    let mut node = Node::start(folder, identity);
    is_down(&mut node, "does not accept this node's certificate").await;
}

/// Waits until the link is down for a reason that says this.
async fn is_down(node: &mut Node, expected: &str) {
    let mut said = Vec::new();
    let down = node.handles.link.wait_for(|link| match link {
        Link::Down { reason, .. } => {
            said.push(reason.clone());
            reason.contains(expected)
        }
        _ => false,
    });
    let named = tokio::time::timeout(Duration::from_secs(20), down).await.is_ok_and(|link| link.is_ok());
    assert!(named, "{expected:?} was expected, but it was said: {said:#?}");
}
