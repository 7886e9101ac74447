//! A disk that fills up: acknowledgements stop, nothing acknowledged is lost, and it goes on when there is room; an agent that
//! is started on one waits.
//!
//! Told twice: here by a limit on the size of the agent's files, which every machine allows, and in `small_disk` by a file
//! system in memory, which needs the right to mount.

mod small_disk;

use std::{process::Command, time::Duration};

use tests::{
    agent::{Agent, Setup, site},
    mqtt::Client,
    wait,
};

use crate::outcome::accounts;

const BOUND: Duration = Duration::from_secs(90);
const BEFORE: u64 = 200;
/// As many as the client sends without an acknowledgement.
const IN_FLIGHT: u64 = 90;
/// File sizes that a limited agent may reach: in blocks of 512 bytes for the shell, in bytes for `prlimit`. Its logs fit; a
/// store does not.
const FEW_BLOCKS: u64 = 128;

#[tokio::test]
async fn an_agent_whose_files_may_not_grow_stops_acknowledging_and_goes_on_when_they_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site("tests/scenarios/sites/bench", folder.path());
    let mut agent = Agent::new(folder.path(), &Setup::new("small", &site));
    agent.spawn_under(&format!("trap '' XFSZ; ulimit -S -f {FEW_BLOCKS}"));
    waits_for_room(&mut agent).await;
    may_grow_to(&mut agent, "unlimited");
    agent.answers().await;
    let publisher = Client::connect("publisher", agent.mqtt).await;
    publish(&publisher, 0..BEFORE).await;
    journalled(&agent, BEFORE).await;

    may_grow_to(&mut agent, "4096");
    publish(&publisher, BEFORE..BEFORE + IN_FLIGHT).await;
    agent.running().says("no message is acknowledged", BOUND).await;
    health(&agent, 503, "until it can be kept").await;
    assert_eq!(publisher.acknowledged_now() as u64, BEFORE);
    assert_eq!(accounts(&agent).await.journalled, BEFORE);

    may_grow_to(&mut agent, "unlimited");
    publisher.acknowledged((BEFORE + IN_FLIGHT) as usize, BOUND).await;
    let end = accounts(&agent).await;
    assert_eq!((end.journalled, end.quarantined), (BEFORE + IN_FLIGHT, 0));
    health(&agent, 200, "healthy").await;
    agent.stop().await;
}

async fn waits_for_room(agent: &mut Agent) {
    agent.running().says("the agent waits until there is room", BOUND).await;
    health(agent, 503, "no room on the disk").await;
    assert!(agent.running().ended().is_none(), "it ended:\n{}", agent.running().log());
}

async fn health(agent: &Agent, status: u16, told: &str) {
    wait::until(&format!("/health to say {status} and {told:?}"), BOUND, async || {
        let answer = tests::net::http().get(agent.url("/health")).send().await.ok()?;
        (answer.status().as_u16() == status && answer.text().await.is_ok_and(|text| text.contains(told))).then_some(())
    })
    .await;
}

/// Changes how large the files of a running agent may grow, in bytes.
fn may_grow_to(agent: &mut Agent, limit: &str) {
    let pid = agent.running().pid().to_string();
    let changed = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).output();
    let changed = changed.expect("prlimit is there: every Debian has util-linux");
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
}

async fn publish(publisher: &Client, which: std::ops::Range<u64>) {
    for index in which {
        let payload = format!(r#"{{"at":{},"value":50}}"#, 1_700_000_000_000 + index * 1_000);
        publisher.publish(&format!("bench/machine-{}/load", index % 10), payload).await;
    }
}

async fn journalled(agent: &Agent, count: u64) {
    wait::until(&format!("{count} readings to be journalled"), BOUND, async || {
        (accounts(agent).await.journalled >= count).then_some(())
    })
    .await;
}
