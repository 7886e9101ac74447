//! A fleet of real processes: nodes join, are given bundles, go back from broken ones, ask people, and prove what they did.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    agent::{Agent, Setup, site},
    browser,
    control::Control,
    mqtt::Client,
    wait,
};

pub(super) const BOUND: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_node_joins_runs_what_it_is_given_asks_a_person_and_proves_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = Control::start(folder.path(), "control").await;
    let mut node = joined(&control, folder.path(), "north").await;
    let bundle = site("tests/scenarios/sites/line", folder.path());
    push(&control, &bundle).await.ok();

    let plant = Client::connect("plant", node.mqtt).await;
    plant.subscribe("commands/#").await;
    shake(&plant, "pump-1").await;
    let question = question(&control).await;
    let (id, shown) = (text(&question, "approval"), text(&question, "shown"));
    let said = control.cli(&["approvals", "decide", &id, "--approve", "--shown", &shown]).await.ok();
    assert!(
        said.contains("Recorded: approved by") && said.contains("as maintenance") && said.contains(&shown),
        "{said}"
    );
    plant.receives("the command", BOUND, |topic, _| topic == "commands/pump-1").await;

    shake(&plant, "pump-2").await;
    let on_site = text(&self::question(&control).await, "approval");
    let secret = node.approver("Jon Frei", "maintenance").await;
    node.answers_question(&on_site, "--no", "Jon Frei", &secret).await.ok();
    wait::until("the control plane to name who decided on site", BOUND, async || {
        let table = control.cli(&["approvals", "list", "--all"]).await.ok();
        table.contains("Jon Frei (command line)").then_some(())
    })
    .await;

    verified(&control, &node).await;
    let cookie = control.log_in().await;
    for (path, expected) in [("/", "north"), ("/nodes/north", "north"), ("/runs", "stop"), ("/audit", "north")] {
        let page = browser::look(&control.page(path), Some(&cookie), folder.path()).await;
        assert!(page.dom.contains(expected), "{path} does not show {expected:?}:\n{}", page.dom);
        page.is_not_blank();
    }
    let stranger = browser::look(&control.page("/"), None, folder.path()).await;
    assert!(!stranger.dom.contains("north"), "the console shows the fleet to a stranger");
    node.stop().await;
}

#[tokio::test]
async fn a_broken_bundle_is_left_behind_and_the_one_before_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = Control::start(folder.path(), "control").await;
    let mut node = joined(&control, folder.path(), "north").await;
    let bundle = site("tests/scenarios/sites/line", folder.path());
    push(&control, &bundle).await.ok();
    let good = applied(&control).await;

    let workflow = bundle.join("workflows/stop.yaml");
    let text = std::fs::read_to_string(&workflow).expect("the workflow");
    std::fs::write(&workflow, text.replace("call: publish", "call: publsh")).expect("written");
    let said = push(&control, &bundle).await;
    assert_ne!(said.code(), 0, "{}", said.out);
    let told = format!("{}{}", said.out, said.err);
    assert!(told.contains("publsh") && told.contains("stop.yaml"), "it says what is wrong and where: {told}");

    assert_eq!(applied(&control).await, good, "the node goes on with the bundle before");
    let plant = Client::connect("plant", node.mqtt).await;
    shake(&plant, "pump-2").await;
    question(&control).await;
    node.stop().await;
}

#[tokio::test]
async fn what_happened_with_the_link_cut_is_there_when_it_is_back_without_a_gap() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = Control::start(folder.path(), "control").await;
    let mut node = joined(&control, folder.path(), "north").await;
    push(&control, &site("tests/scenarios/sites/line", folder.path())).await.ok();

    control.kill();
    let plant = Client::connect("plant", node.mqtt).await;
    plant.subscribe("commands/#").await;
    shake(&plant, "pump-3").await;
    let waiting = wait::until("a question", BOUND, async || node.json(&["approve"]).await.as_array()?.first().cloned());
    let id = text(&waiting.await, "approval");
    let secret = node.approver("Mia Keller", "maintenance").await;
    node.answers_question(&id, "--yes", "Mia Keller", &secret).await.ok();
    plant.receives("the command", BOUND, |topic, _| topic == "commands/pump-3").await;
    node.kill();
    node.start().await;

    control.restart().await;
    verified(&control, &node).await;
    let open = control.json(&["approvals", "list"]).await;
    assert!(!open.to_string().contains(&id) || !open.to_string().contains("pending"), "still open: {open}");
    node.stop().await;
}

#[tokio::test]
async fn a_token_admits_once_and_in_time_and_only_to_the_control_plane_that_made_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = Control::start(folder.path(), "control").await;
    let token = control.token("plant").await;
    let agent = |name: &str| Agent::new(folder.path(), &Setup { site: None, ..Setup::new(name, folder.path()) });
    agent("north").cli(&["enroll", &token]).await.ok();
    refused(&agent("south"), &token, "used").await;

    let short = control.cli(&["token", "create", "--group", "plant", "--valid", "1s"]).await.ok().trim().to_owned();
    let made = Instant::now();
    wait::until("the token to expire", BOUND, async || (made.elapsed() > Duration::from_secs(2)).then_some(())).await;
    refused(&agent("south"), &short, "expired").await;

    let pinned = control.token("plant").await;
    control.kill();
    let _impostor = Control::start_at(folder.path(), "impostor", control.port).await;
    refused(&agent("south"), &pinned, "certificate").await;
}

async fn refused(agent: &Agent, token: &str, why: &str) {
    let said = agent.cli(&["enroll", token]).await;
    assert_ne!(said.code(), 0, "let in: {}", said.out);
    assert!(said.err.contains(why), "it does not say {why:?}: {}", said.err);
}

/// A node that has joined the group `plant` and runs, with nothing to do yet.
pub(super) async fn joined(control: &Control, folder: &Path, name: &str) -> Agent {
    let mut agent = Agent::new(folder, &Setup { site: None, ..Setup::new(name, folder) });
    agent.cli(&["enroll", &control.token("plant").await]).await.ok();
    agent.start().await;
    agent
}

pub(super) async fn push(control: &Control, bundle: &Path) -> tests::process::Said {
    control.cli(&["bundle", "push", &bundle.display().to_string(), "--group", "plant", "--wait", "60s"]).await
}

/// The digest of the bundle that the one node reports to run.
pub(super) async fn applied(control: &Control) -> String {
    let nodes = control.json(&["nodes", "list"]).await;
    let node = &nodes.as_array().expect("a list of nodes")[0];
    node["status"]["applied"]["digest"].as_str().unwrap_or_else(|| panic!("no bundle applied: {node}")).to_owned()
}

pub(super) async fn question(control: &Control) -> Value {
    wait::until("a question to reach the control plane", BOUND, async || {
        Some(control.json(&["approvals", "list"]).await.as_array()?.first()?["question"].clone())
    })
    .await
}

/// Waits until the archive has all that the node has, and both agree on the head.
pub(super) async fn verified(control: &Control, node: &Agent) {
    let size = node.json(&["ledger", "verify"]).await["size"].as_u64().expect("the ledger has a size");
    wait::until(&format!("{size} entries to be archived and verified"), BOUND, async || {
        let said = control.cli(&["audit", "verify", &node.name, "--json"]).await;
        let archived = said.printed()[0]["entries"].as_u64().unwrap_or(0);
        (said.code() == 0 && archived >= size).then_some(())
    })
    .await;
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

pub(super) async fn shake(plant: &Client, pump: &str) {
    let reading = json!({ "rms": 9.3, "at": "2026-11-21T08:30:00Z" }).to_string();
    plant.publish(&format!("line/{pump}/vibration"), reading).await;
}
