//! The recording of a real machine through a whole node: every reading accounted for, the labelled troubles found, and
//! nothing different after ten kills of the agent and one of the broker.

use std::{path::Path, time::Duration};

use tests::{
    agent::{Agent, Setup, site},
    broker::Mosquitto,
    mqtt::Client,
    process::Process,
    recording::Recording,
    wait,
};

use crate::outcome::{Outcome, accounts, windows};

const TOPIC: &str = "plant/press-1/temperature";
/// All of it, in a debug build on a busy machine.
const BOUND: Duration = Duration::from_secs(240);
const KILLS: usize = 10;

#[tokio::test]
async fn every_reading_is_accounted_for_and_the_labelled_troubles_are_found() {
    let recording = Recording::load();
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::new(folder.path(), &Setup::new("press", &site("demo/press/site", folder.path())));
    agent.start().await;
    let alarms = Client::connect("control-room", agent.mqtt).await;
    alarms.subscribe("alarms/#").await;

    replay(&agent, &recording).await;
    let outcome = Outcome::of(&agent, recording.readings.len() as u64, BOUND).await;
    assert_eq!(outcome.accounts.journalled, recording.readings.len() as u64);
    assert_eq!(outcome.accounts.quarantined, 0);

    let found = found_at(&alarms);
    assert_eq!(found.len(), outcome.runs.len(), "each finding made one run, and each run told the plant once");
    let inside = recording.windows.iter().filter(|(from, to)| found.iter().any(|at| (from..=to).contains(&at))).count();
    assert_eq!(inside, recording.windows.len(), "labelled windows that were found; found at {found:?}");
    assert!(found.len() <= 60, "{} findings in ten weeks is noise", found.len());
    agent.cli(&["ledger", "verify"]).await.ok();
    agent.stop().await;
}

#[tokio::test]
async fn ten_kills_of_the_agent_and_one_of_the_broker_change_nothing() {
    let recording = Recording::load();
    let count = recording.readings.len() as u64;
    let (undisturbed, windows_undisturbed) = {
        let folder = tempfile::tempdir().expect("a folder");
        let (broker, mut agent) = with_mosquitto(folder.path()).await;
        agent.start().await;
        replay(&agent, &recording).await;
        let outcome = Outcome::of(&agent, count, BOUND).await;
        agent.stop().await;
        drop(broker);
        (outcome, windows(&agent))
    };
    assert!(!undisturbed.runs.is_empty() && !windows_undisturbed.is_empty());

    let folder = tempfile::tempdir().expect("a folder");
    let (mut broker, mut agent) = with_mosquitto(folder.path()).await;
    agent.start().await;
    let mut replaying = Process::start("replay", &mut replay_command(&agent, &recording), folder.path());
    for kill in 1..=KILLS as u64 {
        let due = count * kill / (KILLS as u64 + 2);
        wait::until(&format!("{due} readings to be journalled"), BOUND, async || {
            (journalled(&agent).await >= due).then_some(())
        })
        .await;
        agent.kill();
        if kill == KILLS as u64 / 2 {
            kill_broker_between_acknowledgements(&replaying, &mut broker, &mut agent).await;
        } else {
            agent.start().await;
        }
    }
    let status = replaying.end(BOUND).await;
    assert!(status.success(), "replay ended with {status}: {}", replaying.log());
    let disturbed = Outcome::of(&agent, count, BOUND).await;
    disturbed.must_equal(&undisturbed);
    agent.cli(&["ledger", "verify"]).await.ok();
    agent.stop().await;
    assert_eq!(windows(&agent), windows_undisturbed, "windows and detectors as they would have been");
}

/// A broker that is killed loses what it acknowledged and has not yet written, which no client can mend. So the
/// publisher is held still until the agent has everything that was acknowledged; what is under way then is not
/// acknowledged, and both clients must send it again.
async fn kill_broker_between_acknowledgements(replaying: &Process, broker: &mut Mosquitto, agent: &mut Agent) {
    replaying.pause();
    agent.start().await;
    wait::settled("the journal", Duration::from_secs(2), BOUND, async || journalled(agent).await).await;
    broker.settle().await;
    broker.kill();
    replaying.resume();
    broker.restart().await;
}

async fn with_mosquitto(folder: &Path) -> (Mosquitto, Agent) {
    let broker = Mosquitto::start(folder).await;
    let site = site("demo/press/site", folder);
    let agent = Agent::new(folder, &Setup { broker: Some(broker.port), ..Setup::new("press", &site) });
    (broker, agent)
}

async fn journalled(agent: &Agent) -> u64 {
    accounts(agent).await.journalled
}

async fn replay(agent: &Agent, recording: &Recording) {
    let file = recording.path.display().to_string();
    agent.cli(&["replay", &file, "--topic", TOPIC, "--speed", "max"]).await.ok();
}

/// Some 1,500 readings a second, so that the kills fall on the way.
fn replay_command(agent: &Agent, recording: &Recording) -> std::process::Command {
    let file = recording.path.display().to_string();
    agent.command(&["replay", &file, "--topic", TOPIC, "--speed", "450000x"])
}

/// When the findings were that the plant was told of.
fn found_at(alarms: &Client) -> Vec<shared::time::Timestamp> {
    let mut found: Vec<_> = alarms
        .received()
        .iter()
        .map(|(_, payload)| {
            let alarm: serde_json::Value = serde_json::from_slice(payload).expect("an alarm is JSON");
            alarm["at"].as_str().expect("an alarm says when").parse().expect("an instant")
        })
        .collect();
    found.sort();
    found
}
