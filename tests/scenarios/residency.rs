//! Data stays where its label says, and a cut link delays what goes out without losing it.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tests::{
    agent::{Agent, Setup, site},
    mqtt::Client,
    wait,
};

use crate::outcome::ledger;

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_restricted_record_stays_in_the_country_and_another_goes_to_the_cloud() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut clinic, mut cloud) = clinic_and_cloud(folder.path());
    cloud.start().await;
    clinic.start().await;
    let ward = Client::connect("ward", clinic.mqtt).await;
    ward.subscribe("summaries/#").await;

    ward.publish("records/patients", record(1, false, "Frau Meier, 71, was found on the floor of room 12.")).await;
    ward.publish("records/machines", record(2, false, "The pump of bed 4 reports a blocked line.")).await;
    assert_eq!(summary(&ward, 1).await["target"], "local/extract");
    assert_eq!(summary(&ward, 2).await["target"], "cloud/large");

    let entries = ledger(&clinic).await;
    let refused = entries.iter().find(|entry| {
        entry["fact"] == "policy-decided" && entry["resource"] == "cloud/large" && entry["allowed"] == false
    });
    let refused = refused.expect("the ledger says that policy kept the record at home");
    assert_eq!(refused["label"]["class"], "restricted");
    let told = serde_json::to_string(&entries).expect("entries are JSON");
    assert!(!told.contains("Frau Meier"), "the ledger keeps the text of a restricted record");
    let calls = |target: &str| entries.iter().filter(|e| e["fact"] == "model-called" && e["target"] == target).count();
    assert_eq!((calls("local/extract"), calls("cloud/large")), (1, 1));
    clinic.cli(&["ledger", "verify"]).await.ok();
}

#[tokio::test]
async fn with_the_link_cut_what_may_go_out_waits_even_over_a_kill_and_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut clinic, mut cloud) = clinic_and_cloud(folder.path());
    clinic.start().await;
    let ward = Client::connect("ward", clinic.mqtt).await;
    ward.subscribe("summaries/#").await;
    ward.publish("records/machines", record(3, true, "The door of the cold store stands open.")).await;
    waiting(&clinic).await;

    clinic.kill();
    clinic.start().await;
    waiting(&clinic).await;
    ward.ready().await;
    cloud.start().await;
    let summary = summary(&ward, 3).await;
    assert_eq!(summary["target"], "cloud/large");
    let told = ward.received().iter().filter(|(topic, _)| topic == "summaries/3").count();
    assert_eq!(told, 1, "it is told once");
}

fn clinic_and_cloud(folder: &Path) -> (Agent, Agent) {
    let cloud = Agent::new(folder, &Setup { jurisdiction: "US", site: None, ..Setup::new("cloud", folder) });
    let targets = format!(
        "[[targets]]\nname = \"cloud/large\"\nkind = \"openai\"\nurl = \"{}\"\nmodel = \"local/extract\"\njurisdiction = \"US\"\nprovider = \"skerry\"\n",
        cloud.url("/v1")
    );
    let clinic = Agent::new(
        folder,
        &Setup { more: &targets, ..Setup::new("clinic", &site("tests/scenarios/sites/clinic", folder)) },
    );
    (clinic, cloud)
}

fn record(number: u32, escalate: bool, text: &str) -> Vec<u8> {
    json!({ "ward": "b2", "number": number, "at": "2026-11-21T08:30:00Z", "escalate": escalate, "text": text })
        .to_string()
        .into_bytes()
}

async fn summary(ward: &Client, number: u32) -> Value {
    ward.receives(&format!("the summary of record {number}"), BOUND, |_, json| json["number"] == number).await
}

async fn waiting(clinic: &Agent) {
    wait::until("a run to wait for the link", BOUND, async || {
        let runs = clinic.json(&["runs"]).await;
        runs.as_array()?.iter().any(|run| run["status"] == "parked").then_some(())
    })
    .await;
}
