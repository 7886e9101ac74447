//! An auditor's work: an export of the archive that anyone can check without a server, and a ledger that contradicts itself
//! seen wherever somebody looks.

use std::path::Path;

use serde_json::Value;
use tests::{agent::site, control::Control, net, wait};

use crate::fleet::{BOUND, joined, push, verified};

#[tokio::test]
async fn an_export_is_checked_without_a_server_and_every_change_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = Control::start(folder.path(), "control").await;
    let mut node = joined(&control, folder.path(), "north").await;
    push(&control, &site("tests/scenarios/sites/line", folder.path())).await.ok();
    verified(&control, &node).await;
    let export = folder.path().join("export");
    let shown = export.display().to_string();
    control.cli(&["audit", "export", "north", &shown]).await.ok();
    let key = node.json(&["ledger", "key"]).await["key"].as_str().expect("a key").to_owned();
    node.stop().await;
    control.kill();

    let entries = export.join("north.jsonl");
    let text = std::fs::read_to_string(&entries).expect("the entries");
    let head: Value =
        serde_json::from_slice(&std::fs::read(export.join("north.head.json")).expect("the head")).expect("JSON");
    let witness = head["witness_key"].as_str().expect("a key");
    assert_eq!(head["ledger_key"], key.as_str(), "the node says the same of its key");
    assert!(text.lines().count() >= 2 && text.contains("bundle-applied"), "{text}");

    let check = async |keys: &[&str]| {
        let said = control.cli(&[&["audit", "check", &shown, "--json"], keys].concat()).await;
        let fault = said.printed()[0]["fault"].as_str().unwrap_or_default().to_owned();
        (said.code(), fault)
    };
    let holds = (0, String::new());
    assert_eq!(check(&[]).await, holds);
    assert_eq!(check(&["--ledger-key", &key, "--witness-key", witness]).await, holds);
    let (code, fault) = check(&["--ledger-key", witness]).await;
    assert!(code == 5 && fault.contains("not a checkpoint signed by the node"), "{code}: {fault}");
    let (code, fault) = check(&["--witness-key", &key]).await;
    assert!(code == 5 && fault.contains("the head is not countersigned"), "{code}: {fault}");

    let lines: Vec<&str> = text.lines().collect();
    let (first, second, rest) = (lines[0], lines[1], &lines[2..]);
    let file = |start: &[&str]| [start, rest].concat().into_iter().map(|line| format!("{line}\n")).collect::<String>();
    for (what, changed, told) in [
        ("changed", text.replacen("\"version\":", "\"version\":  ", 1), "tampered"),
        ("removed", file(&[second]), "the run ends at"),
        ("reordered", file(&[second, first]), "tampered"),
        ("added", format!("{text}{first}\n"), "the run ends at"),
    ] {
        assert_ne!(changed, text, "{what}");
        std::fs::write(&entries, changed).expect("written");
        let (code, fault) = check(&[]).await;
        assert!(code == 5 && fault.contains(told), "an entry {what}: {code}: {fault}");
    }
    std::fs::write(&entries, &text).expect("written");
    assert_eq!(check(&[]).await, holds);
    std::fs::rename(export.join("north.head.json"), folder.path().join("aside")).expect("moved");
    let said = control.cli(&["audit", "check", &shown]).await;
    assert!(said.code() == 5 && said.err.contains("without their head"), "{}: {}", said.code(), said.err);
}

#[tokio::test]
async fn a_halted_ledger_is_seen_on_the_node_and_in_the_fleet() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = Control::start(folder.path(), "control").await;
    let mut node = joined(&control, folder.path(), "north").await;
    push(&control, &site("tests/scenarios/sites/line", folder.path())).await.ok();
    verified(&control, &node).await;
    node.stop().await;
    // The disk was put back from a copy of long ago.
    forget(&node.folder.join("data"));
    node.spawn();
    let told = wait::until("the node to say that it is not well", BOUND, async || {
        let answer = net::http().get(node.url("/health")).send().await.ok()?;
        (answer.status() == 503).then_some(answer)?.text().await.ok()
    })
    .await;
    assert!(told.contains("the ledger is halted: shrunk"), "{told}");
    let listed = wait::until("the fleet to show it", BOUND, async || {
        let said = control.cli(&["nodes", "list"]).await.ok();
        (said.contains("failing") && said.contains("2/")).then_some(said)
    })
    .await;
    assert_eq!(listed.matches("shrunk: the node").count(), 1, "it is said once: {listed}");

    // With the link down it is known too.
    control.kill();
    node.stop().await;
    let doctor = node.cli(&["doctor"]).await;
    assert_eq!(doctor.code(), 1, "{}", doctor.out);
    assert!(
        doctor.out.contains("the ledger is halted: shrunk") && doctor.out.contains("audit resume north"),
        "{}",
        doctor.out
    );
}

fn forget(data: &Path) {
    for file in ["node.db", "node.db-wal", "node.db-shm"] {
        drop(std::fs::remove_file(data.join(file)));
    }
}
