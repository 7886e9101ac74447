//! A person decides, on the node itself: by its page's API and by its command line. The answer holds for exactly what was
//! shown, once.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    agent::{Agent, Setup, site},
    mqtt::Client,
    net, wait,
};

use crate::outcome::ledger;

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_approval_by_the_local_api_acts_once_and_is_bound_to_what_was_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut agent, plant) = line(folder.path()).await;
    shake(&plant, "pump-1").await;
    let question = question(&agent).await;
    assert_eq!(question["proposal"]["device"], "pump-1");

    let answer = |shown: &Value| json!({ "verdict": "approved", "by": "Mia Keller", "shown": shown, "secret": "" });
    let (status, refusal) = post(&agent, &question, &answer(&question["shown"])).await;
    assert_eq!(status, 403, "nobody may answer yet: {refusal}");
    let secret = agent.approver("Mia Keller", "maintenance").await;
    let secret = std::fs::read_to_string(secret).expect("the secret");
    let answer = |shown: &Value| json!({ "verdict": "approved", "by": "Mia Keller", "shown": shown, "secret": secret });
    let other = format!("sha256:{}", "0".repeat(64));
    let (status, refusal) = post(&agent, &question, &answer(&json!(other))).await;
    assert_eq!(status, 409, "an answer to something else: {refusal}");

    // The question outlives a kill.
    agent.kill();
    agent.start().await;
    plant.ready().await;
    let (status, _) = post(&agent, &question, &answer(&question["shown"])).await;
    assert_eq!(status, 200);
    let command = plant.receives("the command", BOUND, |topic, _| topic == "commands/pump-1").await;
    assert_eq!(command["approvedBy"], "Mia Keller");

    let (status, refusal) = post(&agent, &question, &answer(&question["shown"])).await;
    assert!(status == 409 || status == 404, "a second answer: {status} {refusal}");
    assert_eq!(plant.received().iter().filter(|(topic, _)| topic.starts_with("commands/")).count(), 1);
    let decided = ledger(&agent).await.into_iter().find(|entry| entry["fact"] == "approval-decided");
    let decided = decided.expect("the ledger names who decided");
    assert_eq!((&decided["by"], &decided["shown"]), (&json!("Mia Keller"), &question["shown"]));
    assert_eq!((&decided["role"], &decided["place"]), (&json!("maintenance"), &json!("api")));
    agent.stop().await;
}

#[tokio::test]
async fn a_rejection_on_the_command_line_ends_the_run_without_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut agent, plant) = line(folder.path()).await;
    shake(&plant, "pump-2").await;
    let id = question(&agent).await["approval"].as_str().expect("an id").to_owned();
    let table = agent.cli(&["approve"]).await.ok();
    assert!(table.contains(&id) && table.contains("Stop pump-2?"), "{table}");
    let nurse = agent.approver("Ada Nurse", "nurse").await;
    let refused = agent.answers_question(&id, "--yes", "Ada Nurse", &nurse).await;
    assert_eq!(refused.code(), 1, "{}", refused.out);
    assert!(refused.err.contains("may answer for nurse, not for maintenance"), "{}", refused.err);
    let secret = agent.approver("Jon Frei", "maintenance").await;
    let file = secret.display().to_string();
    let answer = ["approve", &id, "--no", "--as", "Jon Frei", "--secret-file", &file, "--comment", "needed until six"];
    let said = agent.cli(&answer).await.ok();
    assert!(said.contains("Recorded: rejected by Jon Frei as maintenance, command line"), "{said}");
    let decided = ledger(&agent).await.into_iter().find(|entry| entry["fact"] == "approval-decided");
    let decided = decided.expect("the ledger names who decided");
    assert_eq!((&decided["place"], &decided["comment"]["bytes"]), (&json!("command line"), &json!(16)));
    completed(&agent).await;
    assert!(!plant.received().iter().any(|(topic, _)| topic.starts_with("commands/")));
    let again = agent.answers_question(&id, "--yes", "Jon Frei", &secret).await;
    assert_ne!(again.code(), 0, "{}", again.out);
    assert!(again.err.contains("Jon Frei"), "it says who decided: {}", again.err);
    agent.stop().await;
}

#[tokio::test]
async fn a_question_that_nobody_answers_expires_and_the_workflow_goes_its_own_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut agent, plant) = line(folder.path()).await;
    shake(&plant, "pump-3").await;
    question(&agent).await;
    completed(&agent).await;
    assert!(!plant.received().iter().any(|(topic, _)| topic.starts_with("commands/")));
    let verdicts: Vec<_> =
        ledger(&agent).await.into_iter().filter(|entry| entry["fact"] == "approval-decided").collect();
    assert!(verdicts.iter().all(|entry| entry["verdict"] == "expired"), "{verdicts:?}");
    agent.stop().await;
}

async fn line(folder: &std::path::Path) -> (Agent, Client) {
    let mut agent = Agent::new(folder, &Setup::new("line", &site("tests/scenarios/sites/line", folder)));
    agent.start().await;
    let plant = Client::connect("plant", agent.mqtt).await;
    plant.subscribe("commands/#").await;
    (agent, plant)
}

async fn shake(plant: &Client, pump: &str) {
    let reading = json!({ "rms": 9.3, "at": "2026-11-21T08:30:00Z" }).to_string();
    plant.publish(&format!("line/{pump}/vibration"), reading).await;
}

async fn question(agent: &Agent) -> Value {
    wait::until("a question to a person", BOUND, async || agent.json(&["approve"]).await.as_array()?.first().cloned())
        .await
}

async fn post(agent: &Agent, question: &Value, answer: &Value) -> (u16, Value) {
    let path = format!("/api/v1/approvals/{}", question["approval"].as_str().expect("an id"));
    let request = net::http().post(agent.url(&path)).bearer_auth(agent.token()).json(answer);
    let said = request.send().await.expect("the agent answers");
    (said.status().as_u16(), said.json().await.unwrap_or(Value::Null))
}

async fn completed(agent: &Agent) {
    wait::until("the run to complete", BOUND, async || {
        let runs = agent.json(&["runs"]).await;
        runs.as_array()?.iter().all(|run| run["status"] == "completed").then_some(())
    })
    .await;
}
