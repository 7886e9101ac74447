//! Bundles that are refused before they are signed, and bundles that do not come up healthy: the node goes back by itself,
//! says which bundle it runs and why it left the other.

use std::path::Path;

use serde_json::{Value, json};
use tests::{agent::Agent, agent::site, control::Control, mqtt::Client, process::Said, wait};

use crate::fleet::{BOUND, applied, joined, push, question, shake};

/// A fleet of one node that runs the site `line`, and a changed copy of the site to push.
struct Fleet {
    _folder: tempfile::TempDir,
    control: Control,
    node: Agent,
    bundle: std::path::PathBuf,
    /// The digest of what it runs.
    good: String,
}

impl Fleet {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let control = Control::start(folder.path(), "control").await;
        let node = joined(&control, folder.path(), "north").await;
        let bundle = site("tests/scenarios/sites/line", folder.path());
        push(&control, &bundle).await.ok();
        let good = applied(&control).await;
        Self { _folder: folder, control, node, bundle, good }
    }

    /// The control plane shows that the node left the bundle for this reason and runs the one before; the node's ledger has it
    /// too, and the node does its work.
    async fn went_back(&mut self, why: &str) {
        let reason = wait::until("the rejection to be shown", BOUND, async || {
            let nodes = self.control.json(&["nodes", "list"]).await;
            let rollout = nodes[0]["rollout"].clone();
            (rollout["stage"] == "rejected").then(|| rollout["reason"].as_str().unwrap_or_default().to_owned())
        })
        .await;
        assert!(reason.contains(why), "it does not say {why:?}: {reason}");
        assert_eq!(applied(&self.control).await, self.good, "it says that it runs the bundle before");
        let entries = self.node.json(&["ledger", "list", "--fact", "bundle-rolled-back"]).await;
        let entry = &entries.as_array().expect("a list")[0];
        assert_eq!(entry["to"], self.good.as_str());
        assert!(entry["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{entry}");
        let plant = Client::connect("after", self.node.mqtt).await;
        shake(&plant, "pump-9").await;
        question(&self.control).await;
        self.node.stop().await;
    }
}

#[tokio::test]
async fn a_bundle_whose_feed_no_message_fits_is_left() {
    let mut fleet = Fleet::start().await;
    let plant = Client::connect("plant", fleet.node.mqtt).await;
    change(&fleet.bundle, "feeds.yaml", |text| {
        text.replace("    label:", "    schema: { type: object, required: [never] }\n    label:")
    });
    let said = while_readings_come(&plant, push(&fleet.control, &fleet.bundle)).await;
    assert_eq!(said.code(), 5, "{}", said.err);
    assert!(said.err.contains("north went back: under the bundle"), "{}", said.err);
    fleet.went_back("messages of feed vibration did not fit it").await;
}

#[tokio::test]
async fn a_bundle_with_a_document_that_cannot_be_indexed_is_left() {
    let mut fleet = Fleet::start().await;
    // A disk's fault, as the agent sees it.
    let store = rusqlite::Connection::open(fleet.node.folder.join("data/node.db")).expect("opens");
    let fault = "CREATE TRIGGER fault BEFORE INSERT ON memory_document WHEN NEW.path = 'torn.md'
                 BEGIN SELECT RAISE(ABORT, 'the disk is torn'); END";
    store.execute_batch(fault).expect("made");
    let manuals = fleet.bundle.join("documents/manuals");
    std::fs::create_dir_all(&manuals).expect("made");
    std::fs::write(manuals.join("pumps.md"), "# Pumps\n\nA pump that shakes is stopped.\n").expect("written");
    std::fs::write(manuals.join("torn.md"), "# Torn\n\nNobody reads this.\n").expect("written");
    let said = push(&fleet.control, &fleet.bundle).await;
    assert_eq!(said.code(), 5, "{}", said.err);
    fleet.went_back("not every document of the bundle can be indexed").await;
}

#[tokio::test]
async fn a_bundle_under_which_the_agent_ends_twice_is_left_without_a_third_try() {
    let mut fleet = Fleet::start().await;
    change(&fleet.bundle, "feeds.yaml", |text| text.replace("high: 7.1", "high: 7.2"));
    let bundle = fleet.bundle.display().to_string();
    fleet.control.cli(&["bundle", "push", &bundle, "--group", "plant"]).await.ok();
    // The first trial was that of the good bundle.
    for trials in [2, 3] {
        wait::until("the trial to begin", BOUND, async || {
            let begun = fleet.node.running().log().matches("a bundle is on trial").count();
            (begun == trials).then_some(())
        })
        .await;
        fleet.node.kill();
        fleet.node.start().await;
    }
    fleet.went_back("the agent ended 2 times").await;
    let log = std::fs::read_to_string(fleet.node.folder.join("north.log")).expect("its log");
    assert_eq!(log.matches("a bundle is on trial").count(), 3, "it was tried again");
}

#[tokio::test]
async fn a_broken_bundle_or_an_unknown_group_is_refused_at_the_push() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = Control::start(folder.path(), "control").await;
    control.token("plant").await;
    let bundle = site("tests/scenarios/sites/line", folder.path());
    let shown = bundle.display().to_string();
    let to = |group| ["bundle", "push", &shown, "--group", group].map(str::to_owned);
    let said = cli(&control, &to("plnat")).await;
    assert_eq!(said.code(), 3);
    assert!(said.err.contains("there is no group plnat: there is plant."), "{}", said.err);

    change(&bundle, "feeds.yaml", |text| text.replace("high: 7.1", "hihg: 7.1"));
    std::fs::create_dir_all(bundle.join("documents/manuals")).expect("made");
    std::fs::write(bundle.join("documents/manuals/dump.md"), "x".repeat((8 << 20) + 1)).expect("written");
    let said = cli(&control, &to("plant")).await;
    assert_eq!(said.code(), 3, "without --wait, too");
    for told in ["feeds.yaml:12:", "feeds[0].detectors[0]", "`hihg`", "dump.md: has 8388609 bytes: expected at most"] {
        assert!(said.err.contains(told), "it does not say {told:?}: {}", said.err);
    }
    assert_eq!(control.json(&["bundle", "list"]).await, json!([]));
}

async fn cli(control: &Control, arguments: &[String]) -> Said {
    control.cli(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Publishes quiet readings, each of another moment, until this is done.
async fn while_readings_come(plant: &Client, work: impl Future<Output = Said>) -> Said {
    let mut work = std::pin::pin!(work);
    let mut count = 0;
    wait::until("the push to end", BOUND, async || {
        count += 1;
        let reading: Value =
            json!({ "rms": 1.0, "at": format!("2026-11-21T08:{:02}:{:02}Z", count / 60 % 60, count % 60) });
        plant.publish("line/pump-1/vibration", reading.to_string()).await;
        match futures::poll!(work.as_mut()) {
            std::task::Poll::Ready(said) => Some(said),
            std::task::Poll::Pending => None,
        }
    })
    .await
}

fn change(bundle: &Path, file: &str, change: impl Fn(String) -> String) {
    let path = bundle.join(file);
    let before = std::fs::read_to_string(&path).expect("the file");
    let after = change(before.clone());
    assert_ne!(before, after, "the change finds its place");
    std::fs::write(&path, after).expect("written");
}
